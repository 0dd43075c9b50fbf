"""What of a kubelet a real API server asks for: a Node that is alive, and containers' output at its address."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from tests.kubernetes.fake.certificates import self_signed
from tests.kubernetes.json_api import AWAY, MERGE, JsonApi, Object, Refused, stamp

HEARTBEAT_S = 10.0
Output = Callable[[str, str, str, dict[str, str]], Iterator[bytes]]
"""What a container of a pod of a namespace wrote; raises KeyError."""


class Kubelet:
    """Registers a Node that takes no pods but those that are bound to it, and serves what their containers wrote."""

    def __init__(self, api: JsonApi, name: str, folder: Path, output: Output) -> None:
        self._api = api
        self._name = name
        self._closed = threading.Event()
        folder.mkdir(parents=True, exist_ok=True)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self_signed(folder), folder / "server.key")

        class Handler(_Handler):
            given = staticmethod(output)

        address = _own_address(api.host)
        self._door = ThreadingHTTPServer((address, 0), Handler)
        self._door.daemon_threads = True
        self._door.socket = context.wrap_socket(self._door.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=self._door.serve_forever, args=(0.05,), daemon=True).start()
        self._status: Object = {
            "addresses": [{"type": "InternalIP", "address": address}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": self._door.server_address[1]}},
        }
        meta = {"name": name, "labels": {"labd.dev/test": "true"}}
        self._api.request("POST", "/api/v1/nodes", {"metadata": meta, "spec": {"unschedulable": True}})
        self._beat()
        threading.Thread(target=self._live, name=f"heart of {name}", daemon=True).start()

    def close(self) -> None:
        self._closed.set()
        with suppress(Refused, *AWAY):
            self._api.request("DELETE", f"/api/v1/nodes/{self._name}")
        self._door.shutdown()
        self._door.server_close()

    def _live(self) -> None:
        while not self._closed.wait(HEARTBEAT_S):
            with suppress(Refused, *AWAY):  # the next one tells as much
                self._beat()

    def _beat(self) -> None:
        ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "lastHeartbeatTime": stamp()}
        body = {"status": {**self._status, "conditions": [ready]}}
        self._api.request("PATCH", f"/api/v1/nodes/{self._name}/status", body, kind=MERGE)


def _own_address(url: str) -> str:
    """By which the API server reaches this machine."""
    known = urlsplit(url)
    family, kind, _, _, address = socket.getaddrinfo(known.hostname, known.port or 443, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind) as probe:
        probe.connect(address)
        found: str = probe.getsockname()[0]
    return found


class _Handler(BaseHTTPRequestHandler):
    """`GET /containerLogs/NAMESPACE/POD/CONTAINER`."""

    protocol_version = "HTTP/1.1"
    given: Output

    def log_message(self, *_: object) -> None:
        """Nothing: it is the tests' output."""

    def do_GET(self) -> None:
        words = urlsplit(self.path)
        try:
            _, what, namespace, pod, container = words.path.split("/")
            if what != "containerLogs":
                raise KeyError(what)
            pieces = self.given(namespace, pod, container, dict(parse_qsl(words.query)))
        except (KeyError, ValueError):
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        with suppress(OSError):  # whoever asked has left
            for piece in pieces:
                if piece:
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.write(b"0\r\n\r\n")
