"""From the bench to labd's sink, over real gRPC: a real agent with a simulated ECU, and labds that come and go."""

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal

from bench_agent.client import BenchClient
from labd.agents.server import AgentsServer
from labd.model.measurements import CATALOGUE, Source
from labd.model.point import Point
from labd.services.agent_points import AgentPoints
from labd.services.lab import Lab
from labd.telemetry.writer import Writer
from tests.points import Collected
from tests.unit.bench_agent.harness import AgentFile, RunningAgent, Signer, StartAgent
from tests.unit.labd.fakes import FakeClock, open_lab


class Labd:
    """One labd after the other on the same data and the same port, all with one sink."""

    def __init__(self, folder: Path, portal: BlockingPortal) -> None:
        self.sink = Collected()
        self.port = 0
        self._folder = folder
        self._portal = portal
        self._lab: Lab
        self._server: AgentsServer

    def start(self) -> None:
        clock = FakeClock()
        clock.time = time.time()
        self._lab = open_lab(self._folder, clock)
        self._lab.core.points = self.sink
        self._writer = Writer(self._folder / "points")
        self._writer.start()
        self._lab.agent_points = AgentPoints(self._lab.core, self._writer)
        self._portal.call(self._serve)

    def stop(self) -> None:
        self._lab.agent_points.close()
        self._portal.call(self._server.stop)
        self._writer.stop()
        self._lab.core.store.close()

    async def _serve(self) -> None:
        deadline = asyncio.get_running_loop().time() + 20
        while True:
            self._server = AgentsServer(self._lab)
            try:
                self.port = self._server.bind(f"127.0.0.1:{self.port}")
                break
            except Exception:
                await self._server.stop()
                if asyncio.get_running_loop().time() > deadline:
                    raise
                await asyncio.sleep(0.05)
        await self._server.start()


@pytest.fixture
def labd(tmp_path: Path) -> Iterator[Labd]:
    (tmp_path / "labd").mkdir()
    with start_blocking_portal() as portal:
        labd = Labd(tmp_path / "labd", portal)
        labd.start()
        yield labd
        labd.stop()


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 40
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def measured(running: RunningAgent) -> None:
    running.portal.call(running.agent.measuring.measure)


def requests(points: list[Point]) -> list[object]:
    return [point.fields["requests"] for point in points]


def test_nothing_is_lost_and_nothing_comes_twice_while_labd_is_restarted(
    labd: Labd, agent_file: AgentFile, start_agent: StartAgent, signer: Signer
) -> None:
    agent_file.labd = f"127.0.0.1:{labd.port}"
    agent_file.settings = {"metrics": {"interval_s": 3600}}
    running = start_agent()
    until(running.agent.attached.is_set)
    (running.agent.config.agent.data_dir / "labd-keys.json").write_text(signer.jwks)
    running.agent._keys.replace(signer.jwks)  # the lease is the test's, not labd's
    with BenchClient(running.address, "bench-1", signer.token(epoch=10**9), timeout_s=20) as bench:
        ecm = bench.ecu("ECM")
        for interval in range(6):
            if interval == 2:
                labd.stop()
            if interval == 4:
                labd.start()
            for _ in range(interval + 1):
                ecm.call("read", did="VIN")
            measured(running)
        until(lambda: len(labd.sink.of("ecu_uds")) >= 6)
    assert requests(labd.sink.of("ecu_uds")) == [1, 2, 3, 4, 5, 6]
    assert all(
        point.tags == {"agent": "agent-1", "bench": "bench-1", "ecu": "ECM"} for point in labd.sink.of("ecu_uds")
    )
    assert all(0 < float(point.fields["latency_max_ms"]) < 20_000 for point in labd.sink.of("ecu_uds"))
    buses = labd.sink.of("can_bus")
    assert sorted(point.tags["bench"] for point in buses) == 6 * ["bench-1"] + 6 * ["bench-2"]
    assert len({(point.time, *point.tags.values()) for point in buses}) == 12
    times = [point.time for point in labd.sink.of("agent")]
    assert times == sorted(times) and len(times) == 6
    agents = {name for name, one in CATALOGUE.items() if one.source is Source.AGENT}
    assert {point.measurement for point in labd.sink.points} < agents
