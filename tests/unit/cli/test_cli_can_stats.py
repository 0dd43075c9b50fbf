"""labctl can stats and recover against a real agent."""

import json
from collections.abc import Iterator
from pathlib import Path

import can
import pytest
import structlog

from bench_agent.client import BenchClient
from tests.unit.bench_agent.conftest import signer, start_agent  # noqa: F401 - fixtures
from tests.unit.bench_agent.harness import AgentFile, RunningAgent, Signer, StartAgent, bench_entry
from tests.unit.cli.conftest import Labctl
from tests.unit.client.fake_labd import FakeLabd, make_bench

NO_ACK, BUS_OFF = 0x20, 0x40


@pytest.fixture
def agent_file(tmp_path: Path) -> AgentFile:
    entry = bench_entry("bench-1", ecus=False, fd=True)
    entry["can"][0] |= {"bitrate": 500_000, "data_bitrate": 2_000_000, "bus_off": {"recover": "manual"}}
    return AgentFile(tmp_path, [entry])


@pytest.fixture(autouse=True)
def running(labd: FakeLabd, start_agent: StartAgent, signer: Signer) -> Iterator[RunningAgent]:  # noqa: F811
    agent, labd.token = start_agent(), signer.token()
    labd.benches["bench-1"] = make_bench(address=agent.address)
    with structlog.testing.capture_logs():  # the agent's, which runs in this process, are no output of labctl
        yield agent


def tell(running: RunningAgent, classes: int) -> None:
    with running.node() as node:
        node.send(can.Message(arbitration_id=classes, is_error_frame=True, is_extended_id=False, data=bytes(8)))


def test_a_healthy_bus(labctl: Labctl, labd: FakeLabd) -> None:
    result = labctl("can", "stats", "bench-1", "powertrain")
    lines = dict(line.split("  ", 1) for line in result.stdout.splitlines())
    assert {name: value.strip() for name, value in lines.items()} == {
        "state": "error-active",
        "bit rate": "500000 bit/s, data phase 2000000 bit/s",
        "load": "0 frames/s, 0.0 % of the bit rate (at most 0.0 %)",
        "received": "0",
        "sent": "0",
        "lost": "0",
        "error counters": "tx 0, rx 0",
        "error frames": "0",
    }
    assert labd.leases["lease-1"]["state"] == "ENDED"


def test_errors_and_bus_off_are_shown_and_recovered(labctl: Labctl, labd: FakeLabd, running: RunningAgent) -> None:
    tell(running, NO_ACK)
    tell(running, BUS_OFF)
    with BenchClient(running.address, "bench-1", labd.token) as bench:
        assert bench.bus("powertrain").expect_state("bus-off", 10)
    shown = labctl("can", "stats", "bench-1", "powertrain").stdout
    assert "state           bus-off since 20" in shown
    assert "bus-off: it waits for somebody to ask for its recovery" in shown
    assert "no_ack: 1\n" in shown
    assert "no other node acknowledged a frame\n" in shown
    result = labctl("can", "recover", "bench-1", "powertrain", "-o", "json")
    stats = json.loads(result.stdout)
    assert (stats["state"], stats["bus_offs"], stats["recoveries"], stats["fault"]) == ("error-active", 1, 1, "")


def test_an_unknown_bus_is_told_before_anything_is_leased(labctl: Labctl, labd: FakeLabd) -> None:
    result = labctl("can", "stats", "bench-1", "chassis")
    assert (result.exit_code, result.stderr) == (65, "Error: bench bench-1 has no bus 'chassis'; it has powertrain\n")
    assert labd.leases == {}
