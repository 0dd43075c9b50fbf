"""Clients that know several labds of one lab: the next one is asked when one does not answer."""

import socket
import time
from collections.abc import Iterator

import pytest

from labd.client import LabClient, LabError, LabUnreachable, ProblemError
from labd.client.asynchronous import AsyncLabClient
from labd.client.credentials import Credential, latest, store, stored
from labd.client.urls import Urls
from tests.unit.client.fake_labd import FakeLabd

NOBODY = "http://127.0.0.1:9"


@pytest.fixture
def others() -> Iterator[FakeLabd]:
    with FakeLabd() as fake:
        yield fake


@pytest.fixture(autouse=True)
def the_first_one_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("random.choice", lambda urls: urls[0])


def _asked(labd: FakeLabd) -> int:
    return len(labd.requests)


def test_who_refuses_connections_is_passed_over_once(labd: FakeLabd) -> None:
    with LabClient(f"{NOBODY}, {labd.url}/") as lab:
        for _ in range(3):
            assert [bench["name"] for bench in lab.benches()] == ["bench-1"]
        assert lab.url == f"{NOBODY},{labd.url}"


def test_a_labd_that_vanishes_is_replaced_and_a_post_keeps_its_key(labd: FakeLabd, others: FakeLabd) -> None:
    with LabClient(f"{labd.url},{others.url}") as lab:
        lab.benches()
        labd.cut_next = 1  # it may have acted
        lab.create_lease(selector="name=bench-1", holder="ada")
        keys = [headers.get("idempotency-key") for fake in (labd, others) for headers in fake.headers]
        assert len(set(keys) - {None}) == 1
        assert others.leases
        assert not labd.leases


def test_one_without_its_database_is_passed_over(labd: FakeLabd, others: FakeLabd) -> None:
    away = (503, {"Retry-After": "1"}, b'{"title": "Service Unavailable", "detail": "the database cannot be reached"}')
    labd.once["GET", "/benches"] = others.once["GET", "/leases"] = away
    labd.once["GET", "/leases"] = away
    with LabClient(f"{labd.url},{others.url}") as lab:
        assert lab.benches()
        with pytest.raises(ProblemError, match="cannot be reached"):  # at both
            lab.leases()
        assert lab.leases() == []


def test_a_limit_is_not_evaded_at_another(labd: FakeLabd, others: FakeLabd) -> None:
    labd.once["GET", "/benches"] = (429, {"Retry-After": "1"}, b'{"title": "Too Many Requests"}')
    with LabClient(f"{labd.url},{others.url}") as lab, pytest.raises(ProblemError) as refused:
        lab.benches()
    assert refused.value.status == 429
    assert _asked(others) == 0


def test_one_that_takes_no_connection_costs_a_bounded_time(labd: FakeLabd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("labd.client.transport.CONNECT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        port = full.getsockname()[1]
        fillers = [_half_open(port) for _ in range(4)]  # the kernel answers no more from then on
        began = time.monotonic()
        with LabClient(f"http://127.0.0.1:{port},{labd.url}", timeout_s=60) as lab:
            assert lab.benches()
        assert time.monotonic() - began < 20
        for one in fillers:
            one.close()


def _half_open(port: int) -> socket.socket:
    one = socket.socket()
    one.setblocking(False)
    one.connect_ex(("127.0.0.1", port))
    return one


def test_nobody_at_all_is_told_at_once() -> None:
    with LabClient(f"{NOBODY},http://127.0.0.1:10") as lab, pytest.raises(LabUnreachable, match="Connection refused"):
        lab.benches()


def test_the_log_is_followed_at_another_labd(labd: FakeLabd, others: FakeLabd) -> None:
    with LabClient(f"{labd.url},{others.url}") as lab:
        run = lab.create_run(script="pass", holder="ci")
        others.runs, others.logs = labd.runs, labd.logs
        labd.cut_next = 1
        texts = [line["text"] for line in lab.follow_log(run["id"])]
        assert _asked(others) > 0
        assert texts == [line["text"] for line in labd.logs.get(run["id"], [])]


@pytest.mark.anyio
async def test_the_async_client_does_the_same(labd: FakeLabd, others: FakeLabd) -> None:
    async with AsyncLabClient(f"{NOBODY},{labd.url},{others.url}") as lab:
        assert await lab.benches()
        labd.cut_next = 1
        assert await lab.benches()
        assert _asked(others) == 1


@pytest.mark.parametrize(
    ("url", "words"),
    [
        (f"{NOBODY},{NOBODY}/", "given twice"),
        (f"{NOBODY},https://127.0.0.1:9", "some begin with https://"),
        (f"{NOBODY},", "is no URL of a labd"),
    ],
)
def test_mistakes_are_named(url: str, words: str) -> None:
    with pytest.raises(LabError, match=words):
        LabClient(url)


def test_who_is_signed_in_at_one_is_at_all(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    store("http://b:1,http://a:1/", Credential("secret"))
    assert latest() == "http://a:1,http://b:1"
    for url in ("http://a:1", "http://b:1/", "http://a:1,http://b:1", "http://c:1,http://b:1"):
        found = stored(url)
        assert found is not None, url
        assert found.token == "secret"
    assert stored("http://c:1") is None
    store("http://b:1", None)
    assert latest() is None


def test_clients_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert {Urls("http://a,http://b").current for _ in range(60)} == {"http://a", "http://b"}
