"""Two labds as they run by default, on one PostgreSQL database: one authority, one set of people, one fleet."""

import json
import queue
import re
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from bench_agent.client import BenchClient, BenchError
from deploy.demo.lab import DEMO_AGENT, Lab, agent_command, enrol, service
from labd.client import LabClient, ProblemError
from labd.client.types import Lease, ShareMode
from tests.postgresql import PostgresServer
from tests.running_time import running_time

DEADLINE_S = 60.0
AGAIN_S = 5.0
"""Within this an agent has to be attached again once its labd died."""


class Twins:
    """Labds ``a`` and ``b`` with the same keys; `lab` is the first of them, with the agent."""

    def __init__(self, folder: Path, database: str, stack: ExitStack) -> None:
        self.folder, self._database, self._stack = folder, database, stack
        self.labs = {name: Lab(folder / name) for name in "ab"}
        for lab in self.labs.values():
            lab.folder.mkdir()
            lab.processes["labd"] = self._start(lab, "127.0.0.1:0", "127.0.0.1:0")
        for lab in self.labs.values():
            ready = lab.folder / "labd" / "labd.json"
            lab.wait_for("ready labd", ready.exists)
            endpoints = json.loads(ready.read_text())
            lab.http, lab.agents, lab.ca = endpoints["http"], endpoints["agents"], endpoints["ca"]
        (token,) = [path for lab in self.labs.values() if (path := lab.folder / "labd" / "admin.token").exists()]
        for lab in self.labs.values():
            lab.token = token.read_text().strip()

    def _start(self, lab: Lab, http: str, agents: str) -> "subprocess.Popen[bytes]":
        where = ["--data", str(lab.folder / "labd"), "--keys", str(self.folder / "keys")]
        command = ["labd.daemon", "serve", *where, "--http", http, "--agents", agents, "--database", self._database]
        return self._stack.enter_context(service("labd", command, lab.folder))

    @contextmanager
    def agent(self, enrolled_at: str, *attached_to: str) -> Iterator["subprocess.Popen[bytes]"]:
        """The demo's agent, enrolled at one labd, and attached to one of several."""
        enrol(self.labs[enrolled_at], DEMO_AGENT, self.folder / "agent")
        (self.folder / "agent.log").unlink(missing_ok=True)
        labd = ",".join(self.labs[name].agents for name in attached_to)
        command = agent_command(DEMO_AGENT, labd, self.folder / "agent", secure=True)
        with service("agent", command, self.folder) as process:
            self.labs[enrolled_at].wait_for_benches("bench-1")
            yield process

    @property
    def attached(self) -> str | None:
        """Where the agent was welcomed last."""
        found = re.findall(r"attached to labd\s+labd=(\S+)", (self.folder / "agent.log").read_text())
        return found[-1] if found else None


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory, postgresql: PostgresServer) -> Iterator[Twins]:
    database = postgresql.new_labd_database()
    with ExitStack() as labs:
        yield Twins(tmp_path_factory.mktemp("twins"), database, labs)
    postgresql.drop(database)


def _granted(lab: Lab, client: LabClient) -> Lease:
    lease = client.create_lease(selector="name=bench-1", holder="admin", ttl_s=60)
    lab.wait_for("the lease", lambda: client.lease(lease["id"])["token"] is not None)
    return client.lease(lease["id"])


@contextmanager
def _listening(client: LabClient, lease: Lease, token: str | None = None) -> Iterator[Callable[[], float]]:
    """A stream of a bus that has begun; the function waits for its end, and says when that was (monotonic, s).

    ``token`` is of somebody with whom the lease is shared.
    """
    heard, ended = threading.Event(), queue.SimpleQueue[float]()
    tls = client.agent_tls(lease["id"], "bench-1")

    def listen(bench: BenchClient) -> None:
        try:
            with bench.bus("powertrain").stream() as frames:
                while True:
                    if frames.read(DEADLINE_S) is not None:
                        heard.set()
        except BenchError:
            ended.put(running_time())

    with BenchClient(str(lease["address"]), "bench-1", token or str(lease["token"]), tls=tls) as bench:
        thread = threading.Thread(target=listen, args=(bench,), daemon=True)
        thread.start()
        assert heard.wait(DEADLINE_S)
        yield lambda: ended.get(timeout=DEADLINE_S)
        thread.join(DEADLINE_S)


