"""Schemas of objects: those of the stock kinds as published, and the structural ones of CRDs."""

import copy
import functools
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tests.kubernetes.fake.errors import Cause, Object
from tests.kubernetes.fake.resources import Resource

RELEASE = "1.34"
_REF = "#/$defs/"
_META = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"


@functools.cache
def definitions() -> dict[str, Object]:
    """The published schemas of all stock kinds."""
    package = find_spec("kubernetes_validate")  # importing it takes a second, and only its data is wanted
    if package is None or package.origin is None:
        raise ModuleNotFoundError("kubernetes_validate")
    folder = Path(package.origin).parent / "kubernetes-json-schema" / f"v{RELEASE}.0-local"
    text = (folder / "_definitions.json").read_text()
    found: dict[str, Object] = json.loads(text)["$defs"]
    return found


@functools.cache
def _by_kind() -> dict[tuple[str, str, str], str]:
    return {
        (kind["group"], kind["version"], kind["kind"]): name
        for name, node in definitions().items()
        for kind in node.get("x-kubernetes-group-version-kind", [])
    }


@functools.cache
def stock(resource: Resource) -> "Schema":
    """The schema of a stock kind; an open one where none is published."""
    name = _by_kind().get((resource.group, resource.version, resource.kind))
    return Schema({"$ref": _REF + name}) if name else OPEN


@dataclass(frozen=True)
class Schema:
    """One node of a schema."""

    node: Object = field(hash=False)

    @functools.cached_property
    def _own(self) -> Object:
        node = self.node
        while "$ref" in node:
            outer = {key: value for key, value in node.items() if key != "$ref"}
            node = {**definitions()[node["$ref"].removeprefix(_REF)], **outer}
        return node

    @functools.cached_property
    def types(self) -> frozenset[str]:
        """Without "null"; empty: any."""
        said = self._own.get("type", [])
        return frozenset([said] if isinstance(said, str) else said) - {"null"}

    @property
    def open(self) -> bool:
        """Keeps fields that it does not know."""
        own = self._own
        if own.get("x-kubernetes-preserve-unknown-fields"):
            return True
        return "properties" not in own and not isinstance(own.get("additionalProperties"), dict)

    def child(self, name: str) -> "Schema":
        """Of a field or a map's value."""
        children = self._children
        if name not in children:
            own = self._own
            if name in own.get("properties", {}):
                children[name] = Schema(own["properties"][name])
            elif isinstance(own.get("additionalProperties"), dict):
                children[name] = Schema(own["additionalProperties"])
            else:
                return OPEN
        return children[name]

    def knows(self, name: str) -> bool:
        own = self._own
        return self.open or name in own.get("properties", {}) or bool(own.get("additionalProperties"))

    @functools.cached_property
    def _children(self) -> dict[str, "Schema"]:
        return {}

    @functools.cached_property
    def items(self) -> "Schema":
        """Of a list's elements."""
        return Schema(self._own["items"]) if "items" in self._own else OPEN

    @property
    def merge_key(self) -> str:
        """Of a strategic merge patch."""
        return str(self._own.get("x-kubernetes-patch-merge-key", ""))

    @property
    def merges(self) -> bool:
        """Whether a strategic merge patch merges the list."""
        return "merge" in str(self._own.get("x-kubernetes-patch-strategy", ""))

    @property
    def list_type(self) -> str:
        """`atomic`, `set` or `map`."""
        return str(self._own.get("x-kubernetes-list-type", "map" if self.merge_key else "atomic"))

    @property
    def list_keys(self) -> tuple[str, ...]:
        """That tell the elements of a list of type `map` apart."""
        return tuple(self._own.get("x-kubernetes-list-map-keys", [self.merge_key]))

    @property
    def atomic(self) -> bool:
        """A map that is owned as a whole."""
        return self._own.get("x-kubernetes-map-type") == "atomic"

    def key_of(self, element: Any) -> tuple[tuple[str, Any], ...]:
        """What tells an element of a list of type `map` apart, with defaults filled in."""
        return tuple((key, element.get(key, self.items.child(key).default)) for key in self.list_keys)

    @property
    def default(self) -> Any:
        return self._own.get("default")

    def nodes(self) -> Iterator[tuple[str, "Schema"]]:
        """The named children, for those who look at all of a schema."""
        for name in self._own.get("properties", {}):
            yield name, self.child(name)

    def pruned(self, value: Any, path: str = "") -> tuple[Any, list[str]]:
        """The value without unknown fields, and the paths of these."""
        if isinstance(value, list):
            parts = [self.items.pruned(one, f"{path}[{n}]") for n, one in enumerate(value)]
            return [kept for kept, _ in parts], [name for _, lost in parts for name in lost]
        if not isinstance(value, dict):
            return value, []
        kept: Object = {}
        lost: list[str] = []
        for name, inner in value.items():
            at = f"{path}.{name}" if path else name
            if not self.knows(name):
                lost.append(at)
                continue
            kept[name], more = self.child(name).pruned(inner, at)
            lost += more
        return kept, lost

    def defaulted(self, value: Any) -> Any:
        """The value with the schema's defaults where nothing is said."""
        if isinstance(value, list):
            return [self.items.defaulted(one) for one in value]
        if not isinstance(value, dict):
            return value
        result = dict(value)
        for name, child in self.nodes():
            if child.default is not None and result.get(name) is None:
                result[name] = copy.deepcopy(child.default)
        return {name: self.child(name).defaulted(inner) for name, inner in result.items()}

    def faults(self, value: Any, path: str = "") -> Iterator[Cause]:
        """What is wrong with the value; not its unknown fields."""
        if value is None:
            return
        own = self._own
        if own.get("x-kubernetes-int-or-string") or "oneOf" in own:
            if not isinstance(value, str | int | float) and "properties" not in own:
                yield _cause(path, value, "must be of type integer or string")
            return
        if self.types and not any(_is(value, kind) for kind in self.types):
            kind = "/".join(sorted(self.types))
            yield {"field": path, "message": f'Invalid value: "{_type(value)}": {_body(path, kind)}: "{_type(value)}"'}
            return
        yield from self._bounds(value, path)
        if isinstance(value, dict):
            for name in own.get("required", []):
                if name not in value:
                    yield {"field": f"{path}.{name}" if path else name, "message": "Required value"}
            for name, inner in value.items():
                yield from self.child(name).faults(inner, f"{path}.{name}" if path else name)
        elif isinstance(value, list):
            yield from self._duplicates(value, path)
            for n, inner in enumerate(value):
                yield from self.items.faults(inner, f"{path}[{n}]")

    def _duplicates(self, value: list[Any], path: str) -> Iterator[Cause]:
        if self.list_type not in {"map", "set"}:
            return
        seen: list[Any] = []
        for n, one in enumerate(value):
            key = self.key_of(one) if self.list_type == "map" and isinstance(one, dict) else one
            if key in seen:
                shown = json.dumps(dict(key) if isinstance(key, tuple) else key)
                yield {"field": f"{path}[{n}]", "message": f"Duplicate value: {shown}"}
            seen.append(key)

    def _bounds(self, value: Any, path: str) -> Iterator[Cause]:
        own = self._own
        if "enum" in own and value not in own["enum"]:
            choices = ", ".join(json.dumps(one) for one in own["enum"])
            yield {"field": path, "message": f"Unsupported value: {json.dumps(value)}: supported values: {choices}"}
        if isinstance(value, str):
            if "pattern" in own and not re.search(own["pattern"], value):
                yield _cause(path, value, f"should match '{own['pattern']}'")
            if len(value) > own.get("maxLength", len(value)):
                yield {"field": path, "message": f"Too long: may not be more than {own['maxLength']} bytes"}
            if len(value) < own.get("minLength", 0):
                yield _cause(path, value, f"should be at least {own['minLength']} chars long")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            if value > own.get("maximum", value):
                yield _cause(path, value, f"should be less than or equal to {own['maximum']}")
            if value < own.get("minimum", value):
                yield _cause(path, value, f"should be greater than or equal to {own['minimum']}")
        elif isinstance(value, list):
            if len(value) > own.get("maxItems", len(value)):
                yield {"field": path, "message": f"Too many: {len(value)}: must have at most {own['maxItems']} items"}
            if len(value) < own.get("minItems", 0):
                yield _cause(path, len(value), f"should have at least {own['minItems']} items")
        elif isinstance(value, dict) and len(value) > own.get("maxProperties", len(value)):
            yield {"field": path, "message": f"Too many: {len(value)}: must have at most {own['maxProperties']} items"}

    def rules(self, path: str = "") -> Iterator[tuple[str, Object]]:
        """The CEL rules (`x-kubernetes-validations`) of this node."""
        for rule in self._own.get("x-kubernetes-validations", []):
            yield path, rule


OPEN = Schema({})


def of_custom(validation: Object) -> Schema:
    """Of a CRD's version: what it says of spec and status, beside what every object has."""
    properties = {
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        **validation.get("properties", {}),
        "metadata": {"$ref": _REF + _META},
    }
    return Schema({**validation, "properties": properties})


def _is(value: Any, kind: str) -> bool:
    if kind == "integer":
        return isinstance(value, int) and not isinstance(value, bool)
    if kind == "number":
        return isinstance(value, int | float) and not isinstance(value, bool)
    known = {"string": str, "boolean": bool, "object": dict, "array": list}
    return isinstance(value, known[kind])


def _type(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    names: Sequence[tuple[type, str]] = (
        (str, "string"),
        (int, "integer"),
        (float, "number"),
        (dict, "object"),
        (list, "array"),
    )
    return next((name for kind, name in names if isinstance(value, kind)), "null")


def _body(path: str, kind: str) -> str:
    return f"{path} in body must be of type {kind}"


def _cause(path: str, value: Any, why: str) -> Cause:
    return {"field": path, "message": f"Invalid value: {json.dumps(value)}: {path} in body {why}"}
