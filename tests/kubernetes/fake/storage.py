"""Objects by resource, one revision that counts all changes, and the history that watches read."""

import json
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from tests.kubernetes.fake.errors import Object, gone

Key = tuple[str, str]
"""A resource: its group and plural."""
Name = tuple[str, str]
"""An object of a resource: its namespace ("" without one) and name."""


@dataclass(frozen=True)
class Change:
    """One entry of the history; objects in it are never changed."""

    revision: int
    kind: str
    """ADDED, MODIFIED or DELETED."""
    resource: Key
    name: Name
    thing: Object
    before: Object | None


class Storage:
    """Everything that is stored; `changed` is its lock and tells of each change."""

    def __init__(self, history: int) -> None:
        self.changed = threading.Condition(threading.RLock())
        self.revision = 1000
        self._things: dict[Key, dict[Name, Object]] = {}
        self._history: deque[Change] = deque(maxlen=history)
        self._compacted = self._lost = self.revision
        """What new watches cannot start from any more, and what has fallen out of the history."""

    def get(self, resource: Key, name: Name) -> Object | None:
        with self.changed:
            return self._things.get(resource, {}).get(name)

    def all_of(self, resource: Key, namespace: str = "") -> list[Object]:
        """By namespace and name, as etcd keeps them."""
        with self.changed:
            found = self._things.get(resource, {})
            return [found[name] for name in sorted(found) if not namespace or name[0] == namespace]

    def everything(self) -> Iterator[tuple[Key, Name, Object]]:
        with self.changed:
            return iter([(key, name, thing) for key, some in self._things.items() for name, thing in some.items()])

    def put(self, resource: Key, name: Name, thing: Object) -> Object:
        """Stores it under a new resource version; the caller hands it over."""
        with self.changed:
            some = self._things.setdefault(resource, {})
            before = some.get(name)
            self.revision += 1
            thing["metadata"]["resourceVersion"] = str(self.revision)
            some[name] = thing
            self._note(Change(self.revision, "MODIFIED" if before else "ADDED", resource, name, thing, before))
            return thing

    def remove(self, resource: Key, name: Name) -> Object:
        """Removes it; the answer bears the revision of its end."""
        with self.changed:
            before = self._things[resource].pop(name)
            self.revision += 1
            last = {**before, "metadata": {**before["metadata"], "resourceVersion": str(self.revision)}}
            self._note(Change(self.revision, "DELETED", resource, name, last, before))
            return last

    def _note(self, change: Change) -> None:
        if len(self._history) == self._history.maxlen:
            self._lost = self._history[0].revision
        self._history.append(change)
        self.changed.notify_all()

    def compact(self) -> None:
        """Has what was read before be too old to start a watch from, as each five minutes; watches go on."""
        with self.changed:
            self.revision += 1
            self._compacted = self.revision

    def since(self, revision: int, wanted: Callable[[Change], bool], *, start: bool = False) -> list[Change]:
        """The changes after a revision; raises ApiError 410 when not all are known any more."""
        with self.changed:
            oldest = max(self._lost, self._compacted) if start else self._lost
            if revision < oldest:
                raise gone(f"too old resource version: {revision} ({oldest})")
            newer: list[Change] = []
            for change in reversed(self._history):
                if change.revision <= revision:
                    break
                newer.append(change)
            return [change for change in reversed(newer) if wanted(change)]


def text(thing: Any) -> bytes:
    return json.dumps(thing, separators=(",", ":")).encode()
