"""State, errors and load of a bus from Lua, played against a real agent."""

from typing import TYPE_CHECKING

import can
import pytest

from bench_agent.client import BenchClient
from tests.unit.bench_agent.conftest import (  # noqa: F401 - fixtures
    bench,
    open_bench,
    running,
    signer,
    start_agent,
)
from tests.unit.bench_agent.harness import AgentFile, RunningAgent, bench_entry

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.scenarios.conftest import Play

HEAD = "local test, can = require('test'), require('can')\nlocal bus = can.bus('powertrain')\n"


@pytest.fixture
def agent_file(tmp_path: "Path") -> AgentFile:
    entry = bench_entry("bench-1", ecus=False)
    entry["can"][0] |= {"bitrate": 500_000, "bus_off": {"recover": "manual"}}
    return AgentFile(tmp_path, [entry])


def test_a_healthy_bus(play: "Play", bench: BenchClient) -> None:  # noqa: F811
    played = play(
        HEAD
        + """
        test.equal(bus:state(), "error-active")
        bus:expect_state("error-active")
        bus:send(0x123, "11 22")
        local stats = bus:stats()
        test.equal({ stats.sent, stats.lost, stats.error_frames, stats.bitrate }, { 1, 0, 0, 500000 })
        test.is_true(stats.load_typical <= stats.load_worst)
        test.equal(stats.errors.no_ack, nil)
        test.equal(bus:recover().state, "error-active")
        """,
        bench=bench,
    )
    assert played.verdict == "passed", played.result["failure"]


def test_bus_off_is_seen_and_left(play: "Play", bench: BenchClient, running: RunningAgent) -> None:  # noqa: F811
    with running.node() as node:
        node.send(can.Message(arbitration_id=0x40, is_error_frame=True, is_extended_id=False, data=bytes(8)))
        played = play(
            HEAD
            + """
            bus:expect_state("bus-off", "10s")
            local stats = bus:stats()
            test.equal({ stats.bus_offs, stats.errors.bus_off, stats.last_error }, { 1, 1, "bus off" })
            test.equal(bus:recover().state, "error-active")
            test.equal(bus:stats().recoveries, 1)
            """,
            bench=bench,
        )
    assert played.verdict == "passed", played.result["failure"]


def test_a_state_that_does_not_come_fails_the_case(play: "Play", bench: BenchClient) -> None:  # noqa: F811
    played = play(HEAD + 'test.case("off", function() bus:expect_state("bus-off", "20ms") end)', bench=bench)
    assert played.verdict == "failed"
    [case] = played.result["cases"]
    assert case["failure"] is not None
    assert "powertrain was not bus-off within 20 ms; it is error-active" in case["failure"]["message"]


def test_an_unknown_state_is_a_mistake_of_the_script(play: "Play", bench: BenchClient) -> None:  # noqa: F811
    played = play(HEAD + 'bus:expect_state("busoff")', bench=bench)
    assert played.verdict == "error"
    assert played.result["failure"] is not None
    assert "state is 'busoff'; did you mean bus-off?" in played.result["failure"]["message"]
