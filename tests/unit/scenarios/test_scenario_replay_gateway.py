"""Replays, gateways and forced values from Lua, played against a real agent with two buses."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import can
import pytest

from bench_agent.client import BenchClient
from tests.unit.bench_agent.conftest import (  # noqa: F401 - fixtures
    agent_file,
    open_bench,
    running,
    signer,
    start_agent,
)
from tests.unit.bench_agent.harness import AgentFile, OpenBench, RunningAgent, bench_entry

if TYPE_CHECKING:
    from tests.unit.scenarios.conftest import Play

HEAD = """
local test, can, bench, time = require('test'), require('can'), require('bench'), require('time')
local bus, body = can.bus('powertrain'), can.bus('body')
"""


@pytest.fixture
def two_buses(agent_file: AgentFile) -> AgentFile:  # noqa: F811
    two = bench_entry("bench-3", ecus=False)
    [bus] = two["can"]
    two["can"].append({**bus, "name": "body", "channel": bus["channel"] + "-body"})
    agent_file.benches.append(two)
    return agent_file


@pytest.fixture
def bench(two_buses: AgentFile, open_bench: OpenBench) -> BenchClient:  # noqa: F811
    return open_bench(bench="bench-3")


@pytest.fixture
def node(bench: BenchClient, running: RunningAgent) -> Iterator[can.BusABC]:  # noqa: F811
    with can.Bus(interface="virtual", channel=running.file.channel("bench-3")) as bus:
        yield bus


@pytest.fixture(params=[".blf", ".asc", ".log"])
def log(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Frames 0x100, 0x101, 0x102 ... of four bytes, 10 ms apart; every other one of channel 2."""
    path = tmp_path / f"trip{request.param}"
    with can.Logger(path) as logger:
        for number in range(20):
            logger(
                can.Message(
                    timestamp=1000 + number * 0.01, arbitration_id=0x100 + number, is_extended_id=False,
                    data=bytes(4), channel=number % 2,
                )
            )  # fmt: skip
    return path


def received(node: can.BusABC, count: int) -> list[can.Message]:
    got = [node.recv(10) for _ in range(count)]
    assert None not in got
    return [message for message in got if message is not None]


def test_a_log_is_played_with_its_distances_and_awaited(
    play: "Play", bench: BenchClient, node: can.BusABC, log: Path
) -> None:
    played = play(
        HEAD
        + f"""
        local began = time.monotonic()
        local ended = bus:replay("{log.name}"):wait("20s")
        test.equal({{ ended.sent, ended.failed, ended.done }}, {{ 20, 0, true }})
        test.near(ended.position, 0.19, 0.001)
        test.is_true(time.monotonic() - began >= 0.19, "it was over before its time")
        """,
        bench=bench,
        data_files={log.name: log.read_bytes()},
    )
    assert played.verdict == "passed", played.failure
    got = received(node, 20)
    assert [message.arbitration_id for message in got] == list(range(0x100, 0x114))


@pytest.mark.parametrize("log", [".blf"], indirect=True)
def test_a_replay_is_scaled_chosen_from_and_stopped(
    play: "Play", bench: BenchClient, node: can.BusABC, log: Path
) -> None:
    played = play(
        HEAD
        + """
        local slow = bus:replay("trip.blf", { speed = 0.001 })
        bus:send(0x7FF)  -- the script goes on meanwhile
        test.equal(slow:state().done, false)
        test.is_true(slow:stop().sent <= 1, "more than the first frame within its time")
        bus:replay("trip.blf", { speed = 0, loop = 3, ids = { 0x100, 0x102 } }):wait()
        bus:replay("trip.blf", { speed = 10, channel = "2" }):wait()
        """,
        bench=bench,
        data_files={"trip.blf": log.read_bytes()},
    )
    assert played.verdict == "passed", played.failure
    got = [message.arbitration_id for message in received(node, 18) if message.arbitration_id != 0x7FF]
    assert got == [0x100, *[0x100, 0x102] * 3, *range(0x101, 0x115, 2)]


