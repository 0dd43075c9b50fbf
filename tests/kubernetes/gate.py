"""A door before a real API server, at which tests can hurt it as they hurt the fake: it is slow, refuses, is away."""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import urllib3

from tests.kubernetes.fake.errors import ApiError, Object, gone
from tests.kubernetes.fake.faults import Faults
from tests.kubernetes.fake.server import Door
from tests.kubernetes.json_api import AWAY, JsonApi

_OBJECTS = re.compile(
    r"/(?:api|apis/[^/]+)/[^/]+(?:/namespaces/[^/]+(?=/))?/(?P<plural>[^/]+)(?:/(?P<name>[^/]+)(?:/(?P<sub>[^/]+))?)?/?$"
)
_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch"}
_REVIEWS = "selfsubjectaccessreviews"


class Gate:
    """Passes on what comes to a port of 127.0.0.1, as whom the kubeconfig names; nothing of it outlives `close`."""

    def __init__(self, kubeconfig: Path) -> None:
        self.faults = Faults()
        self.oldest = 0
        """Whoever goes on from an older version is told that it is gone."""
        self.api = JsonApi(kubeconfig)
        self.bans: list[tuple[str, str]] = []
        self.port = 0
        self._lock = threading.Lock()
        self._streams: set[urllib3.BaseHTTPResponse] = set()
        self._door: Door | None = None
        self._open()

    def _open(self) -> None:
        gate = self

        class Handler(_Handler):
            given = gate

        door = Door(("127.0.0.1", self.port), Handler, None)
        self.port = door.server_address[1]
        threading.Thread(target=door.serve_forever, args=(0.02,), name="gate", daemon=True).start()
        self._door = door

    def close(self) -> None:
        """Ends every connection and frees the port."""
        door, self._door = self._door, None
        if door is not None:
            door.shutdown()
            door.server_close()
            door.hang_up()
        self.drop_watches()

    def kubeconfig(self, path: Path) -> Path:
        """Writes one that leads here."""
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "gate", "cluster": {"server": f"http://127.0.0.1:{self.port}"}}],
            "users": [{"name": "user", "user": {}}],
            "contexts": [{"name": "gate", "context": {"cluster": "gate", "user": "user"}}],
            "current-context": "gate",
        }
        path.write_text(json.dumps(content))
        return path

    # What tests do to it

    def drop_watches(self) -> None:
        """Closes every watch and followed log, as a restart of the server does."""
        with self._lock:
            streams, self._streams = self._streams, set()
        for stream in streams:
            with suppress(OSError, ValueError, RuntimeError):  # it ends by itself just then
                stream.shutdown()

    def compact(self) -> None:
        """Has everything that clients have read be too old to continue from: 410 Gone."""
        place = "/api/v1/namespaces/default/configmaps"
        mark = self.api.request("POST", place, {"metadata": {"generateName": "labd-test-"}})["metadata"]
        self.api.request("DELETE", f"{place}/{mark['name']}")  # so that lists have a newer version again
        self.oldest = int(mark["resourceVersion"])

    @contextmanager
    def away(self) -> Iterator[None]:
        """Refuses connections meanwhile; those that are open are reset."""
        self.close()
        try:
            yield
        finally:
            self._open()

    @contextmanager
    def forbidden(self, verb: str, resource: str) -> Iterator[None]:
        """Nobody may do this meanwhile."""
        self.bans.append((verb, resource))
        try:
            yield
        finally:
            self.bans.remove((verb, resource))

    @contextmanager
    def streaming(self, answer: urllib3.BaseHTTPResponse) -> Iterator[None]:
        """Until the stream ends; raises OSError when it was dropped."""
        with self._lock:
            self._streams.add(answer)
        try:
            yield
        finally:
            with self._lock:
                dropped = answer not in self._streams
                self._streams.discard(answer)
        if dropped:
            raise ConnectionResetError("the stream was dropped")

    def strike(self, verb: str, plural: str, asked: str, query: dict[str, list[str]]) -> None:
        """Raises ApiError for what is not to be passed on."""
        self.faults.strike(verb, asked)
        if (verb, asked) in self.bans:
            raise ApiError(403, "Forbidden", f'{plural} is forbidden: User "test" cannot {verb} resource "{asked}"')
        version = query.get("resourceVersion", ["0"])[0]
        if verb == "watch" and version.isdecimal() and 0 < int(version) < self.oldest:
            raise gone(f"too old resource version: {version} ({self.oldest})")
        if verb == "list" and "continue" in query and self.oldest:
            raise gone("The provided continue parameter is too old to display a consistent list result.")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    given: Gate

    def log_message(self, *_: object) -> None:
        """Says nothing."""

    def _serve(self) -> None:
        parts = urlsplit(self.path)
        query = parse_qs(parts.query)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        found = _OBJECTS.match(parts.path)
        verb = ""
        try:
            if found:
                asked = found["plural"] + (f"/{found['sub']}" if found["sub"] else "")
                verb = self._verb(query, named=bool(found["name"]), sub=bool(found["sub"]))
                self.given.strike(verb, found["plural"], asked, query)
                if found["plural"] == _REVIEWS and self._is_banned(json.loads(body)):
                    self._send(201, "application/json", json.dumps({"status": {"allowed": False}}).encode())
                    return
            self._pass_on(body, streams=verb == "watch" or "follow" in query)
        except ApiError as error:
            if error.code == 410 and verb == "watch":
                event = {"type": "ERROR", "object": error.status()}
                self._send(200, "application/json", f"{json.dumps(event)}\n".encode())
                return
            self._send(error.code, "application/json", json.dumps(error.status()).encode(), error.retry_after_s)
        except AWAY:
            self.close_connection = True

    def _verb(self, query: dict[str, list[str]], *, named: bool, sub: bool) -> str:
        if self.command == "GET":
            watching = query.get("watch", [""])[0] in {"true", "1"} and not sub
            return "watch" if watching else "get" if named else "list"
        if self.command == "DELETE":
            return "delete" if named else "deletecollection"
        return _VERBS[self.command]

    def _is_banned(self, review: Object) -> bool:
        asked = review["spec"].get("resourceAttributes") or {}
        return (asked.get("verb"), asked.get("resource")) in self.given.bans

    def _pass_on(self, body: bytes, *, streams: bool) -> None:
        wanted = {"Accept", "Content-Type", "Authorization", "User-Agent"}
        headers = {name.title(): value for name, value in self.headers.items() if name.title() in wanted}
        answer = self.given.api.open(self.command, self.path, body or None, headers)
        kind = answer.headers.get("Content-Type", "")
        try:
            if not streams:
                self._send(answer.status, kind, answer.read())
                return
            self.send_response(answer.status)
            self.send_header("Content-Type", kind)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            with self.given.streaming(answer):
                for piece in answer.stream(None):
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.write(b"0\r\n\r\n")
        finally:
            answer.close()

    def _send(self, code: int, kind: str, body: bytes, retry_after_s: int | None = None) -> None:
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if retry_after_s is not None:
            self.send_header("Retry-After", str(retry_after_s))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve
