"""Objects as rows: what `kubectl get` shows."""

import datetime
import re
from typing import Any

from tests.kubernetes.fake.errors import Object
from tests.kubernetes.fake.resources import Resource

_NAME: Object = {"name": "Name", "type": "string", "format": "name", "description": "", "priority": 0}


def _column(name: str, kind: str = "string", priority: int = 0) -> Object:
    return {"name": name, "type": kind, "format": "", "description": "", "priority": priority}


def columns(resource: Resource, custom: tuple[Object, ...]) -> list[Object]:
    """The column definitions of a kind."""
    if custom:
        own = [
            {**_column(one["name"], one.get("type", "string"), one.get("priority", 0)), "format": one.get("format", "")}
            for one in custom
        ]
        return [_NAME, *own]
    named = _STOCK.get(resource.full, ("Age",))
    return [_NAME, *(_column(name) for name in named)]


_STOCK: dict[str, tuple[str, ...]] = {
    "pods": ("Ready", "Status", "Restarts", "Age"),
    "configmaps": ("Data", "Age"),
    "secrets": ("Type", "Data", "Age"),
    "namespaces": ("Status", "Age"),
    "nodes": ("Status", "Age"),
    "leases.coordination.k8s.io": ("Holder", "Age"),
    "customresourcedefinitions.apiextensions.k8s.io": ("Created At",),
}


def rows(resource: Resource, custom: tuple[Object, ...], things: list[Object], whole: bool) -> list[Object]:
    """One row an object; ``whole`` with the object itself instead of its metadata."""
    found = []
    for thing in things:
        if whole:
            inner: Object = thing
        else:
            meta = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1"}
            inner = {**meta, "metadata": thing["metadata"]}
        found.append({"cells": _cells(resource, custom, thing), "object": inner})
    return found


def _cells(resource: Resource, custom: tuple[Object, ...], thing: Object) -> list[Any]:
    name = thing["metadata"]["name"]
    if custom:
        return [name, *(_custom_cell(column, thing) for column in custom)]
    age = _age(thing["metadata"].get("creationTimestamp"))
    if resource.full == "pods":
        states = thing.get("status", {}).get("containerStatuses") or []
        ready = f"{sum(bool(one.get('ready')) for one in states)}/{len(thing['spec']['containers'])}"
        return [name, ready, pod_state(thing), str(sum(one.get("restartCount", 0) for one in states)), age]
    if resource.full == "configmaps":
        return [name, len(thing.get("data") or {}) + len(thing.get("binaryData") or {}), age]
    if resource.full == "secrets":
        return [name, thing.get("type"), len(thing.get("data") or {}), age]
    if resource.full == "namespaces":
        return [name, thing["status"]["phase"], age]
    if resource.full == "nodes":
        good = {one["type"]: one["status"] for one in thing.get("status", {}).get("conditions") or []}.get("Ready")
        return [name, "Ready" if good == "True" else "NotReady", age]
    if resource.full == "leases.coordination.k8s.io":
        return [name, (thing.get("spec") or {}).get("holderIdentity") or "", age]
    if resource.kind == "CustomResourceDefinition":
        return [name, thing["metadata"]["creationTimestamp"]]
    return [name, age]


def pod_state(pod: Object) -> str:
    """As kubectl's STATUS column says it."""
    status = pod.get("status", {})
    state = status.get("reason") or status.get("phase", "Unknown")
    for part, prefix in (("initContainerStatuses", "Init:"), ("containerStatuses", "")):
        for one in status.get(part) or []:
            waiting, ended = one["state"].get("waiting"), one["state"].get("terminated")
            if ended and ended.get("exitCode") == 0 and prefix:
                continue
            if waiting and waiting.get("reason") not in {None, "PodInitializing"}:
                return f"{prefix}{waiting['reason']}"
            if ended:
                state = prefix + (ended.get("reason") or f"ExitCode:{ended['exitCode']}")
    if pod["metadata"].get("deletionTimestamp"):
        return "Unknown" if status.get("reason") == "NodeLost" else "Terminating"
    return str(state)


def _custom_cell(column: Object, thing: Object) -> Any:
    value = json_path(thing, column["jsonPath"])
    if value is None:
        return None
    if column.get("type") == "date":
        return _age(value)
    return value


_STEP = re.compile(
    r"\.(?P<name>(?:[^.\[\\]|\\.)+)|\[(?P<index>\d+|\*)\]|\[\?\(@\.(?P<key>[\w.]+)\s*==\s*['\"](?P<value>[^'\"]*)['\"]\)\]"
)


def json_path(thing: Any, path: str) -> Any:
    """The part of JSONPath that printer columns use; the first match, None without one."""
    found = [thing]
    for step in _STEP.finditer(path):
        new: list[Any] = []
        for one in found:
            if step["name"]:
                name = re.sub(r"\\(.)", r"\1", step["name"])
                new += [one[name]] if isinstance(one, dict) and name in one else []
            elif not isinstance(one, list):
                continue
            elif step["index"] == "*":
                new += one
            elif step["index"]:
                new += one[int(step["index"]) :][:1]
            else:
                new += [inner for inner in one if str(inner.get(step["key"])) == step["value"]]
        found = new
    if len(found) > 1 and "*" in path:
        return ",".join(str(one) for one in found)
    return found[0] if found else None


def _age(stamp: str | None) -> str:
    if not stamp:
        return "<unknown>"
    try:
        then = datetime.datetime.fromisoformat(stamp)
    except ValueError:
        return "<invalid>"
    seconds = max(0, int((datetime.datetime.now(datetime.UTC) - then).total_seconds()))
    if seconds < 120:
        return f"{seconds}s"
    minutes = seconds // 60
    if minutes < 10:
        return f"{minutes}m{seconds % 60}s" if seconds % 60 else f"{minutes}m"
    if minutes < 180:
        return f"{minutes}m"
    hours = minutes // 60
    return f"{hours}h" if hours < 48 else f"{hours // 24}d"
