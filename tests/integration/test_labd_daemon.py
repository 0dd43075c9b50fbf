"""labd as a process: what it promises survives kill -9, and what keeps it from starting is said plainly."""

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from labd.client import LabClient, LabUnreachable, ProblemError
from tests.integration.labd_support import DEADLINE_S, Daemon, StreamAgent, until

RUNNER = f"{sys.executable} {Path(__file__).with_name('labd_runner.py')}"

CLASSES = ("low", "normal", "high")


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with Daemon(tmp_path / "data", runner=RUNNER) as daemon:
        yield daemon


def _available(client: LabClient, name: str = "bench-1") -> bool:
    return any(bench["name"] == name and bench["state"] == "available" for bench in client.benches())


def _ended(client: LabClient, run_id: str) -> dict[str, object] | None:
    run = client.run(run_id)
    return dict(run) if run["ended_at"] else None


def test_what_was_acknowledged_survives_kill_9_at_any_instant(daemon: Daemon) -> None:
    """Leases, queue order, runs and log lines, written by many at once when labd dies."""
    with StreamAgent(daemon.agents, "bench-1", "bench-2"):
        until(lambda: _available(daemon.client, "bench-2"), "both benches are there")
        held = daemon.client.create_lease(selector="name=bench-2", holder="holder", ttl_s=600)
        run = daemon.client.create_run(script="log log log sleep", selector="name=bench-1", holder="ci")
        lines = daemon.client.follow_log(run["id"])
        logged = [next(lines) for _ in range(3)]
        lines.close()

        acknowledged: list[dict[str, object]] = []
        enough = threading.Event()

        def ask(number: int) -> None:
            with LabClient(f"http://{daemon.http}") as client:
                try:
                    while True:
                        lease = client.create_lease(
                            selector="name=bench-2", holder=f"w{number}", ttl_s=600, priority=CLASSES[number % 3]
                        )
                        acknowledged.append(dict(lease))
                        if len(acknowledged) > 60:
                            enough.set()
                except (LabUnreachable, ProblemError):
                    return

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        assert enough.wait(DEADLINE_S)
        daemon.kill()
        for thread in threads:
            thread.join(DEADLINE_S)

        daemon.start()
        client = daemon.client
        assert client.lease(held["id"])["state"] == "GRANTED"
        assert client.lease(held["id"])["epoch"] == held["epoch"]
        queue = client.leases("QUEUED")
        positions = {lease["id"]: lease["position"] for lease in queue}
        assert all(str(lease["id"]) in positions for lease in acknowledged)
        order = [(-CLASSES.index(lease["priority"]), lease["created_at"]) for lease in queue]
        assert order == sorted(order)
        assert client.run(run["id"])["state"] == "RUNNING"
        stored = client.follow_log(run["id"])
        assert [next(stored) for _ in range(3)] == logged
        stored.close()

        until(lambda: client.bench("bench-2")["health"] == "healthy", "the agent is back")
        client.release(held["id"])
        next_up = queue[0]["id"]
        granted = until(lambda: (one := client.lease(next_up))["state"] == "GRANTED" and one, "the first in the queue")
        assert granted["epoch"] == (held["epoch"] or 0) + 1


def test_a_runner_outlives_labds_kill_9_and_delivers_its_result_to_the_next(daemon: Daemon, tmp_path: Path) -> None:
    go = tmp_path / "go"
    with StreamAgent(daemon.agents, "bench-1"):
        until(lambda: _available(daemon.client), "the bench is there")
        run = daemon.client.create_run(script="log until-file log pass", files={"path": str(go)}, holder="ci")
        lines = daemon.client.follow_log(run["id"])
        next(lines)
        lines.close()
        daemon.kill()
        daemon.start()
        assert daemon.client.run(run["id"])["state"] == "RUNNING"
        go.touch()
        ended = until(lambda: _ended(daemon.client, run["id"]), "the run ends")
        assert (ended["state"], ended["reason"]) == ("PASSED", "")
        assert [line["text"] for line in daemon.client.follow_log(run["id"])] == ["line 1", "line 2"]
        assert daemon.client.result(run["id"])["benches"] == ["bench-1"]
        until(lambda: _available(daemon.client), "the bench is free again")


def test_a_runner_that_died_with_labd_makes_an_error_and_frees_the_bench(daemon: Daemon) -> None:
    with StreamAgent(daemon.agents, "bench-1"):
        until(lambda: _available(daemon.client), "the bench is there")
        run = daemon.client.create_run(script="log sleep", holder="ci")
        identity = daemon.data / "runs" / run["id"] / "process.json"
        until(identity.exists, "the runner is started")
        daemon.process.send_signal(signal.SIGSTOP)
        pid = json.loads(identity.read_text("utf-8"))["pid"]
        daemon.kill()
        os.kill(pid, signal.SIGKILL)
        daemon.start()
        ended = until(lambda: _ended(daemon.client, run["id"]), "the run ends")
        assert ended["state"] == "ERROR"
        assert "the runner ended" in str(ended["reason"])
        until(lambda: _available(daemon.client), "the bench is free again")


