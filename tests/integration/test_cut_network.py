"""The network between labd and its database is cut, for real: packets vanish, and nobody is told."""

import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest

from labd.client import LabClient, LabError, ProblemError
from tests.integration.labd_support import Daemon, StreamAgent, until
from tests.island import Island
from tests.postgresql import PostgresServer
from tests.running_time import running_time

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs the right to make network namespaces")
TAKEOVER_S = 5.0
SILENCE_S = 12.0
"""A client's request is answered by another labd within this, on a machine that has other things to do."""


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


class _Crowd:
    """Asks one labd for leases without end, so that it is always in the middle of a transaction."""

    def __init__(self, client: LabClient) -> None:
        self.acknowledged: list[str] = []
        self.refusals: list[str] = []
        self._client = client
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)

    def __enter__(self) -> "_Crowd":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(timeout=60)

    def _ask(self) -> None:
        while not self._stopping.is_set():
            try:
                self.acknowledged.append(
                    self._client.create_lease(selector="name=bench-3", holder="crowd", ttl_s=600)["id"]
                )
            except LabError as error:
                self.refusals.append(str(error))
                self._stopping.wait(0.2)


def _leads(database: str, daemon: Daemon) -> bool:
    with psycopg.connect(database) as connection:
        row = connection.execute("SELECT leader FROM lab").fetchone()
    return row is not None and row[0] == (daemon.data / "replica").read_text("utf-8")


def _state(client: LabClient, name: str) -> str:
    return str(next((bench["state"] for bench in client.benches() if bench["name"] == name), "missing"))


def _problem(client: LabClient) -> ProblemError | None:
    try:
        client.create_lease(selector="name=bench-3", holder="asker", ttl_s=600)
    except ProblemError as problem:
        return problem
    return None


def test_a_leader_without_its_database_is_replaced_in_seconds_and_decides_nothing_more(
    stack: ExitStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    island = stack.enter_context(Island(cables=2))
    to_database, to_people = island.cables
    server = stack.enter_context(PostgresServer(host=to_database.here))
    database = server.new_labd_database()
    options = ("--database", database, "--keys", str(tmp_path / "keys"))
    leader = Daemon(tmp_path / "leader", *options, "--insecure-on-network", host=to_people.there, prefix=island.prefix)
    other = Daemon(tmp_path / "other", *options)
    for daemon in (leader, other):
        stack.enter_context(daemon)
    assert _leads(database, leader)
    stack.enter_context(StreamAgent(f"{leader.agents},{other.agents}", "bench-1", name="agent-1"))
    stack.enter_context(StreamAgent(other.agents, "bench-2", name="agent-2"))
    stack.enter_context(StreamAgent(other.agents, "bench-3", name="agent-3"))
    for bench in ("bench-1", "bench-2", "bench-3"):
        until(lambda b=bench: _state(other.client, b) == "available", f"{bench} is there")  # type: ignore[misc]
    held = leader.client.create_lease(selector="name=bench-2", holder="ada", ttl_s=5)
    waiting = leader.client.create_lease(selector="name=bench-2", holder="bob", ttl_s=600)
    lasting = leader.client.create_lease(selector="name=bench-1", holder="eve", ttl_s=600)
    with _Crowd(LabClient(leader.client.url, timeout_s=30)) as crowd:
        until(lambda: len(crowd.acknowledged) > 3, "the crowd is served")
        to_database.pull()
        cut = running_time()
        until(lambda: _leads(database, other), "the other one leads")
        taken_over = running_time() - cut
        # What the leader was in the middle of must not keep the others from deciding.
        until(lambda: other.client.lease(waiting["id"])["state"] == "GRANTED", "the dead holder is noticed")
        # The one that is cut off says so, in a bounded time.
        asked = running_time()
        problem = until(lambda: _problem(leader.client), "a refusal")
        assert running_time() - asked < 15
    assert taken_over < TAKEOVER_S
    assert (problem.status, problem.retry_after_s is not None) == (503, True)
    # Its agents do not stay with it, as nobody could use their benches.
    until(lambda: _state(other.client, "bench-1") == "leased", "its agent attaches to the other one")
    other.client.release(lasting["id"])
    until(lambda: _state(other.client, "bench-1") == "available", "the agent has heard the end of the lease")
    to_database.plug_in()
    until(lambda: _problem(leader.client) is None, "it serves again")
    assert _leads(database, other)
    assert leader.client.lease(waiting["id"])["state"] == "GRANTED"
    # Nothing that was acknowledged is lost, and nothing was decided twice.
    known = {lease["id"] for lease in other.client.leases()}
    assert set(crowd.acknowledged) <= known
    assert other.client.lease(held["id"])["end_reason"] == "heartbeat_lost"
    ends = [entry for entry in other.client.audit() if entry["subject"] == f"lease/{held['id']}"]
    assert [entry["action"] for entry in ends].count("lease.ended") == 1
    # A client that knows both goes on with the other one when the first falls silent in the middle of a connection.
    monkeypatch.setattr("random.choice", lambda urls: urls[0])
    with LabClient(f"{leader.client.url},{other.client.url}", timeout_s=60) as both:
        both.benches()
        stream = both.follow_lease(waiting["id"])
        assert next(stream)["state"] == "GRANTED"
        to_people.pull()
        asked = running_time()
        assert both.lease(waiting["id"])["state"] == "GRANTED"
        assert running_time() - asked < SILENCE_S
        # So does a stream of events that was open.
        other.client.heartbeat(waiting["id"])
        assert next(lease for lease in stream if lease["state"] == "ACTIVE")
        assert running_time() - asked < 2 * SILENCE_S
