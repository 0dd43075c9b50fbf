"""Who owns which field (`metadata.managedFields`), and server-side apply, which goes by that."""

import copy
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tests.kubernetes.fake.errors import ApiError, Object
from tests.kubernetes.fake.schema import Schema

Path = tuple[str, ...]
"""Steps as `fieldsV1` writes them: `f:spec`, `k:{"name":"a"}`, `v:"a"`."""

_NOBODYS = frozenset(
    ("f:metadata", f"f:{name}")
    for name in (
        "name",
        "namespace",
        "generateName",
        "uid",
        "resourceVersion",
        "generation",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "managedFields",
        "selfLink",
    )
)
_ITEM = object()


@dataclass(frozen=True)
class Manager:
    """Who changes fields, and how."""

    name: str
    operation: str
    """`Apply` or `Update`."""
    api_version: str
    subresource: str = ""


def leaves(thing: Object, schema: Schema) -> dict[Path, Any]:
    """What can be owned of an object, with its value."""
    return {
        path: value
        for path, value in _leaves(thing, schema, ())
        if path[:2] not in _NOBODYS and path[0] not in {"f:apiVersion", "f:kind"}
    }


def _leaves(value: Any, schema: Schema, path: Path) -> Iterator[tuple[Path, Any]]:
    if isinstance(value, dict) and value and not schema.atomic:
        for name, inner in value.items():
            yield from _leaves(inner, schema.child(name), (*path, f"f:{name}"))
    elif isinstance(value, list) and schema.list_type == "map":
        for one in value:
            step = (*path, "k:" + _text(dict(schema.key_of(one))))
            yield step, _ITEM
            yield from _leaves(one, schema.items, step)
    elif isinstance(value, list) and schema.list_type == "set":
        for one in value:
            yield (*path, "v:" + _text(one)), one
    elif path:
        yield path, value


def _text(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), sort_keys=True)


def encoded(paths: Iterable[Path]) -> Object:
    """As `fieldsV1`."""
    root: Object = {}
    for path in sorted(paths):
        node = root
        for step in path:
            node = node.setdefault(step, {})
        if path[-1].startswith("k:"):
            node["."] = {}
    return root


def decoded(tree: Mapping[str, Any], path: Path = ()) -> set[Path]:
    found = set()
    for step, inner in tree.items():
        if step == ".":
            found.add(path)
        elif inner:
            found |= decoded(inner, (*path, step))
        else:
            found.add((*path, step))
    return found


class Ledger:
    """The managers of one object."""

    def __init__(self, thing: Object) -> None:
        self._fields: dict[Manager, set[Path]] = {}
        self._times: dict[Manager, str] = {}
        for entry in thing.get("metadata", {}).get("managedFields") or []:
            who = Manager(entry["manager"], entry["operation"], entry["apiVersion"], entry.get("subresource", ""))
            self._fields[who] = decoded(entry.get("fieldsV1") or {})
            self._times[who] = entry.get("time", "")

    def entries(self) -> list[Object]:
        found = []
        for who, fields in self._fields.items():
            if not fields:
                continue
            entry = {
                "manager": who.name,
                "operation": who.operation,
                "apiVersion": who.api_version,
                "time": self._times[who],
                "fieldsType": "FieldsV1",
                "fieldsV1": encoded(fields),
            }
            found.append({**entry, "subresource": who.subresource} if who.subresource else entry)
        return found

    def updated(self, who: Manager, before: Object, after: Object, schema: Schema, now: str) -> None:
        """Whoever changes a field owns it from then on, alone."""
        old, new = leaves(before, schema), leaves(after, schema)
        changed = {path for path, value in new.items() if path not in old or old[path] != value}
        lost = changed | (old.keys() - new.keys())
        if not lost:
            return
        for other in self._fields:
            if other != who:
                self._fields[other] -= lost
        self._fields[who] = (self._fields.get(who, set()) | changed) - (old.keys() - new.keys())
        self._times[who] = now

    def applied(self, who: Manager, live: Object, config: Object, schema: Schema, *, force: bool, now: str) -> Object:
        """The object with a configuration applied; raises ApiError 409 where others own what it would change."""
        wanted, present = leaves(config, schema), leaves(live, schema)
        others = {other: fields for other, fields in self._fields.items() if other != who}
        conflicts = [
            (other, path)
            for other, fields in others.items()
            for path in sorted(fields & wanted.keys())
            if wanted[path] is not _ITEM and present.get(path) != wanted[path]
        ]
        if conflicts and not force:
            raise _conflict(conflicts)
        for other, path in conflicts:
            self._fields[other].discard(path)
        kept = set(wanted).union(*others.values())
        dropped = self._fields.get(who, set()) - kept
        result: Object = _merged(live, config, schema)
        for path in sorted(dropped, key=len, reverse=True):
            _drop(result, path, schema, kept)
        if self._fields.get(who) != set(wanted):
            self._times[who] = now
        self._times.setdefault(who, now)
        self._fields[who] = set(wanted)
        return result


