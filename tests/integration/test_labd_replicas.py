"""Several labds, as processes, on one PostgreSQL database: any serves, one leads, and any may die."""

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest

from labd.client import LabClient
from tests.integration.labd_support import DEADLINE_S, Daemon, StreamAgent, until
from tests.postgresql import PostgresServer
from tests.running_time import running_time

RUNNER = f"{sys.executable} {Path(__file__).with_name('labd_runner.py')}"
TAKEOVER_S = 5.0


@pytest.fixture
def database(postgresql: PostgresServer) -> Iterator[str]:
    url = postgresql.new_labd_database()
    yield url
    postgresql.drop(url)


def _replica(folder: Path, database: str, number: int) -> Daemon:
    options = ("--database", database, "--keys", str(folder / "keys"))
    return Daemon(folder / f"data-{number}", *options, runner=RUNNER)


@pytest.fixture
def three(tmp_path: Path, database: str) -> Iterator[list[Daemon]]:
    with ExitStack() as stack:
        daemons = [_replica(tmp_path, database, number) for number in range(3)]
        for daemon in daemons:
            daemon.launch()
            stack.callback(daemon.process.kill)
        for daemon in daemons:
            daemon.wait()
            stack.callback(daemon.kill)
        yield daemons


def _name(daemon: Daemon) -> str:
    return (daemon.data / "replica").read_text("utf-8")


def _leader(database: str, daemons: list[Daemon]) -> Daemon:
    def look() -> Daemon | None:
        with psycopg.connect(database) as connection:
            row = connection.execute("SELECT leader FROM lab").fetchone()
        return next((daemon for daemon in daemons if row is not None and _name(daemon) == row[0]), None)

    return until(look, "somebody leads")


def _available(client: LabClient, *names: str) -> bool:
    states = {bench["name"]: bench["state"] for bench in client.benches()}
    return all(states.get(name) == "available" for name in names)


def _granted(client: LabClient, lease_id: str) -> bool:
    return client.lease(lease_id)["state"] in ("GRANTED", "ACTIVE")


def test_benches_of_any_replica_are_leased_through_any(three: list[Daemon]) -> None:
    agents = [StreamAgent(daemon.agents, f"bench-{n}", name=f"agent-{n}") for n, daemon in enumerate(three)]
    with agents[0], agents[1], agents[2]:
        for daemon in three:
            until(lambda d=daemon: _available(d.client, "bench-0", "bench-1", "bench-2"), "all see all benches")  # type: ignore[misc]
        for number, daemon in enumerate(three):
            elsewhere = f"name=bench-{(number + 1) % 3}"
            lease = daemon.client.create_lease(selector=elsewhere, holder="ada", ttl_s=600)
            assert lease["state"] == "GRANTED"
            other = three[(number + 2) % 3].client
            waiting = other.create_lease(selector=elsewhere, holder="bob", ttl_s=600)
            assert waiting["state"] == "QUEUED"
            # The order to fence has to reach the agent at another replica, and its answer to free the bench.
            other.release(lease["id"])
            until(lambda c=daemon.client, i=waiting["id"]: _granted(c, i), "the next holder has it")  # type: ignore[misc]
        keys = [daemon.client._http.request("GET", ".well-known/jwks.json") for daemon in three]
        assert keys[0] == keys[1] == keys[2]


def test_a_run_is_followed_through_another_replica_and_its_runner_stays_where_it_started(three: list[Daemon]) -> None:
    with StreamAgent(three[0].agents, "bench-1"):
        until(lambda: _available(three[1].client, "bench-1"), "the bench is there")
        run = three[1].client.create_run(script="log log pass", holder="ci")
        log = three[2].client.follow_log(run["id"])
        assert [line["text"] for line in log] == ["line 1", "line 2"]
        assert three[0].client.run(run["id"])["state"] == "PASSED"
        until(lambda: _available(three[0].client, "bench-1"), "the bench is free again")


def test_the_leaders_kill_9_costs_a_waiter_less_than_five_seconds(three: list[Daemon], database: str) -> None:
    leader = _leader(database, three)
    others = [daemon for daemon in three if daemon is not leader]
    addresses = ",".join(daemon.agents for daemon in [leader, *others])
    with StreamAgent(addresses, "bench-1"):
        until(lambda: _available(others[0].client, "bench-1"), "the bench is there")
        held = leader.client.create_lease(selector="name=bench-1", holder="ada", ttl_s=5, duration_s=600)
        waiting = others[1].client.create_lease(selector="name=bench-1", holder="bob", ttl_s=600)
        died = running_time()
        leader.kill()
        others[0].client.heartbeat(held["id"])
        others[0].client.release(held["id"])
        until(lambda: _granted(others[0].client, waiting["id"]), "the waiter is served")
        assert running_time() - died < TAKEOVER_S
        assert _leader(database, others) is not leader
        # What happens by itself goes on: a holder that died is noticed.
        lost = others[0].client.create_lease(selector="name=bench-1", holder="eve", ttl_s=5)
        others[0].client.release(waiting["id"])
        until(
            lambda: others[1].client.lease(lost["id"])["end_reason"] == "heartbeat_lost", "the dead holder is noticed"
        )
        leader.start()


