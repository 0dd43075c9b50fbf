"""Label and field selectors."""

import re
from collections.abc import Callable
from typing import Any

from tests.kubernetes.fake.errors import Object, bad_request

Matches = Callable[[Object], bool]

_REQUIREMENT = re.compile(
    r"\s*(?:(?P<key>[\w./-]+)\s+(?P<set>in|notin)\s*\((?P<values>[^)]*)\)"
    r"|(?P<name>[\w./-]+)\s*(?P<op>==|=|!=)\s*(?P<value>[\w.-]*)"
    r"|(?P<absent>!?)\s*(?P<bare>[\w./-]+))\s*(?:,|$)"
)


def labels(text: str) -> Matches:
    """Of `a=b,c!=d,e in (f,g),h,!i`; raises ApiError 400 for what is none."""
    checks: list[Callable[[dict[str, str]], bool]] = []
    at = 0
    while at < len(text):
        found = _REQUIREMENT.match(text, at)
        if found is None:
            raise bad_request(f"unable to parse requirement: found {text[at:]!r}, expected: identifier")
        checks.append(_label_check(found.groupdict()))
        at = found.end()
    return lambda thing: all(check(thing["metadata"].get("labels") or {}) for check in checks)


def _label_check(part: dict[str, Any]) -> Callable[[dict[str, str]], bool]:
    if part["set"]:
        key, values = part["key"], {value.strip() for value in part["values"].split(",")}
        if part["set"] == "in":
            return lambda have: have.get(key) in values
        return lambda have: key not in have or have[key] not in values
    if part["op"]:
        name, value = part["name"], part["value"]
        if part["op"] == "!=":
            return lambda have: have.get(name) != value
        return lambda have: have.get(name) == value
    bare = part["bare"]
    if part["absent"]:
        return lambda have: bare not in have
    return lambda have: bare in have


_ALL = {"metadata.name", "metadata.namespace"}
_MORE = {
    "Pod": {
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "status.phase",
        "status.nominatedNodeName",
    },
    "Secret": {"type"},
    "Namespace": {"status.phase"},
    "Event": {
        "involvedObject.kind",
        "involvedObject.name",
        "involvedObject.namespace",
        "involvedObject.uid",
        "reason",
        "type",
    },
}


def fields(text: str, kind: str, selectable: tuple[str, ...] = ()) -> Matches:
    """Of `status.phase=Running,spec.nodeName!=a`; raises ApiError 400 for a field that the kind does not select by."""
    checks: list[tuple[list[str], bool, str]] = []
    for part in filter(None, text.split(",")):
        name, operator, value = re.split(r"(==|=|!=)", part, maxsplit=1) if "=" in part else (part, "", "")
        if not operator:
            raise bad_request(f"invalid field selector: {part!r}; can't understand {part!r}")
        if name not in _ALL | _MORE.get(kind, set()) | {one.lstrip(".") for one in selectable}:
            raise bad_request(f"field label not supported: {name}")
        checks.append((name.split("."), operator != "!=", value))

    def matches(thing: Object) -> bool:
        return all((_at(thing, path) == value) is wanted for path, wanted, value in checks)

    return matches


def _at(thing: Any, path: list[str]) -> str:
    for step in path:
        thing = (thing or {}).get(step)
    return "" if thing is None else str(thing)
