"""`python -m runners.reach`: whether a runner's container reaches labd."""

import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from bench_agent.protocol.identity import CONTROLLER_NAME
from labd.services.authority import Authority
from runners.reach import main


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/api/v1/version" else 404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name in the base class
        pass


class Quiet(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """A client that trusts somebody else hangs up."""


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    """Of a labd with a certificate by its own authority, whose own is in ca/ca.pem."""
    credentials = Authority(tmp_path / "ca").server_credentials([])
    (tmp_path / "labd.pem").write_bytes(credentials.key + credentials.chain)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "labd.pem")
    server = Quiet(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def test_labd_is_known_by_its_own_name_and_authority(port: int, tmp_path: Path) -> None:
    variables = {
        "LABD_URL": f"https://127.0.0.1:1,https://127.0.0.1:{port}",
        "LABD_CA": str(tmp_path / "ca" / "ca.pem"),
        "LABD_SERVER_NAME": CONTROLLER_NAME,
    }
    assert main(variables) == 0


def test_somebody_else_is_not_labd(port: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Authority(tmp_path / "other")
    other = str(tmp_path / "other" / "ca.pem")
    variables = {"LABD_URL": f"https://127.0.0.1:{port}", "LABD_CA": other, "LABD_SERVER_NAME": CONTROLLER_NAME}
    assert main(variables) == 1
    assert "certificate verify failed" in capsys.readouterr().err


def test_nobody_there_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main({"LABD_URL": "http://127.0.0.1:1"}) == 1
    assert "http://127.0.0.1:1: " in capsys.readouterr().err
    assert main({}) == 1
    assert "LABD_URL says nowhere" in capsys.readouterr().err