def _conflict(conflicts: list[tuple[Manager, Path]]) -> ApiError:
    causes = []
    for other, path in conflicts:
        using = f" using {other.api_version}"
        said = f'conflict with "{other.name}"'
        if other.subresource:
            said += f' with subresource "{other.subresource}"'
        if other.operation == "Update":
            said += using
        causes.append({"reason": "FieldManagerConflict", "message": said, "field": _shown(path)})
    count = len(causes)
    if count == 1:
        told = f"{causes[0]['message']}: {causes[0]['field']}"
    else:
        told = (
            "conflicts "
            + "\n".join(f"{cause['message']}:\n- {cause['field']}" for cause in causes)
            .removeprefix("conflict")
            .lstrip()
        )
    message = f"Apply failed with {count} conflict{'s' if count > 1 else ''}: {told}"
    return ApiError(409, "Conflict", message, details={"causes": causes})


def _shown(path: Path) -> str:
    said = ""
    for step in path:
        kind, _, rest = step.partition(":")
        if kind == "f":
            said += f".{rest}"
        else:
            told = json.loads(rest)
            inside = ",".join(f"{key}={_text(value)}" for key, value in told.items()) if kind == "k" else f"={rest}"
            said += f"[{inside}]"
    return said


def _merged(live: Any, config: Any, schema: Schema) -> Any:
    if isinstance(config, dict) and isinstance(live, dict) and not schema.atomic:
        result = dict(live)
        for name, value in config.items():
            result[name] = _merged(live.get(name), value, schema.child(name))
        return result
    if isinstance(config, list) and isinstance(live, list) and schema.list_type == "map":
        own = {schema.key_of(one): one for one in config}
        merged = [_merged(one, own.pop(schema.key_of(one), {}), schema.items) for one in live]
        return merged + copy.deepcopy(list(own.values()))
    if isinstance(config, list) and isinstance(live, list) and schema.list_type == "set":
        return live + [one for one in config if one not in live]
    return copy.deepcopy(config)


def _drop(thing: Any, path: Path, schema: Schema, kept: set[Path], done: Path = ()) -> bool:
    """Removes what a path leads to; True when nothing is left that anybody owns."""
    step, rest = path[0], path[1:]
    kind, _, name = step.partition(":")
    here = (*done, step)
    if any(one[: len(here)] == here for one in kept) and not rest:
        return False
    if isinstance(thing, dict) and kind == "f" and name in thing:
        if not rest or _drop(thing[name], rest, schema.child(name), kept, here):
            del thing[name]
            return not thing and done not in kept and len(done) > 1
    elif isinstance(thing, list):
        wanted = json.loads(name)
        for one in thing:
            same = dict(schema.key_of(one)) == wanted if kind == "k" else one == wanted
            if same:
                if not rest:
                    thing.remove(one)
                else:
                    _drop(one, rest, schema.items, kept, here)
                break
        return not thing and done not in kept
    return False
