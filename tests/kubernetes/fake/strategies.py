"""What the server does to objects of certain kinds beside storing them: defaults, rules, what may not change."""

import base64
import re
from collections.abc import Iterator

from tests.kubernetes.fake.errors import Cause, Object
from tests.kubernetes.fake.resources import Resource

_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_DNS_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LABEL_VALUE = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?")
_MEBIBYTE = 1048576

_SUBDOMAIN = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)


class Strategy:
    """For kinds that need nothing special."""

    generation = True
    """Whether changes of the specification are counted."""

    def create(self, thing: Object) -> None:
        """Sets what the server sets; the object is the server's own copy."""

    def faults(self, thing: Object, before: Object | None) -> Iterator[Cause]:
        """What is wrong with it; ``before`` is what it replaces."""
        return iter(())


class ConfigMaps(Strategy):
    generation = False

    def faults(self, thing: Object, before: Object | None) -> Iterator[Cause]:
        yield from _size({**(thing.get("data") or {}), **(thing.get("binaryData") or {})})
        for name in [*(thing.get("data") or {}), *(thing.get("binaryData") or {})]:
            if not re.fullmatch(r"[-._a-zA-Z0-9]+", name):
                said = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'"
                yield {"field": f"data[{name}]", "message": f'Invalid value: "{name}": {said}'}
        yield from _immutable(thing, before)


class Secrets(Strategy):
    generation = False

    def create(self, thing: Object) -> None:
        thing.setdefault("type", "Opaque")

    def faults(self, thing: Object, before: Object | None) -> Iterator[Cause]:
        plain = thing.pop("stringData", None) or {}
        if plain:
            coded = {name: base64.b64encode(value.encode()).decode() for name, value in plain.items()}
            thing["data"] = {**(thing.get("data") or {}), **coded}
        yield from _size(thing.get("data") or {})
        yield from _immutable(thing, before)
        if before is not None and thing.get("type") != before.get("type"):
            yield {"field": "type", "message": f'Invalid value: "{thing.get("type")}": field is immutable'}


def _size(data: dict[str, str]) -> Iterator[Cause]:
    if sum(len(value.encode()) for value in data.values()) > _MEBIBYTE:
        yield {"field": "data", "message": f"Too long: may not be more than {_MEBIBYTE} bytes"}


def _immutable(thing: Object, before: Object | None) -> Iterator[Cause]:
    if before is not None and before.get("immutable"):
        for field in ("data", "binaryData", "immutable"):
            if thing.get(field) != before.get(field):
                yield {"field": field, "message": "Forbidden: field is immutable when `immutable` is set"}


class Namespaces(Strategy):
    generation = False

    def create(self, thing: Object) -> None:
        thing.setdefault("spec", {})["finalizers"] = ["kubernetes"]
        thing["status"] = {"phase": "Active"}
        name = thing["metadata"]["name"]
        thing["metadata"].setdefault("labels", {})["kubernetes.io/metadata.name"] = name


class Leases(Strategy):
    generation = False

    def faults(self, thing: Object, before: Object | None) -> Iterator[Cause]:
        seconds = (thing.get("spec") or {}).get("leaseDurationSeconds")
        if seconds is not None and seconds <= 0:
            field = "spec.leaseDurationSeconds"
            yield {"field": field, "message": f"Invalid value: {seconds}: must be greater than 0"}
        moves = (thing.get("spec") or {}).get("leaseTransitions")
        if moves is not None and moves < 0:
            field = "spec.leaseTransitions"
            yield {"field": field, "message": f"Invalid value: {moves}: must be greater than or equal to 0"}


class Plain(Strategy):
    """Objects without a specification of their own."""

    generation = False


def metadata_faults(resource: Resource, thing: Object) -> Iterator[Cause]:
    """Of name, labels and owners."""
    meta = thing["metadata"]
    name = meta.get("name", "")
    label_only = resource.plural in {"namespaces", "services"} and not resource.group
    lenient = resource.group == "rbac.authorization.k8s.io"
    if label_only and not (_DNS_LABEL.fullmatch(name) and len(name) <= 63):
        said = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-'"
        yield {"field": "metadata.name", "message": f'Invalid value: "{name}": {said}'}
    elif not lenient and not _DNS_NAME.fullmatch(name):
        yield {"field": "metadata.name", "message": f'Invalid value: "{name}": {_SUBDOMAIN}'}
    elif len(name) > 253:
        yield {"field": "metadata.name", "message": f'Invalid value: "{name}": must be no more than 253 bytes'}
    for key, value in (meta.get("labels") or {}).items():
        if not _LABEL_VALUE.fullmatch(value):
            said = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.'"
            yield {"field": "metadata.labels", "message": f'Invalid value: "{value}": {said}'}
        elif len(value) > 63:
            said = "must be no more than 63 bytes"
            yield {"field": "metadata.labels", "message": f'Invalid value: "{value}": {said}'}
        bare = key.rpartition("/")[2]
        if not bare or len(bare) > 63 or not _LABEL_VALUE.fullmatch(bare):
            yield {"field": "metadata.labels", "message": f'Invalid value: "{key}": name part must be a valid label'}
    for n, owner in enumerate(meta.get("ownerReferences") or []):
        for field in ("apiVersion", "kind", "name", "uid"):
            if not owner.get(field):
                where = f"metadata.ownerReferences[{n}].{field}"
                yield {"field": where, "message": 'Invalid value: "": must not be empty'}