def test_who_is_known_to_one_labd_is_known_to_the_other(twins: Twins, stack: ExitStack) -> None:
    a, b = twins.labs["a"], twins.labs["b"]
    client_a, client_b = stack.enter_context(a.client()), stack.enter_context(b.client())
    assert client_a.authority() == client_b.authority()
    agent = stack.enter_context(twins.agent("a", "b"))
    # The holder's certificate is a's, its lease token too.
    lease = _granted(a, client_a)
    tls = client_a.agent_tls(lease["id"], "bench-1")
    with BenchClient(str(lease["address"]), "bench-1", str(lease["token"]), tls=tls) as bench:
        assert "WVW" in str(bench.ecu("ECM").call("read", did="VIN"))
    # The end of a lease is told to a, and cuts the stream at an agent of b's.
    with _listening(client_a, lease) as ended:
        released = running_time()
        client_a.release(lease["id"])
        assert ended() - released < 1.0
    b.wait_for_benches("bench-1")
    # A token made at a opens b, and is worth nothing there once a has revoked it.
    client_a.create_user("ada")
    made = client_a.create_token("laptop", owner="ada")
    with LabClient(b.http, ca=b.ca, token=made["token"]) as ada:
        assert ada.whoami()["name"] == "ada"
        client_a.revoke_token(made["prefix"], "lost")
        revoked = running_time()
        while True:
            try:
                ada.whoami()
            except ProblemError as error:
                assert error.status == 401
                break
            assert running_time() - revoked < DEADLINE_S
        assert running_time() - revoked < 1.0
    # The agent, too.
    lease = _granted(b, client_b)
    with _listening(client_b, lease) as ended:
        revoked = running_time()
        client_a.revoke_agent("demo", "the machine was stolen")
        assert ended() - revoked < 1.0
    assert client_b.lease(lease["id"])["state"] == "ENDED"
    assert client_b.benches() == []
    assert agent.wait(DEADLINE_S) == 1
    assert "the machine was stolen" in (twins.folder / "agent.log").read_text()


def test_what_is_taken_back_through_one_labd_is_cut_at_an_agent_of_the_other(twins: Twins, stack: ExitStack) -> None:
    a, b = twins.labs["a"], twins.labs["b"]
    client = stack.enter_context(a.client())
    for name in ("bob", "eve"):
        client.create_user(name)
        client.save_member("default", name, "engineer")
    stack.enter_context(twins.agent("b", "b"))
    lease = _granted(a, client)
    modes: dict[str, ShareMode] = {"bob": "co-driver", "eve": "observer"}
    shared = {name: str(client.share(lease["id"], name, mode)["benches"][0]["token"]) for name, mode in modes.items()}
    with _listening(client, lease) as holders_end:
        for name, token in shared.items():
            with _listening(client, lease, token) as ended:
                taken_back = running_time()
                client.unshare(lease["id"], name)
                assert ended() - taken_back < 1.0
        given_away = running_time()
        client.transfer(lease["id"], "bob")
        assert holders_end() - given_away < 1.0
    client.release(lease["id"], "the test is over")
    b.wait_for_benches("bench-1")


def test_an_agent_is_back_within_seconds_when_its_labd_has_died(twins: Twins, stack: ExitStack) -> None:
    stack.enter_context(twins.agent("b", "a", "b"))
    doomed, other = twins.labs["a"], twins.labs["b"]
    if twins.attached == other.agents:
        doomed, other = other, doomed
    client = stack.enter_context(other.client())
    lease = _granted(other, client)
    with _listening(client, lease) as ended:
        doomed.processes.pop("labd").kill()
        died = running_time()
        other.wait_for("the agent", lambda: twins.attached == other.agents)
        assert running_time() - died < AGAIN_S
        # The stream went on meanwhile; what the other labd says reaches the agent.
        released = running_time()
        client.release(lease["id"])
        assert ended() > released
    other.wait_for_benches("bench-1")
