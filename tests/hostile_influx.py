"""A server of InfluxDB's v2 write API that answers as badly as it is told to, over real sockets."""

import contextlib
import gzip
import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import chain, repeat


@dataclass
class Reply:
    """What it answers to one request."""

    status: int = 204
    body: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    reset: bool = False
    """Reads the request, and resets the connection."""
    silent: bool = False
    """Reads the request, and never answers."""
    trickle_s: float = 0.0
    """Pause after each byte of the answer, which never ends."""
    endless: bool = False
    """The answer has no end, and comes as fast as it is read."""


def refusal(status: int, message: str, **headers: str) -> Reply:
    """As InfluxDB words it."""
    body = json.dumps({"code": "invalid", "message": message})
    return Reply(status, body, {"Content-Type": "application/json", **headers})


@dataclass
class Request:
    """What came."""

    path: str
    headers: dict[str, str]
    lines: list[bytes]


class HostileInflux:
    """Asks ``judge`` how to answer each request; keeps the lines that it said yes to."""

    def __init__(self) -> None:
        self.judge: Callable[[Request], Reply] = lambda request: Reply()
        self.requests: list[Request] = []
        self.kept: list[bytes] = []
        self.url = ""
        self.over = threading.Event()

    def take(self, request: Request) -> Reply:
        """Judges a request."""
        self.requests.append(request)
        reply = self.judge(request)
        if reply.status == 204 and not (reply.reset or reply.silent or reply.trickle_s or reply.endless):
            self.kept += request.lines
        return reply


@contextmanager
def hostile_influx() -> Iterator[HostileInflux]:
    """One that serves."""
    influx = HostileInflux()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            reply = influx.take(Request(self.path, dict(self.headers), body.split(b"\n")))
            if reply.silent:
                influx.over.wait()
                self.close_connection = True
                return
            if reply.reset:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.close_connection = True
                return
            if reply.trickle_s:
                self._trickle(b"HTTP/1.1 204 No Content\r\nX-Slow: ", reply.trickle_s)
                return
            if reply.endless:
                self._flood(b"HTTP/1.1 500 Oops\r\nContent-Type: text/plain\r\n\r\n")
                return
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            if reply.status != 204:
                self.send_header("Content-Length", str(len(reply.body)))
            self.end_headers()
            self.wfile.write(reply.body.encode())

        def _trickle(self, beginning: bytes, pause_s: float) -> None:
            self.close_connection = True
            with contextlib.suppress(OSError):
                for byte in chain(beginning, repeat(ord("x"))):
                    self.wfile.write(bytes([byte]))
                    if influx.over.wait(pause_s):
                        return

        def _flood(self, beginning: bytes) -> None:
            self.close_connection = True
            with contextlib.suppress(OSError):
                self.wfile.write(beginning)
                while not influx.over.is_set():
                    self.wfile.write(b"x" * 65536)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    influx.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield influx
    finally:
        influx.over.set()
        server.shutdown()
        server.server_close()
        thread.join()