@pytest.mark.parametrize("log", [".blf"], indirect=True)
@pytest.mark.parametrize(
    ("script", "message"),
    [
        ('bus:replay("trp.blf")', "did you mean 'trip.blf'?"),
        ('bus:replay("notes.txt"):wait("9s")', "notes.txt: its suffix means no log that can be replayed"),
        ('bus:replay("cut.blf"):wait("9s")', "cut.blf: cut off at byte"),
        ('bus:replay("trip.blf", { speed = -1 })', "speed is -1; it must be a number, 0"),
        ('bus:replay("trip.blf", { loop = 0 })', "loop is 0; it must be a whole number"),
        ('bus:replay("trip.blf", { ids = { "x" } })', "ids holds 'x'; it must be a list of arbitration IDs"),
        ('bus:replay("trip.blf", { sped = 1 })', "options has an unknown field"),
        ('bus:replay("trip.blf", { speed = 0.01 }):wait("50ms")', "the replay of trip.blf has not ended within 50 ms"),
    ],
)
def test_what_cannot_be_played_is_told_by_its_name(
    play: "Play", bench: BenchClient, log: Path, script: str, message: str
) -> None:
    content = log.read_bytes()
    played = play(
        f"{HEAD}\n{script}",
        bench=bench,
        data_files={"trip.blf": content, "cut.blf": content[:-40], "notes.txt": b"remember the milk"},
    )
    assert played.verdict == ("failed" if "50ms" in script else "error")
    assert message in played.failure["message"]
    assert str(log.parent.parent) not in played.failure["message"]


def test_a_gateway_forwards_with_faults_until_it_is_stopped(play: "Play", bench: BenchClient, node: can.BusABC) -> None:
    played = play(
        HEAD
        + """
        local gw = bench.gateway{
          from = "powertrain", to = "body",
          faults = {
            { id = 0x100, probability = 0.5, seed = 7, drop = true },
            { id = 0x200, mask = 0x700, flip = "0F", copies = 1 },
            { id = 0x300, delay = "20ms", new_id = 0x301, length = 2 },
          },
        }
        body:send(0x400)  -- expects count from the last send on
        for number = 1, 20 do bus:send(0x100, string.format("%02X", number)) end
        bus:send(0x234, "F0")
        body:expect(0x234, "FF", "10s", { count = 2 })
        bus:send(0x300, "01")
        body:expect(0x301, "01 00", "10s")
        bus:send(0x101)
        body:expect(0x101, nil, "10s")
        body:send(0x401)
        bus:expect(0x401, nil, "10s")
        local ended = gw:stop()
        test.equal({ ended.struck[2], ended.struck[3], ended.back, ended.refused }, { 1, 1, 2, 0 })
        test.equal(ended.forwarded, 24 - ended.struck[1])
        test.is_true(ended.struck[1] > 3 and ended.struck[1] < 17, "half of twenty, and it was " .. ended.struck[1])
        bus:send(0x500)
        body:never(0x500, nil, "200ms")
        test.equal(gw:state().forwarded, ended.forwarded)
        """,
        bench=bench,
    )
    assert played.verdict == "passed", played.failure


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ('{ from = "powertrain", to = "bdy" }', "has no bus 'bdy'"),
        ('{ from = "powertrain" }', "to is None; it must be the name of a bus"),
        ('{ from = "body", to = "body" }', "a gateway joins two buses"),
        ('{ from = "powertrain", to = "body", speed = 1 }', "a gateway has an unknown field 'speed'"),
        ('{ from = "powertrain", to = "body", faults = { { id = 1 } } }', "faults[0] does nothing"),
        (
            '{ from = "powertrain", to = "body", faults = { { dropp = true } } }',
            "faults[1] has an unknown field 'dropp'",
        ),
        (
            '{ from = "powertrain", to = "body", faults = { { drop = true, probability = 2 } } }',
            "faults[1].probability is 2; it must be a number, 0 .. 1",
        ),
        ('{ from = "powertrain", to = "body", faults = { { mask = 1, drop = true } } }', "has a mask but no id"),
    ],
)
def test_a_gateway_that_cannot_be_is_refused(play: "Play", bench: BenchClient, options: str, message: str) -> None:
    played = play(f"{HEAD}\nbench.gateway{options}", bench=bench)
    assert played.verdict == "error"
    assert message in played.failure["message"]


def test_a_value_outside_its_range_is_refused_unless_it_is_forced(
    play: "Play", bench: BenchClient, node: can.BusABC
) -> None:
    refused = play(HEAD + 'bus:send("EngineControl", { TargetSpeed = 9000 })', bench=bench)
    assert refused.verdict == "error"
    assert "TargetSpeed" in refused.failure["message"]
    assert "out of range" in refused.failure["message"]
    forced = play(HEAD + 'bus:send("EngineControl", { TargetSpeed = 9000 }, { force = true })', bench=bench)
    assert forced.verdict == "passed", forced.failure
    sent = node.recv(10)
    assert sent is not None
    assert sent.data[:2] == (36000).to_bytes(2, "little")
    beyond = play(HEAD + 'bus:send("EngineControl", { TargetSpeed = 90000 }, { force = true })', bench=bench)
    assert "does not fit into its bits" in beyond.failure["message"]
