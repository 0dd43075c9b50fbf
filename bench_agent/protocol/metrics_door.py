"""Where Prometheus fetches figures: a plain HTTP listener of its own, for ``GET /metrics``.

One request after the other, each with a deadline: whoever is slow makes others wait for seconds, and costs no memory.
"""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

REQUEST_S = 5.0
"""How long a request may take to come, and its answer to be read."""
PATH = "/metrics"


class _Handler(WSGIRequestHandler):
    timeout = REQUEST_S

    def handle(self) -> None:
        """Ends with the deadline also for who sends byte by byte, each of which comes in time."""
        deadline = threading.Timer(self.timeout, _hang_up, [self.connection])
        deadline.daemon = True
        deadline.start()
        try:
            super().handle()
        finally:
            deadline.cancel()

    def log_message(self, *_: Any) -> None:
        """Prometheus comes every few seconds."""


class _Server(WSGIServer):
    allow_reuse_address = True

    def server_bind(self) -> None:
        """Without a look at the name service, which may take its time."""
        super(WSGIServer, self).server_bind()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()

    def handle_error(self, request: object, client_address: object) -> None:
        """Who goes away, or stays silent, has no more to be told."""


def _hang_up(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # it has gone by itself
        connection.shutdown(socket.SHUT_RDWR)


class MetricsDoor:
    """Serves a registry until `stop`."""

    def __init__(self, host: str, port: int, registry: "CollectorRegistry") -> None:
        """Raises OSError."""
        from prometheus_client import make_wsgi_app

        self._figures = make_wsgi_app(registry)
        self._server = _Server((host.strip("[]"), port), _Handler)
        self._server.set_app(self._answer)
        self.port: int = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Returns when the present request is done."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=REQUEST_S)

    def _answer(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        if environ.get("PATH_INFO") != PATH:
            start("404 Not Found", [("Content-Type", "text/plain")])
            return [b"figures are at /metrics\n"]
        if environ.get("REQUEST_METHOD") not in ("GET", "HEAD"):
            start("405 Method Not Allowed", [("Content-Type", "text/plain"), ("Allow", "GET, HEAD")])
            return [b"figures are fetched with GET\n"]
        answer: Iterable[bytes] = self._figures(environ, start)
        return answer
