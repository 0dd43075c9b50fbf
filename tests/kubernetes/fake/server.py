"""The server: sockets, paths, and who may do what; the verbs themselves are in api.py."""

import datetime
import json
import re
import select
import socket
import ssl
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from tests.kubernetes.fake import discovery
from tests.kubernetes.fake.access import ADMIN, ANONYMOUS, API_AUDIENCE, Action, User
from tests.kubernetes.fake.api import Api, Served, timestamp
from tests.kubernetes.fake.certificates import self_signed
from tests.kubernetes.fake.errors import (
    ApiError,
    Object,
    bad_request,
    conflict,
    forbidden,
    invalid,
    method_not_allowed,
    no_such_path,
    not_found,
    unauthorized,
)
from tests.kubernetes.fake.faults import Faults
from tests.kubernetes.fake.garbage import GarbageCollector
from tests.kubernetes.fake.pods import Logs, bound, container_of
from tests.kubernetes.fake.protobuf import access_review
from tests.kubernetes.fake.request import PROTOBUF, Answer, Request
from tests.kubernetes.fake.resources import NAMESPACES, PODS, REVIEWS, Resource
from tests.kubernetes.fake.storage import text
from tests.kubernetes.fake.watching import Views, wants_table

_OBJECTS = re.compile(
    r"/(?:api/(?P<core>v1)|apis/(?P<group>[^/]+)/(?P<version>[^/]+))"
    r"(?:/namespaces/(?P<namespace>[^/]+)(?=/(?!status$|finalize$)))?"
    r"/(?P<plural>[^/]+)(?:/(?P<name>[^/]+)(?:/(?P<sub>[^/]+))?)?/?$"
)
_VERSION = re.compile(r"/(?:api/(?P<core>v1)|apis/(?P<group>[^/]+)/(?P<version>[^/]+))/?$")
_HEALTH = {"/healthz", "/livez", "/readyz"}


