"""CustomResourceDefinitions, and the resources that they add."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.kubernetes.fake.errors import Cause, Object
from tests.kubernetes.fake.resources import Resource
from tests.kubernetes.fake.rules import broken, compiled_fault
from tests.kubernetes.fake.schema import OPEN, Schema, of_custom
from tests.kubernetes.fake.strategies import Strategy


@dataclass(frozen=True)
class Custom:
    """One served version of a CRD."""

    resource: Resource
    schema: Schema
    columns: tuple[Object, ...]
    selectable: tuple[str, ...]
    list_kind: str


def installed(crd: Object) -> Iterator[Custom]:
    """What a CRD serves."""
    spec = crd["spec"]
    names = spec["names"]
    for version in spec["versions"]:
        if not version.get("served"):
            continue
        resource = Resource(
            spec["group"],
            version["name"],
            names["plural"],
            names["kind"],
            spec["scope"] == "Namespaced",
            tuple(names.get("shortNames") or ()),
            "status" in (version.get("subresources") or {}),
            tuple(names.get("categories") or ()),
            custom=True,
            singular=names.get("singular", names["kind"].lower()),
        )
        validation = (version.get("schema") or {}).get("openAPIV3Schema")
        yield Custom(
            resource,
            of_custom(validation) if validation else OPEN,
            tuple(version.get("additionalPrinterColumns") or ()),
            tuple(field["jsonPath"] for field in version.get("selectableFields") or ()),
            names.get("listKind", f"{names['kind']}List"),
        )


class Definitions(Strategy):
    """The rules for CRDs themselves."""

    def __init__(self, now: Any) -> None:
        self._now = now

    def create(self, thing: Object) -> None:
        names = thing["spec"].get("names", {})
        names.setdefault("singular", str(names.get("kind", "")).lower())
        names.setdefault("listKind", f"{names.get('kind', '')}List")
        thing["spec"].setdefault("conversion", {"strategy": "None"})
        conditions = [
            ("NamesAccepted", "NoConflicts", "no conflicts found"),
            ("Established", "InitialNamesAccepted", "the initial names have been accepted"),
        ]
        thing["status"] = {
            "acceptedNames": names,
            "storedVersions": [one["name"] for one in thing["spec"].get("versions", []) if one.get("storage")],
            "conditions": [
                {"type": kind, "status": "True", "reason": why, "message": said, "lastTransitionTime": self._now()}
                for kind, why, said in conditions
            ],
        }

    def faults(self, thing: Object, before: Object | None) -> Iterator[Cause]:
        spec = thing["spec"]
        expected = f"{spec['names']['plural']}.{spec['group']}"
        if thing["metadata"]["name"] != expected:
            said = 'must be spec.names.plural+"."+spec.group'
            yield {"field": "metadata.name", "message": f'Invalid value: "{thing["metadata"]["name"]}": {said}'}
        if sum(bool(version.get("storage")) for version in spec["versions"]) != 1:
            said = "Invalid value: must have exactly one version marked as storage version"
            yield {"field": "spec.versions", "message": said}
        for n, version in enumerate(spec["versions"]):
            where = f"spec.versions[{n}].schema.openAPIV3Schema"
            schema = (version.get("schema") or {}).get("openAPIV3Schema")
            if schema is None:
                yield {"field": where, "message": "Required value: schemas are required"}
            else:
                yield from _structural(schema, where, root=True)


def _structural(node: Object, where: str, *, root: bool = False) -> Iterator[Cause]:
    """The rules of structural schemas: each node has a type, and nothing of what leaves the shape open."""
    if not node.get("type") and not (
        node.get("x-kubernetes-int-or-string") or node.get("x-kubernetes-preserve-unknown-fields")
    ):
        kind = "at the root" if root else "for specified object fields"
        yield {"field": f"{where}.type", "message": f"Required value: must not be empty {kind}"}
    for name in ("$ref", "definitions", "patternProperties", "dependencies", "id"):
        if name in node:
            yield {"field": f"{where}.{name}", "message": f"Forbidden: {name} is not supported"}
    if node.get("additionalProperties") and node.get("properties"):
        said = "Forbidden: additionalProperties and properties are mutual exclusive"
        yield {"field": f"{where}.additionalProperties", "message": said}
    if node.get("uniqueItems"):
        said = "Forbidden: uniqueItems cannot be set to true since the runtime complexity becomes quadratic"
        yield {"field": f"{where}.uniqueItems", "message": said}
    if node.get("type") == "array" and "items" not in node:
        yield {"field": f"{where}.items", "message": "Required value: must be specified"}
    if node.get("x-kubernetes-list-type") == "map" and not node.get("x-kubernetes-list-map-keys"):
        said = "Required value: must not be empty if x-kubernetes-list-type is map"
        yield {"field": f"{where}.x-kubernetes-list-map-keys", "message": said}
    for n, rule in enumerate(node.get("x-kubernetes-validations") or []):
        fault = compiled_fault(rule.get("rule", ""))
        if fault:
            field = f"{where}.x-kubernetes-validations[{n}].rule"
            yield {"field": field, "message": f"Invalid value: {rule.get('rule')!r}: compilation failed: {fault}"}
    for name, inner in (node.get("properties") or {}).items():
        if root and name == "metadata":
            continue
        yield from _structural(inner, f"{where}.properties[{name}]")
    if isinstance(node.get("items"), dict):
        yield from _structural(node["items"], f"{where}.items")
    if isinstance(node.get("additionalProperties"), dict):
        yield from _structural(node["additionalProperties"], f"{where}.additionalProperties")


class Customs(Strategy):
    """The rules for the objects of a CRD."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema

    def faults(self, thing: Object, before: Object | None) -> Iterator[Cause]:
        causes = list(self._schema.faults(thing))
        yield from causes
        if not causes:
            yield from broken(self._schema, thing, before)
