"""Waits that take more than one frame, through the whole agent, beside a node that sends what the test wants."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import can
import pytest

from bench_agent.client import (
    AtLeast,
    BenchClient,
    CycleWithin,
    Edge,
    Equals,
    Exactly,
    Frame,
    Held,
    InvalidRequest,
    Within,
)
from ecu_adapters.dbc import Database
from tests.unit.bench_agent.harness import ROOT, AgentFile, RunningAgent, bench_entry

DATABASE = Database.load(ROOT / "dbc" / "powertrain.dbc")
WAIT_S = 30.0


@pytest.fixture
def agent_file(agent_file: AgentFile) -> AgentFile:
    """Without ECUs: only the test speaks."""
    agent_file.benches = [bench_entry("bench-1", ecus=False)]
    return agent_file


class Node:
    """Sends DBC messages."""

    def __init__(self, bus: can.BusABC) -> None:
        self._bus = bus

    def send(self, message: str, **signals: Any) -> None:
        self._bus.send(DATABASE.encode(message, signals))


@pytest.fixture
def node(running: RunningAgent) -> Iterator[Node]:
    with running.node() as bus:
        yield Node(bus)


@contextmanager
def playing(play: Callable[[Callable[[float], bool]], None]) -> Iterator[None]:
    """``play`` in a thread, again and again until the test's block ends; given a way to wait that says when to end."""
    end = threading.Event()

    def run() -> None:
        while not end.is_set():
            play(end.wait)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()


def test_edges_and_the_deciding_frame(bench: BenchClient, node: Node) -> None:
    def play(wait: Callable[[float], bool]) -> None:
        for state in ("Off", "Cranking", "Running"):
            node.send("EngineStatus", EngineState=state, EngineSpeed={"Off": 0, "Cranking": 200, "Running": 900}[state])
            wait(0.01)

    bus = bench.bus("powertrain")
    with playing(play):
        found = bus.expect_message("EngineStatus", [Edge("EngineState", "changes", after="Running")], WAIT_S)
        assert found.met
        assert found.signals["EngineState"] == "Running"
        assert found.frame is not None
        # A timestamp is that of the deciding frame: the next edge is a later one.
        again = bus.expect_message(
            "EngineStatus", [Edge("EngineSpeed", "rising", 500)], WAIT_S, since_ns=found.frame.timestamp_ns
        )
        assert again.met
        assert again.frame is not None
        assert again.frame.timestamp_ns > found.frame.timestamp_ns
        assert (
            bus.expect_message("EngineStatus", [Edge("EngineSpeed", "falling", 500)], WAIT_S).signals["EngineState"]
            == "Off"
        )
        never = bus.expect_message(
            "EngineStatus", [Edge("EngineState", "changes", before="Running", after="Cranking")], 0.2
        )
    assert not never.met
    assert "expected a change from Running to Cranking" in never.unmet[0]


def test_stays_so(bench: BenchClient, node: Node) -> None:
    speed = 900

    def play(wait: Callable[[float], bool]) -> None:
        for count in range(4):
            node.send("EngineStatus", EngineSpeed=speed if count else 0)
            wait(0.02)

    bus = bench.bus("powertrain")
    high = [Within("EngineSpeed", 800, 1000)]
    with playing(play):
        short = bus.expect_message("EngineStatus", high, WAIT_S, rule=Held(0.03))
        assert short.met
        broken = bus.expect_message("EngineStatus", high, 0.5, rule=Held(0.3))
    assert not broken.met
    assert "expected 300 ms" in broken.unmet[-1]


def test_an_event_message_stays_so_without_further_frames(bench: BenchClient, node: Node) -> None:
    bus = bench.bus("powertrain")
    node.send("KeyPosition", Key="On")
    sent_ns = time.time_ns() - 1_000_000_000
    found = bus.expect_message("KeyPosition", [Equals("Key", "On")], WAIT_S, since_ns=sent_ns, rule=Held(0.2))
    assert found.met
    assert found.seen == 1