class FakeApiServer:
    """A fake of a Kubernetes API server, on a port of 127.0.0.1; nothing of it outlives `close`.

    ``tls`` serves https with a certificate of its own: kubectl sends bearer tokens only there. Without TLS, who
    sends no token is the administrator.
    """

    def __init__(self, *, tls: bool = False, history: int = 20_000) -> None:
        self.faults = Faults()
        self._api = Api(history, "https://kubernetes.default.svc.cluster.local")
        self._views = Views(self._api)
        self.access = self._api.access
        self.storage = self._api.storage
        self.logs: Logs | None = None
        """Where containers' output is asked for: a node of the tests sets itself here."""
        self._cut = 0
        self._folder = tempfile.TemporaryDirectory(prefix="fake-kubernetes-")
        self._context: ssl.SSLContext | None = None
        self.ca_file: Path | None = None
        if tls:
            self.ca_file = self_signed(Path(self._folder.name))
            self.access.authority = self.ca_file.read_text()
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(self.ca_file, Path(self._folder.name) / "server.key")
        self._door: Door | None = None
        self.port = 0
        self._open()
        for name in ("default", "kube-system"):
            self._api.create(self._served(NAMESPACES), _internal({"metadata": {"name": name}}))
        self.garbage = GarbageCollector(self._api)

    @property
    def url(self) -> str:
        return f"{'https' if self._context else 'http'}://127.0.0.1:{self.port}"

    def _open(self) -> None:
        door = Door(("127.0.0.1", self.port), self._handler(), self._context)
        self.port = door.server_address[1]
        threading.Thread(target=door.serve_forever, args=(0.02,), name="fake API server", daemon=True).start()
        self._door = door

    def close(self) -> None:
        """Ends every connection and frees the port."""
        self._shut()
        self.garbage.close()
        self._folder.cleanup()

    def _shut(self) -> None:
        door, self._door = self._door, None
        if door is not None:
            door.shutdown()
            door.server_close()
            door.hang_up()
        self.drop_watches()

    def kubeconfig(self, path: Path, *, token: str | None = None, namespace: str = "default") -> Path:
        """Writes a kubeconfig for whoever has the token; without one for the administrator."""
        cluster: Object = {"server": self.url}
        if self.ca_file:
            cluster["certificate-authority"] = str(self.ca_file)
        who = {"token": token or self.access.admin_token}
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "fake", "cluster": cluster}],
            "users": [{"name": "user", "user": who}],
            "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "user", "namespace": namespace}}],
            "current-context": "fake",
        }
        path.write_text(json.dumps(content))
        return path

    # What tests do to it

    def drop_watches(self) -> None:
        """Closes every watch and followed log, as a restart of the server does."""
        self._cut += 1
        with self.storage.changed:
            self.storage.changed.notify_all()

    def compact(self) -> None:
        """Has everything that clients have read be too old to continue from: 410 Gone."""
        self._views.forget_pages()
        self.storage.compact()

    @contextmanager
    def away(self) -> Iterator[None]:
        """Refuses connections meanwhile; those that are open are reset."""
        self._shut()
        try:
            yield
        finally:
            self._open()

    @contextmanager
    def forbidden(self, verb: str, resource: str) -> Iterator[None]:
        """Nobody may do this meanwhile."""
        with self.access.forbidden(verb, resource):
            yield

    @property
    def bookmark_every_s(self) -> float:
        return self._views.bookmark_every_s

    @bookmark_every_s.setter
    def bookmark_every_s(self, value: float) -> None:
        self._views.bookmark_every_s = value

    # Requests

    def _served(self, resource: Resource) -> Served:
        return self._api.of_key(resource.key)

    def user(self, token: str) -> User:
        """Raises ApiError 401."""
        if not token:
            return ANONYMOUS if self._context else ADMIN
        try:
            return self.access.user_of(token, [API_AUDIENCE])[0]
        except ValueError as error:
            raise unauthorized() from error

    def answer(self, request: Request) -> Answer:
        """Raises ApiError."""
        path = request.path.rstrip("/") or "/"
        found = _OBJECTS.match(request.path)
        if path.startswith("/openapi") or _VERSION.match(path) or found is None:
            return self._about(request, path)
        group, version = found["group"] or "", found["core"] or found["version"]
        if (group, found["plural"]) in REVIEWS:
            return self._review(request, group, found["plural"])
        served = self._api.find(group, version, found["plural"])
        if served is None:
            raise no_such_path()
        request.namespace = unquote(found["namespace"] or "")
        request.name, request.subresource = unquote(found["name"] or ""), found["sub"] or ""
        if found["namespace"] and not served.resource.namespaced:
            raise no_such_path()
        request.verb = _verb(request)
        asked = served.resource.plural + (f"/{request.subresource}" if request.subresource else "")
        self.faults.strike(request.verb, asked)
        self._authorize(served.resource, request, asked)
        return self._act(served, request)

    def _authorize(self, resource: Resource, request: Request, asked: str) -> None:
        place = request.namespace
        if resource.key == NAMESPACES.key:
            place = request.name
        action = Action(request.verb, resource.group, asked, place, request.name)
        if self.access.may(request.user, action):
            return
        scope = f'in the namespace "{place}"' if place else "at the cluster scope"
        full = f'resource "{asked}" in API group "{resource.group}"'
        raise forbidden(resource, request.name, f'User "{request.user.name}" cannot {request.verb} {full} {scope}')

    def _about(self, request: Request, path: str) -> Answer:
        resources = [one.resource for one in self._api.served()]
        if path in _HEALTH:
            return Answer("ok", content_type="text/plain")
        if path == "/version":
            return Answer(discovery.VERSION)
        if path == "/api":
            return Answer(discovery.api_versions())
        if path == "/apis":
            return Answer(discovery.groups(resources))
        if path == "/openapi/v3":
            return Answer(discovery.openapi_paths(resources))
        if path.startswith("/openapi/v3/"):
            return Answer(discovery.openapi(path.removeprefix("/openapi/v3/"), resources))
        known = _VERSION.match(path)
        listed = (
            discovery.resource_list(known["group"] or "", known["core"] or known["version"], resources)
            if known
            else None
        )
        if listed is None:
            raise no_such_path()
        return Answer(listed)

    def _review(self, request: Request, group: str, plural: str) -> Answer:
        self.faults.strike("create", plural)
        kind = REVIEWS[group, plural]
        if request.method != "POST":
            raise method_not_allowed()
        action = Action("create", group, plural)
        if not self.access.may(request.user, action):
            where = f'resource "{plural}" in API group "{group}" at the cluster scope'
            said = f'{plural}.{group} is forbidden: User "{request.user.name}" cannot create {where}'
            raise ApiError(403, "Forbidden", said, details={"group": group, "kind": plural})
        asked = access_review(request.body) if request.content_type == PROTOBUF else request.thing()
        spec = asked.get("spec") or {}
        if kind == "TokenReview":
            status = self.access.review_token(spec)
        elif kind == "SelfSubjectReview":
            status = {"userInfo": request.user.info()}
        else:
            status = self.access.review_access(request.user, spec)
        meta = {"creationTimestamp": None}
        body = {"kind": kind, "apiVersion": f"{group}/v1", "metadata": meta, "spec": spec, "status": status}
        return Answer(body, 201)

    def _act(self, served: Served, request: Request) -> Answer:
        if request.subresource not in {"", "status"}:
            return self._subresource(served, request)
        if request.subresource == "status" and not served.resource.status:
            raise no_such_path()
        if request.verb in {"list", "watch"}:
            if request.verb == "watch":
                return Answer(stream=self._views.watch(served, request))
            return Answer(self._views.listed(served, request))
        if request.verb == "get":
            return Answer(self._shown(served, request, self._api.get(served, request)))
        if request.verb == "create":
            if request.name:
                raise method_not_allowed()
            if served.resource.namespaced and not request.namespace:
                raise method_not_allowed()
            return Answer(self._shown(served, request, self._api.create(served, request)), 201)
        if request.verb == "update":
            return Answer(self._shown(served, request, self._api.update(served, request)))
        if request.verb == "patch":
            thing, new = self._api.patch(served, request)
            return Answer(self._shown(served, request, thing), 201 if new else 200)
        if request.verb == "deletecollection":
            items = self._api.delete_collection(served, request)
            meta = {"resourceVersion": str(self.storage.revision)}
            kind, version = served.list_kind, served.resource.api_version
            return Answer({"kind": kind, "apiVersion": version, "metadata": meta, "items": items})
        thing, removed = self._api.delete(served, request)
        if removed and served.resource.full not in {"pods", "serviceaccounts"}:
            details = {"name": request.name, "kind": served.resource.plural, "uid": thing["metadata"]["uid"]}
            if served.resource.group:
                details["group"] = served.resource.group
            body = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}
            return Answer(body)
        return Answer(self._shown(served, request, thing))

    def _shown(self, served: Served, request: Request, thing: Object) -> Object:
        return self._views.table(served, request, [thing]) if wants_table(request) else thing

    def _subresource(self, served: Served, request: Request) -> Answer:
        what = f"{served.resource.full}/{request.subresource}"
        if what == "pods/log" and request.method == "GET":
            return self._log(request)
        if request.method != "POST":
            raise no_such_path()
        with self.storage.changed:
            thing = self.storage.get(served.resource.key, (request.namespace, request.name))
            if thing is None:
                raise not_found(served.resource, request.name)
            if what == "pods/binding":
                self.storage.put(
                    PODS.key, (request.namespace, request.name), bound(thing, request.thing(), timestamp())
                )
                return Answer({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}, 201)
            if what == "pods/eviction":
                options = request.thing().get("deleteOptions") or {}
                self._api.end(served, thing, options)
                return Answer({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}, 201)
            if what == "serviceaccounts/token":
                return Answer(self._token(request, thing), 201)
        raise no_such_path()

    def _token(self, request: Request, account: Object) -> Object:
        asked = request.thing()
        spec = asked.get("spec") or {}
        seconds = spec.get("expirationSeconds")
        if seconds is not None and seconds < 600:
            resource = Resource("authentication.k8s.io", "v1", "tokenrequests", "TokenRequest")
            cause = {
                "field": "spec.expirationSeconds",
                "message": f"Invalid value: {seconds}: may not specify a duration less than 10 minutes",
            }
            raise invalid(resource, "", [cause])
        reference = spec.get("boundObjectRef")
        pod = None
        if reference:
            pod = self.storage.get(PODS.key, (request.namespace, reference["name"]))
            if pod is None:
                raise not_found(PODS, reference["name"])
            if reference.get("uid") and reference["uid"] != pod["metadata"]["uid"]:
                uid = pod["metadata"]["uid"]
                given = f"the UID in the bound object reference ({reference['uid']})"
                why = f"{given} does not match the UID in record ({uid})"
                raise conflict(PODS, reference["name"], why)
            if pod["spec"]["serviceAccountName"] != request.name:
                said = f'cannot bind token for serviceaccount "{request.name}"'
                raise bad_request(f"{said} to pod running with different serviceaccount name.")
        token, ends = self.access.mint(request.namespace, account, spec, pod)
        stamp = datetime.datetime.fromtimestamp(ends, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return {
            "kind": "TokenRequest",
            "apiVersion": "authentication.k8s.io/v1",
            "metadata": {"name": request.name, "namespace": request.namespace, "creationTimestamp": timestamp()},
            "spec": {"audiences": [API_AUDIENCE], "expirationSeconds": 3600, **spec},
            "status": {"token": token, "expirationTimestamp": stamp},
        }

    def _log(self, request: Request) -> Answer:
        pod = self.storage.get(PODS.key, (request.namespace, request.name))
        if pod is None:
            raise not_found(PODS, request.name)
        container = container_of(pod, request.query.get("container", ""))
        states = [
            *(pod["status"].get("initContainerStatuses") or []),
            *(pod["status"].get("containerStatuses") or []),
        ]
        waiting = next((one["state"].get("waiting") for one in states if one["name"] == container), None)
        if not pod["spec"].get("nodeName"):
            return Answer("", content_type="text/plain")
        if waiting or not states or self.logs is None:
            why = (waiting or {}).get("reason", "ContainerCreating")
            if waiting and waiting.get("message") and why != "PodInitializing":
                said = f"is waiting to start: {waiting['message']}"
            else:
                said = f"is waiting to start: {why}"
            raise bad_request(f'container "{container}" in pod "{request.name}" {said}')
        try:
            lines = self.logs(request.namespace, pod["metadata"]["uid"], container, request.query)
        except KeyError:
            raise ApiError(500, "InternalError", "Internal error occurred: the node has no such container") from None
        return Answer(stream=lines, content_type="text/plain")

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(_Handler):
            fake = server

        return Handler

    def cut(self) -> int:
        """Grows with each `drop_watches`."""
        return self._cut


def _internal(thing: Object) -> Request:
    return Request("POST", "", {}, ADMIN, body=json.dumps(thing).encode(), agent="fake")


def _verb(request: Request) -> str:
    named = bool(request.name)
    if request.method == "GET":
        watching = request.query.get("watch") in {"true", "1"} and not request.subresource
        return "watch" if watching else "get" if named else "list"
    verbs = {"POST": "create", "PUT": "update", "PATCH": "patch"}
    if request.method == "DELETE":
        return "delete" if named else "deletecollection"
    if request.method not in verbs or (request.method in {"PUT", "PATCH"} and not named):
        raise method_not_allowed()
    return verbs[request.method]


class Door(ThreadingHTTPServer):
    """Connections that can be reset."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 256

    def __init__(self, address: tuple[str, int], handler: Any, context: ssl.SSLContext | None) -> None:
        self._context = context
        self._open: set[socket.socket] = set()
        self._guard = threading.Lock()
        super().__init__(address, handler)

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._context:
            # The handshake is left to the connection's own thread.
            connection = self._context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        with self._guard:
            self._open.add(connection)
        return connection, address

    def shutdown_request(self, request: Any) -> None:
        with self._guard:
            self._open.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        """Resets what is open."""
        with self._guard:
            for connection in self._open:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients go whenever they like."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    fake: FakeApiServer

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class calls it so
        """Says nothing."""

    def _serve(self) -> None:
        parts = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        cut = self.fake.cut()
        request = Request(
            self.command,
            parts.path,
            dict(parse_qsl(parts.query, keep_blank_values=True)),
            ANONYMOUS,
            body,
            (self.headers.get("Content-Type") or "").partition(";")[0].strip(),
            self.headers.get("Accept") or "",
            self.headers.get("User-Agent") or "",
        )
        try:
            request.user = self.fake.user((self.headers.get("Authorization") or "").removeprefix("Bearer ").strip())
            answer = self.fake.answer(request)
        except ApiError as error:
            self._send(error.code, text(error.status()), "application/json", request, error.retry_after_s)
            return
        if answer.stream is not None:
            self._stream(answer, request, cut)
            return
        plain = answer.content_type == "text/plain"
        self._send(answer.code, answer.body.encode() if plain else text(answer.body), answer.content_type, request)

    def _send(
        self, code: int, body: bytes, content_type: str, request: Request, retry_after_s: int | None = None
    ) -> None:
        self.send_response(code)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        for warning in request.warnings:
            told = warning.replace("\\", "\\\\").replace('"', '\\"')
            self.send_header("Warning", f'299 - "{told}"')
        if retry_after_s is not None:
            self.send_header("Retry-After", str(retry_after_s))
        self.end_headers()
        self.wfile.write(body)

    def _stream(self, answer: Answer, request: Request, cut: int) -> None:
        """Chunks, until the stream ends, the client goes, or the test drops watches."""
        self.send_response(200)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        assert answer.stream is not None
        last_look = time.monotonic()
        for line in answer.stream:
            if self.fake.cut() != cut:
                self.close_connection = True
                return  # without the last chunk: it breaks off
            if line:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
                self.wfile.flush()
            elif time.monotonic() - last_look > 0.4:
                last_look = time.monotonic()
                if self._client_left():
                    self.close_connection = True
                    return
        self.wfile.write(b"0\r\n\r\n")

    def _client_left(self) -> bool:
        ready, _, _ = select.select([self.connection], [], [], 0)
        if not ready or isinstance(self.connection, ssl.SSLSocket):
            return bool(ready)
        try:
            return not self.connection.recv(1, socket.MSG_PEEK)
        except OSError:
            return True

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve
