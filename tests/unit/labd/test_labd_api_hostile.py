"""Clients that are slow, or mean harm, against labd's own web server: they are cut off, and nobody else notices."""

import contextlib
import socket
import time
from collections.abc import Callable, Iterator

import pytest

from labd.api import connections
from labd.api.limits import Limits
from labd.client import LabClient
from labd.services.lab import Lab
from tests.unit.labd.fakes import attach, report
from tests.unit.labd.serving import serving

Address = tuple[str, int]
Connect = Callable[[], socket.socket]
DEADLINE_S = 30.0


@pytest.fixture
def database() -> None:
    """The database plays no part here."""


@pytest.fixture
def address(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Iterator[Address]:
    for name in ("HEAD_S", "BODY_S", "READ_S"):
        monkeypatch.setattr(connections, name, 1.5)
    connections.Connection.cut.clear()
    attach(lab, report("bench-1"))
    with serving(lab, Limits(address_connections=64)) as address:
        yield address


@pytest.fixture
def others(address: Address) -> Iterator[Callable[[], None]]:
    """Checks that somebody else is served, and soon."""
    with LabClient(f"http://{address[0]}:{address[1]}", timeout_s=DEADLINE_S) as client:

        def served() -> None:
            lease = client.create_lease(holder="ada")
            client.heartbeat(lease["id"])
            client.release(lease["id"])

        yield served


@pytest.fixture
def connect(address: Address) -> Iterator[Connect]:
    """Connects to labd with a small buffer for what is read."""
    with contextlib.ExitStack() as stack:

        def connected() -> socket.socket:
            made = stack.enter_context(socket.socket())
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            made.settimeout(DEADLINE_S)
            made.connect(address)
            return made

        yield connected


def _is_cut(connection: socket.socket) -> bytes:
    """What comes until labd ends the connection."""
    said = b""
    with contextlib.suppress(ConnectionError):
        while data := connection.recv(65536):
            said += data
    return said


def test_headers_that_never_end_in_time_are_not_waited_for(connect: Connect, others: Callable[[], None]) -> None:
    slow = [connect() for _ in range(40)]
    for connection in slow:
        connection.sendall(b"GET /api/v1/benches HTTP/1.1\r\nHost: labd\r\nX-Slow: ")
    others()
    assert {_is_cut(connection) for connection in slow} == {b""}
    assert connections.Connection.cut["late headers"] == 40
    others()


def test_who_says_nothing_is_not_waited_for(connect: Connect) -> None:
    assert _is_cut(connect()) == b""


def test_a_body_that_stops_coming_is_not_waited_for(connect: Connect, others: Callable[[], None]) -> None:
    slow = connect()
    slow.sendall(
        b"POST /api/v1/leases HTTP/1.1\r\nHost: labd\r\nContent-Type: application/json\r\n"
        b'Content-Length: 100000\r\n\r\n{"holder": '
    )
    others()
    _is_cut(slow)
    assert connections.Connection.cut["late body"] == 1
    others()


def test_a_body_that_keeps_coming_is_waited_for(connect: Connect) -> None:
    body = b'{"holder": "ada"}'
    slow = connect()
    slow.sendall(
        b"POST /api/v1/leases HTTP/1.1\r\nHost: labd\r\nConnection: close\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n" % len(body)
    )
    for number in range(len(body)):
        slow.sendall(body[number : number + 1])
        time.sleep(0.12)  # the wire is slow: 2 s for a body that may pause for 1.5 s
    assert b"201 Created" in _is_cut(slow)


@pytest.mark.parametrize(
    "head",
    [
        b"GET /api/v1/benches HTTP/1.1\r\nX-Long: " + b"x" * 100_000,
        b"GET /api/v1/benches?" + b"x" * 100_000 + b" HTTP/1.1\r\n\r\n",
        b"GET /api/v1/benches HTTP/1.1\r\n" + b"X-Many: 1\r\n" * 10_000 + b"\r\n",
    ],
    ids=["one header", "the path", "many headers"],
)
def test_a_head_has_a_size(connect: Connect, others: Callable[[], None], head: bytes) -> None:
    hostile = connect()
    with contextlib.suppress(ConnectionError):
        hostile.sendall(head)
    said = _is_cut(hostile)
    assert said == b"" or b"431" in said.split(b"\r\n")[0]
    assert connections.Connection.cut["head too large"] == 1
    others()


def test_a_client_that_never_reads_is_cut_off(connect: Connect, others: Callable[[], None]) -> None:
    hostile = connect()
    request = b"GET /api/v1/openapi.json HTTP/1.1\r\nHost: labd\r\n\r\n"
    deadline = time.monotonic() + DEADLINE_S
    with contextlib.suppress(ConnectionError):
        while not connections.Connection.cut["reads nothing"]:
            assert time.monotonic() < deadline
            hostile.settimeout(0.2)
            with contextlib.suppress(TimeoutError):
                hostile.sendall(request)
            others()
    assert connections.Connection.cut["reads nothing"] == 1
    others()


def test_one_address_has_so_many_connections(connect: Connect, others: Callable[[], None]) -> None:
    others()  # has a connection already
    crowd = [connect() for _ in range(80)]
    assert _is_cut(crowd[-1]) == b""
    assert connections.Connection.cut["too many connections"] >= 10
    for connection in crowd:
        connection.close()
    others()


def test_what_is_no_http_is_refused(connect: Connect, others: Callable[[], None]) -> None:
    for noise in (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", b"\r\n\r\nHELO labd\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n"):
        hostile = connect()
        hostile.sendall(noise)
        assert b"HTTP/1.1 200" not in _is_cut(hostile)
    others()