def test_a_leader_that_is_stopped_is_replaced_and_does_nothing_when_it_goes_on(
    three: list[Daemon], database: str
) -> None:
    leader = _leader(database, three)
    others = [daemon for daemon in three if daemon is not leader]
    with StreamAgent(others[0].agents, "bench-1"):
        until(lambda: _available(others[1].client, "bench-1"), "the bench is there")
        held = others[0].client.create_lease(selector="name=bench-1", holder="ada", ttl_s=5)
        leader.process.send_signal(signal.SIGSTOP)
        stopped = running_time()
        try:
            _leader(database, others)
            assert running_time() - stopped < TAKEOVER_S
            until(lambda: others[1].client.lease(held["id"])["end_reason"] == "heartbeat_lost", "time goes on")
            again = others[1].client.create_lease(selector="name=bench-1", holder="bob", ttl_s=600)
            until(lambda: _granted(others[1].client, again["id"]), "the bench is handed on")
        finally:
            leader.process.send_signal(signal.SIGCONT)
        until(lambda: _granted(leader.client, again["id"]), "it sees what the others did")
        assert _leader(database, three) is not leader
        until(lambda: _available(leader.client, "bench-1") is False, "and knows the agents again")
        mine = leader.client.create_lease(selector="name=bench-1", holder="eve", ttl_s=600)
        others[0].client.release(again["id"])
        until(lambda: _granted(leader.client, mine["id"]), "it serves again")


def test_postgresql_may_be_restarted(tmp_path: Path) -> None:
    with PostgresServer(durable=True) as server, ExitStack() as stack:
        database = server.new_labd_database()
        daemons = [stack.enter_context(_replica(tmp_path, database, number)) for number in range(2)]
        stack.enter_context(StreamAgent(daemons[0].agents, "bench-1"))
        clients = [daemon.client for daemon in daemons]
        until(lambda: _available(clients[1], "bench-1"), "the bench is there")
        held = clients[0].create_lease(selector="name=bench-1", holder="ada", ttl_s=6)
        waiting = clients[1].create_lease(selector="name=bench-1", holder="bob", ttl_s=600)
        attached = _sessions(database)
        server.stop()
        down = time.monotonic()
        refused = until(lambda: _refusal(clients[1]), "labd says what is wrong")
        assert "503" in refused
        assert "cannot be reached" in refused
        assert "labd@" in refused
        # Longer than the holder's TTL: it could not beat, and must not lose its bench for that.
        until(lambda: time.monotonic() - down > 8, "it stays away for a while")
        server.start()
        until(lambda: _refusal(clients[1]) is None, "labd serves again")
        assert _sessions(database) == attached  # no agent had to come back
        assert _granted(clients[1], held["id"])
        clients[0].heartbeat(held["id"])
        clients[1].release(held["id"])
        until(lambda: _granted(clients[0], waiting["id"]), "the waiter is served")
        assert all(daemon.process.poll() is None for daemon in daemons)


def _sessions(database: str) -> list[tuple[str, ...]]:
    with psycopg.connect(database) as connection:
        return connection.execute("SELECT agent, session FROM attachments").fetchall()


def _refusal(client: LabClient) -> str | None:
    try:
        client.benches()
    except Exception as error:
        return f"{error!r} {getattr(error, 'status', '')} {error}"
    return None


def test_a_labd_with_another_key_is_refused(tmp_path: Path, database: str) -> None:
    with _replica(tmp_path, database, 0):
        other = Daemon(tmp_path / "other", "--database", database)
        process = other.popen()
        _, err = process.communicate(timeout=DEADLINE_S)
        assert process.returncode == 1
        assert "but this lab's has" in err or "is missing: this lab's has" in err
        assert "labd accept-keys" in err
        assert "Traceback" not in err


def test_a_replica_that_stops_hands_the_lead_on_and_keeps_what_waits(three: list[Daemon], database: str) -> None:
    leader = _leader(database, three)
    others = [daemon for daemon in three if daemon is not leader]
    with StreamAgent(others[0].agents, "bench-1"):
        until(lambda: _available(leader.client, "bench-1"), "the bench is there")
        run = leader.client.create_run(script="log sleep", holder="ci")
        waiting = others[1].client.create_lease(selector="name=bench-1", holder="bob", ttl_s=600)
        until(lambda: others[0].client.run(run["id"])["state"] == "RUNNING", "it runs")
        code, _, err = leader.terminate()
        assert code == 0, err
        until(lambda: _granted(others[1].client, waiting["id"]), "the waiter is served")
        assert others[0].client.run(run["id"])["reason"] == "labd was stopped"
        assert _leader(database, others) is not leader
        assert os.path.exists(leader.data / "replica")  # noqa: PTH110
        leader.start()
