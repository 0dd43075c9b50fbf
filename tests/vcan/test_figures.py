"""What an agent measures of a bus on real SocketCAN: load, frames, errors, bus-off, and what the kernel dropped."""

import contextlib
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import can
import numpy as np
import pytest
from anyio.from_thread import start_blocking_portal

from bench_agent.protocol import lab_pb2
from ecu_adapters.bus import BusHub, CanConfig
from ecu_adapters.frame_records import CLASSIC
from tests.unit.bench_agent.harness import AgentFile, RunningAgent, make_agent

WAIT_S = 60.0
ERROR = 0x2000_0000
BUS_OFF, RESTARTED, PROTOCOL = 0x040, 0x100, 0x008
FLOOD = 65_536
"""Frames: more than find room in a socket that nobody reads."""


@pytest.fixture
def running(tmp_path: Path) -> Iterator[RunningAgent]:
    bus = {"name": "powertrain", "interface": "socketcan", "channel": "vcan0", "bitrate": 500_000}
    file = AgentFile(tmp_path, [{"name": "bench-1", "can": [bus]}], settings={"metrics": {"interval_s": 3600}})
    with start_blocking_portal() as portal:
        agent = portal.call(make_agent, file.write())
        portal.call(agent.start)
        yield RunningAgent(agent, portal, file)
        portal.call(agent.stop)


def tell(intruder: socket.socket, can_id: int) -> None:
    """A frame on vcan0 from another socket."""
    intruder.send(struct.pack("<IBxxx8s", can_id, 8, bytes(8)))


def eventually(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@contextlib.contextmanager
def unread(hub: BusHub) -> Iterator[None]:
    """Nobody reads the bus' socket meanwhile."""
    stuck, go_on = threading.Event(), threading.Event()

    def hold(_burst: object) -> None:
        stuck.set()
        go_on.wait(WAIT_S)

    with hub.tap(hold):
        with socket.socket(socket.AF_CAN, socket.SOCK_RAW, socket.CAN_RAW) as waker:
            waker.bind(("vcan0",))
            tell(waker, 0x3A2)
        assert stuck.wait(WAIT_S)
        try:
            yield
        finally:
            go_on.set()


def test_load_frames_errors_bus_off_and_losses_are_counted(running: RunningAgent) -> None:
    bus = running.agent.benches["bench-1"].buses["powertrain"]
    eventually(lambda: bus.hub is not None)
    hub = bus.hub
    assert hub is not None
    totals: Counter[str] = Counter()
    load: list[float] = []

    def note(points: list[lab_pb2.Point]) -> None:
        for point in points:
            if point.measurement == "can_bus":
                load.append(point.fields["load_percent"].number)
                totals.update({name: value.integer for name, value in point.fields.items() if value.integer})
            if point.measurement == "can_bus_drops":
                totals["drops " + point.tags["cause"]] += point.fields["dropped"].integer

    def measured() -> Counter[str]:
        running.portal.call(running.agent.measuring.measure)
        return totals

    running.agent.measuring.on_points = note
    for _ in range(20):
        hub.send(can.Message(arbitration_id=0x3A0, is_extended_id=False, data=bytes(8)))
    with socket.socket(socket.AF_CAN, socket.SOCK_RAW, socket.CAN_RAW) as intruder:
        intruder.bind(("vcan0",))
        for kind in (PROTOCOL, PROTOCOL, PROTOCOL, BUS_OFF, RESTARTED):
            tell(intruder, ERROR | kind)
        eventually(lambda: measured()["error_frames"] == 5)
        assert (totals["bus_off"], totals["frames_out"]) == (1, 20)
        config = CanConfig.model_validate({"interface": "socketcan", "channel": "vcan0"})
        records = np.zeros(1024, CLASSIC)
        records["length"] = 8
        with unread(hub), BusHub.open("flood", config) as sender:
            for _ in range(FLOOD // len(records)):
                assert sender.send_records(records, WAIT_S).error is None

        def all_accounted_for() -> bool:
            tell(intruder, 0x3A3)  # the kernel tells how many it has dropped with the next frame that it does not
            return measured()["frames_in"] + totals["drops driver"] >= FLOOD

        eventually(all_accounted_for)
    assert totals["drops driver"] > 0
    assert totals["frames_in"] > 100
    assert max(load) > 0