def test_a_crash_of_the_runner_is_an_error_with_its_last_words(daemon: Daemon) -> None:
    with StreamAgent(daemon.agents, "bench-1"):
        until(lambda: _available(daemon.client), "the bench is there")
        run = daemon.client.create_run(script="log crash", holder="ci")
        log = [line["text"] for line in daemon.client.follow_log(run["id"])]
        assert log == ["line 1"]
        ended = daemon.client.run(run["id"])
        assert ended["state"] == "ERROR"
        assert ended["reason"] == "the runner was killed by SIGSEGV; it wrote: about to crash"
        until(lambda: _available(daemon.client), "the bench is free again")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_labd_ends_its_runs_and_says_goodbye_to_followers(daemon: Daemon, number: signal.Signals) -> None:
    with StreamAgent(daemon.agents, "bench-1"):
        until(lambda: _available(daemon.client), "the bench is there")
        run = daemon.client.create_run(script="log sleep", holder="ci")
        waiting = daemon.client.create_run(script="pass", holder="ci")
        lines = daemon.client.follow_log(run["id"])
        next(lines)
        identity = json.loads((daemon.data / "runs" / run["id"] / "process.json").read_text("utf-8"))
        code, out, err = daemon.terminate(number)
        assert code == 0
        assert out.startswith("labd serves http://127.0.0.1:")
        assert "Traceback" not in err
        assert not Path(f"/proc/{identity['pid']}").exists()
        assert not (daemon.data / "labd.json").exists()
        daemon.start()
        assert (daemon.client.run(run["id"])["state"], daemon.client.run(run["id"])["reason"]) == (
            "ERROR",
            "labd was stopped",
        )
        ended = until(lambda: _ended(daemon.client, waiting["id"]), "what waited is served by the next labd")
        assert ended["state"] == "PASSED"


def _refused(data: Path, *options: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "labd.daemon", "serve", "--data", str(data), *options],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert done.returncode == 1, done
    assert "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("labd: cannot start: ")
    return last


FREE = ("--http", "127.0.0.1:0", "--agents", "127.0.0.1:0")


def test_what_keeps_labd_from_starting_is_said_in_one_line(daemon: Daemon, tmp_path: Path) -> None:
    other = tmp_path / "other"
    assert f"locked by another labd (process {daemon.process.pid})" in _refused(daemon.data, *FREE)
    assert f"cannot listen on {daemon.http}: Address already in use" in _refused(other, "--http", daemon.http)
    in_use = _refused(other, "--http", "127.0.0.1:0", "--agents", daemon.agents)
    assert f"cannot listen on {daemon.agents} for agents" in in_use
    assert "expected HOST:PORT" in _refused(other, "--http", "8470")
    open_to_all = _refused(other, "--insecure", "--http", "0.0.0.0:0", "--agents", "127.0.0.1:0")
    assert "--insecure listens on loopback only" in open_to_all
    assert "--insecure-on-network" in open_to_all
    assert "begins with https://" in _refused(other, *FREE, "--url", "http://lab.example.com")
    assert "--tls-cert" in _refused(other, *FREE, "--tls-key", str(daemon.data / "labd.json"))
    file = tmp_path / "file"
    file.touch()
    assert "cannot be used" in _refused(file / "data", *FREE)


def test_a_database_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    with Daemon(tmp_path / "data") as daemon:
        daemon.terminate()
        database, key = daemon.data / "labd.sqlite3", daemon.data / "signing-key.pem"
    sound = key.read_bytes()
    key.write_text("rubbish")
    assert "the signing key" in _refused(daemon.data, *FREE)
    key.write_bytes(sound)
    connection = sqlite3.connect(database)
    connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.commit()
    connection.close()
    assert f"a newer labd wrote the database {database}" in _refused(daemon.data, *FREE)
    database.write_bytes(b"\x00rubbish\xff" * 4096)
    assert f"the database {database} cannot be read" in _refused(daemon.data, *FREE)


def test_many_who_wait_to_change_something_hold_nobody_up_who_looks(daemon: Daemon) -> None:
    """As when hundreds of runs end at once."""
    open_files = Path(f"/proc/{daemon.process.pid}/fd")
    many = 40

    def ask(number: int) -> str:
        with LabClient(f"http://{daemon.http}", timeout_s=60) as client:
            return client.create_lease(selector="name=bench-1", holder=f"w{number}", ttl_s=600)["id"]

    with StreamAgent(daemon.agents, "bench-1"), ThreadPoolExecutor(many) as pool:
        until(lambda: _available(daemon.client), "the bench is there")
        before = len(list(open_files.iterdir()))
        database = sqlite3.connect(daemon.data / "labd.sqlite3", isolation_level=None)
        database.execute("BEGIN IMMEDIATE")
        asked = [pool.submit(ask, number) for number in range(many)]
        until(lambda: len(list(open_files.iterdir())) >= before + many, "all have connected")
        for _ in range(20):
            assert _available(daemon.client)
        assert not any(one.done() for one in asked)
        database.execute("ROLLBACK")
        database.close()
        assert len({one.result() for one in asked}) == many


def test_keys_and_database_are_for_their_owner_only(daemon: Daemon) -> None:
    assert daemon.data.stat().st_mode & 0o077 == 0
    for path in daemon.data.iterdir():
        assert path.stat().st_mode & 0o077 == 0, path


def test_opening_the_api_to_the_network_is_warned_of_loudly(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path / "data", "--insecure-on-network")
    daemon.http = "0.0.0.0:0"
    with daemon:
        assert daemon.http.startswith("127.0.0.1:"), "runners are told an address that they can reach"
        _, _, err = daemon.terminate()
    assert "IT IS OPEN TO THE NETWORK" in err


def test_a_connection_that_never_speaks_does_not_keep_labd_from_stopping(daemon: Daemon) -> None:
    host, _, port = daemon.http.rpartition(":")
    with socket.create_connection((host, int(port))):
        assert daemon.terminate()[0] == 0
