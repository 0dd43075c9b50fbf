"""The controllers that delete: dependents of owners that are gone, the content of namespaces and of CRDs."""

import threading
from typing import Any

from tests.kubernetes.fake.api import CRD_CLEANUP, FOREGROUND, ORPHAN, Api
from tests.kubernetes.fake.errors import ApiError, Object
from tests.kubernetes.fake.resources import CRDS, NAMESPACES
from tests.kubernetes.fake.storage import Change

_PAUSE_S = 0.01
"""What comes within this is looked at together."""


class GarbageCollector:
    """Looks at each change, on a thread of its own, as the controller manager does: a moment later."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._storage = api.storage
        self._seen = api.storage.revision
        self._ended = threading.Event()
        self.paused = False
        """Tests may have nothing collected meanwhile."""
        self._thread = threading.Thread(target=self._work, name="fake garbage collector", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._ended.set()
        with self._storage.changed:
            self._storage.changed.notify_all()
        self._thread.join(10)

    def _work(self) -> None:
        while not self._ended.is_set():
            with self._storage.changed:
                if self._storage.revision == self._seen or self.paused:
                    self._storage.changed.wait(1)
            if not self.paused:
                self._ended.wait(_PAUSE_S)
                self.look()

    def look(self) -> None:
        """At what has changed since the last look."""
        with self._storage.changed:
            if self._storage.revision == self._seen:
                return
            try:
                changes = self._storage.since(self._seen, _concerns)
                owned = [change.thing for change in changes if change.kind != "DELETED"]
                lost = any(change.kind == "DELETED" for change in changes)
            except ApiError:  # too many at once: look at everything
                owned, lost = [], True
            self._seen = self._storage.revision
            if lost:
                owned = [thing for _, _, thing in self._storage.everything()]
            for thing in owned:
                self._check_owners(thing)
            if changes_deletions := [thing for _, _, thing in self._storage.everything() if _ending(thing)]:
                for thing in changes_deletions:
                    self._go_on(thing)

    def _current(self, thing: Object) -> tuple[Any, Object | None]:
        served = self._api.of_kind(thing["apiVersion"], thing["kind"])
        if served is None:
            return None, None
        meta = thing["metadata"]
        found = self._storage.get(served.resource.key, (meta.get("namespace", ""), meta["name"]))
        return served, found if found and found["metadata"]["uid"] == meta["uid"] else None

    def _check_owners(self, thing: Object) -> None:
        references = thing["metadata"].get("ownerReferences") or []
        if not references or thing["metadata"].get("deletionTimestamp"):
            return
        served, now = self._current(thing)
        if now is None:
            return
        if not any(self._lives(reference, thing["metadata"].get("namespace", "")) for reference in references):
            self._api.end(served, now, {})

    def _lives(self, reference: Object, namespace: str) -> bool:
        served = self._api.of_kind(reference["apiVersion"], reference["kind"])
        if served is None:
            return False
        place = namespace if served.resource.namespaced else ""
        owner = self._storage.get(served.resource.key, (place, reference["name"]))
        return owner is not None and owner["metadata"]["uid"] == reference["uid"]

    def _dependents(self, uid: str) -> list[Object]:
        return [
            thing
            for _, _, thing in self._storage.everything()
            if any(one["uid"] == uid for one in thing["metadata"].get("ownerReferences") or [])
        ]

    def _go_on(self, thing: Object) -> None:
        """With the next step of something's deletion."""
        served, now = self._current(thing)
        if now is None:
            return
        finalizers, uid = now["metadata"].get("finalizers") or [], now["metadata"]["uid"]
        if ORPHAN in finalizers:
            for one in self._dependents(uid):
                kept = [ref for ref in one["metadata"]["ownerReferences"] if ref["uid"] != uid]
                self._rewrite(one, {"ownerReferences": kept})
            self._api.without_finalizer(served, now, ORPHAN)
        elif FOREGROUND in finalizers:
            blocking = [
                one
                for one in self._dependents(uid)
                if any(
                    ref["uid"] == uid and ref.get("blockOwnerDeletion") for ref in one["metadata"]["ownerReferences"]
                )
            ]
            for one in self._dependents(uid):
                if not one["metadata"].get("deletionTimestamp"):
                    other, present = self._current(one)
                    self._api.end(other, present or one, {"propagationPolicy": "Foreground"})
            if not blocking:
                self._api.without_finalizer(served, now, FOREGROUND)
        elif served.resource.key == NAMESPACES.key:
            self._empty(now["metadata"]["name"])
        elif served.resource.key == CRDS.key and CRD_CLEANUP in finalizers:
            self._uninstall(served, now)

    def _rewrite(self, thing: Object, meta: Object) -> None:
        served, now = self._current(thing)
        if now is not None:
            name = (now["metadata"].get("namespace", ""), now["metadata"]["name"])
            self._storage.put(served.resource.key, name, {**now, "metadata": {**now["metadata"], **meta}})

    def _empty(self, namespace: str) -> None:
        left = [thing for _, name, thing in self._storage.everything() if name[0] == namespace]
        for thing in left:
            served, now = self._current(thing)
            if now is not None and not now["metadata"].get("deletionTimestamp"):
                self._api.end(served, now, {})
        if not any(name[0] == namespace for _, name, _ in self._storage.everything()):
            self._api.namespace_emptied(namespace)

    def _uninstall(self, served: Any, crd: Object) -> None:
        key = (crd["spec"]["group"], crd["spec"]["names"]["plural"])
        for thing in self._storage.all_of(key):
            other, now = self._current(thing)
            if now is not None and not now["metadata"].get("deletionTimestamp"):
                self._api.end(other, now, {})
        if not self._storage.all_of(key):
            self._api.without_finalizer(served, crd, CRD_CLEANUP)


def _concerns(change: Change) -> bool:
    if change.kind == "DELETED":
        return True
    return bool(change.thing["metadata"].get("ownerReferences"))


def _ending(thing: Object) -> bool:
    return "deletionTimestamp" in thing["metadata"]
