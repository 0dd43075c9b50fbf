"""Watches and lists: what a client gets to see of the changes, as JSON or as tables."""

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator

from tests.kubernetes.fake import tables
from tests.kubernetes.fake.api import Api, Served
from tests.kubernetes.fake.errors import ApiError, Object, bad_request, gone
from tests.kubernetes.fake.request import Request
from tests.kubernetes.fake.storage import Change, text

_LOOK_S = 0.5
"""How often a silent watch sees whether its client is still there."""
_PAGES = 100
_TOO_OLD = (
    "The provided continue parameter is too old to display a consistent list result. You can start a new list without "
    "the continue parameter, or use the continue token in this response to retrieve the remainder of the results."
)


class Views:
    """Lists and watches of one server."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self.bookmark_every_s = 5.0
        self._pages: OrderedDict[str, tuple[int, list[Object]]] = OrderedDict()

    def forget_pages(self) -> None:
        """Has every list that was begun be too old to continue."""
        self._pages.clear()

    def listed(self, served: Served, request: Request) -> Object:
        query = request.query
        with self._api.storage.changed:
            revision = self._api.storage.revision
            asked = query.get("resourceVersion", "")
            if asked and not asked.isdigit():
                raise bad_request(f"invalid resource version {asked!r}")
            if int(asked or 0) > revision:
                message = f"Too large resource version: {asked}, current: {revision}"
                raise ApiError(504, "Timeout", message, retry_after_s=1)
            token = query.get("continue")
            if token:
                if token not in self._pages:
                    raise gone(_TOO_OLD)
                revision, items = self._pages[token]
            else:
                items = self._api.selected(served, request)
            limit = int(query.get("limit") or 0)
            meta: Object = {"resourceVersion": str(revision)}
            if limit and len(items) > limit:
                meta["continue"] = secrets.token_urlsafe(16)
                if not query.get("labelSelector") and not query.get("fieldSelector"):
                    meta["remainingItemCount"] = len(items) - limit
                self._pages[meta["continue"]] = (revision, items[limit:])
                while len(self._pages) > _PAGES:
                    self._pages.popitem(last=False)
                items = items[:limit]
        if wants_table(request):
            return {**self.table(served, request, items), "metadata": meta}
        kind = served.list_kind or f"{served.resource.kind}List"
        return {"kind": kind, "apiVersion": served.resource.api_version, "metadata": meta, "items": items}

    def table(self, served: Served, request: Request, things: list[Object], *, head: bool = True) -> Object:
        whole = request.query.get("includeObject") == "Object"
        found: Object = {
            "kind": "Table",
            "apiVersion": "meta.k8s.io/v1",
            "metadata": {},
            "columnDefinitions": tables.columns(served.resource, served.columns) if head else [],
            "rows": tables.rows(served.resource, served.columns, things, whole),
        }
        if len(things) == 1:
            found["metadata"] = {"resourceVersion": things[0]["metadata"]["resourceVersion"]}
        return found

    def watch(self, served: Served, request: Request) -> Iterator[bytes]:
        """Lines of events; empty ones when there is none, so that whoever sends them can see whether to go on."""
        query, storage = request.query, self._api.storage
        wanted = self._api.wanted(served, request)
        key, namespace = served.resource.key, request.namespace
        asked = query.get("resourceVersion", "")
        if asked and not asked.isdigit():
            raise bad_request(f"invalid resource version {asked!r}")
        initial = query.get("sendInitialEvents") == "true"
        ends = time.monotonic() + float(query.get("timeoutSeconds") or 1800)
        bookmarks = query.get("allowWatchBookmarks") == "true"

        def concerns(change: Change) -> bool:
            if change.resource != key or (namespace and change.name[0] != namespace):
                return False
            return wanted(change.thing) or bool(change.before and wanted(change.before))

        def events() -> Iterator[bytes]:
            begin: list[Object] = []
            with storage.changed:
                at = int(asked or 0)
                if at == 0 or initial:
                    at = storage.revision
                    begin = self._api.selected(served, request)
            head = True
            for thing in begin:
                yield self._event(served, request, "ADDED", thing, head)
                head = False
            if initial:
                yield self._bookmark(served, at, {"annotations": {"k8s.io/initial-events-end": "true"}})
            start, next_bookmark = not begin and at == int(asked or 0), time.monotonic() + self.bookmark_every_s
            while True:
                with storage.changed:
                    try:
                        changes = storage.since(at, concerns, start=start)
                    except ApiError as error:
                        yield text({"type": "ERROR", "object": error.status()}) + b"\n"
                        return
                    start, at = False, max(at, storage.revision)
                    if not changes:
                        left = min(ends, next_bookmark) - time.monotonic()
                        storage.changed.wait(max(0.0, min(left, _LOOK_S)))
                yield b""
                for change in changes:
                    yield self._changed(served, request, change, wanted(change.thing), wanted, head)
                    head = False
                now = time.monotonic()
                if bookmarks and (now >= next_bookmark or now >= ends):
                    next_bookmark = now + self.bookmark_every_s
                    yield self._bookmark(served, at, {})
                if now >= ends:
                    return

        return events()

    def _changed(
        self, served: Served, request: Request, change: Change, fits: bool, wanted: Callable[[Object], bool], head: bool
    ) -> bytes:
        before = bool(change.before and wanted(change.before))
        kind, thing = change.kind, change.thing
        if kind == "MODIFIED" and not fits:  # it left what is selected
            kind = "DELETED"
            revision = change.thing["metadata"]["resourceVersion"]
            assert change.before is not None
            thing = {**change.before, "metadata": {**change.before["metadata"], "resourceVersion": revision}}
        elif kind == "MODIFIED" and not before:
            kind = "ADDED"
        return self._event(served, request, kind, thing, head)

    def _event(self, served: Served, request: Request, kind: str, thing: Object, head: bool) -> bytes:
        thing = {**thing, "apiVersion": served.resource.api_version}
        shown = self.table(served, request, [thing], head=head) if wants_table(request) else thing
        return text({"type": kind, "object": shown}) + b"\n"

    def _bookmark(self, served: Served, revision: int, more: Object) -> bytes:
        resource = served.resource
        meta = {"resourceVersion": str(revision), "creationTimestamp": None, **more}
        thing = {"kind": resource.kind, "apiVersion": resource.api_version, "metadata": meta}
        return text({"type": "BOOKMARK", "object": thing}) + b"\n"


def wants_table(request: Request) -> bool:
    return "as=Table" in request.accept
