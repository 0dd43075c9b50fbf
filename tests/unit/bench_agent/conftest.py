"""Fixtures: a real agent on a loopback port, with simulated ECUs on virtual buses."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from anyio.from_thread import start_blocking_portal

from bench_agent.client import BenchClient
from tests.unit.bench_agent.harness import (
    ECU,
    AgentFile,
    FakeLabd,
    OpenBench,
    RunningAgent,
    Signer,
    StartAgent,
    bench_entry,
    make_agent,
)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def signer() -> Signer:
    return Signer()


@pytest.fixture
def agent_file(tmp_path: Path) -> AgentFile:
    (tmp_path / "ecm.yaml").write_text(ECU)
    return AgentFile(tmp_path, [bench_entry("bench-1"), bench_entry("bench-2")])


@pytest.fixture
def start_agent(agent_file: AgentFile, signer: Signer) -> Iterator[StartAgent]:
    """Starts an agent; called again, a second one (the same after a restart, once the first is stopped)."""
    running: list[RunningAgent] = []
    with start_blocking_portal() as portal:

        def start(*, keys: bool = True) -> RunningAgent:
            if keys:
                agent_file.data.mkdir(exist_ok=True)
                (agent_file.data / "labd-keys.json").write_text(signer.jwks)
            agent = portal.call(make_agent, agent_file.write())
            portal.call(agent.start)
            running.append(RunningAgent(agent, portal, agent_file))
            return running[-1]

        yield start
        for one in running:
            portal.call(one.agent.stop)


@pytest.fixture
def running(start_agent: StartAgent) -> RunningAgent:
    return start_agent()


@pytest.fixture
def open_bench(running: RunningAgent, signer: Signer) -> Iterator[OpenBench]:
    """A client of the running agent, with a good token unless told otherwise."""
    opened: list[BenchClient] = []

    def open_one(token: str | None = None, bench: str = "bench-1", epoch: int = 1) -> BenchClient:
        held = signer.token(bench, epoch) if token is None else token
        opened.append(BenchClient(running.address, bench, held, timeout_s=10))
        return opened[-1]

    yield open_one
    for client in opened:
        client.close()


@pytest.fixture
def bench(open_bench: OpenBench) -> BenchClient:
    return open_bench()


@pytest.fixture
def labd(signer: Signer, agent_file: AgentFile) -> Iterator[FakeLabd]:
    fake = FakeLabd(signer)
    agent_file.labd = fake.address
    yield fake
    fake.stop()