def test_counts_and_absence(bench: BenchClient, node: Node) -> None:
    bus = bench.bus("powertrain")
    lamp = [Equals("CheckEngineLamp", 1)]
    since_ns = time.time_ns()
    for on in (1, 0, 1, 0, 1):
        node.send("EngineStatus", CheckEngineLamp=on)
    found = bus.expect_message("EngineStatus", lamp, WAIT_S, since_ns=since_ns, rule=AtLeast(3))
    assert (found.met, found.matched, found.seen) == (True, 3, 5)
    assert bus.expect_message("EngineStatus", lamp, 0.1, since_ns=since_ns, rule=Exactly(3)).met
    few = bus.expect_message("EngineStatus", lamp, 0.1, since_ns=since_ns, rule=AtLeast(4))
    assert "3 of 4 frames met the conditions" in few.unmet
    many = bus.expect_message("EngineStatus", lamp, WAIT_S, since_ns=since_ns, rule=Exactly(2))
    assert many.unmet == ("3 frames met the conditions, expected exactly 2",)
    none = bus.expect_message("EngineStatus", [], 0.1, rule=Exactly(0))
    assert (none.met, none.frame, none.seen) == (True, None, 0)
    assert not bus.expect_frame(0x200, None, WAIT_S, since_ns=since_ns, rule=Exactly(0)).met


def test_cycle_times_measured_and_expected(bench: BenchClient) -> None:
    bus = bench.bus("powertrain")
    bus.cyclic(Frame(0, 0x321, 0, b"\x01"), period_s=0.01)
    measured = bus.measure_cycle(0x321, 0.5)
    assert measured.frames >= 20
    assert measured.shortest_s <= measured.mean_s <= measured.longest_s
    assert measured.mean_s == pytest.approx(0.01, rel=0.5)
    assert bus.measure_cycle("EngineStatus", 0.05).frames == 0


def test_a_cycle_that_is_not_kept(bench: BenchClient, node: Node) -> None:
    bus = bench.bus("powertrain")

    def play(wait: Callable[[float], bool]) -> None:
        node.send("EngineStatus")
        wait(0.02)

    with playing(play):
        kept = bus.expect_message("EngineStatus", [], 0.5, rule=CycleWithin(0.0001, 0.4))
        assert kept.met, kept.unmet
        fast = bus.expect_message("EngineStatus", [], WAIT_S, rule=CycleWithin(0.0001, 0.002))
    assert not fast.met
    assert "expected 0.1 .. 2 ms" in fast.unmet[0]
    gone = bus.expect_message("EngineStatus", [], 0.1, rule=CycleWithin(0.001, 0.01))
    assert gone.unmet == ("fewer than two frames, expected one every 1 .. 10 ms",)


def test_rules_that_cannot_be(bench: BenchClient) -> None:
    bus = bench.bus("powertrain")
    for wait, problem in (
        (lambda: bus.expect_message("EngineStatus", rule=Held(2.0), timeout_s=1), "hold_ms is 2000"),
        (lambda: bus.expect_message("EngineStatus", rule=AtLeast(0)), "count is 0"),
        (lambda: bus.expect_message("EngineStatus", rule=AtLeast(-1)), "AtLeast"),
        (lambda: bus.expect_message("EngineStatus", rule=CycleWithin(0.02, 0.01)), "no interval is within"),
        (
            lambda: bus.expect_message("EngineStatus", [Equals("EngineSpeed", 1)], rule=CycleWithin(0.01, 0.02)),
            "takes no conditions",
        ),
        (lambda: bus.expect_message("EngineStatus", [Edge("EngineSped", "rising")]), "EngineSpeed"),
        (lambda: bus.expect_message("EngineStatus", [Edge("EngineState", "changes", after="Runing")]), "Running"),
        (lambda: bus.expect_message("EngineStatus", [Edge("EngineSpeed", "changes", 5)]), "a threshold goes with"),
        (lambda: bus.expect_message("EngineStatus", [Edge("EngineSpeed", "rising", after=5)]), "takes a threshold"),
        (lambda: bus.measure_cycle("EngineStats", 1), "EngineStatus"),
    ):
        with pytest.raises(InvalidRequest, match=problem):
            wait()
