"""Figures of a bus on real SocketCAN, from the kernel through agent and labd to who asks for them."""

import signal
import socket
import struct
import time
from collections.abc import Callable

from bench_agent.client import Frame
from deploy.demo.lab import Lab
from tests.vcan.conftest import leased

WAIT_S = 60.0
ERROR = 0x2000_0000
BUS_OFF, RESTARTED, PROTOCOL = 0x040, 0x100, 0x008
FLOOD = 5_000
"""Frames; some hundreds find room in a socket that nobody reads."""


def tell(intruder: socket.socket, can_id: int, data: bytes = bytes(8)) -> None:
    """A frame on vcan0 from another socket."""
    intruder.send(struct.pack("<IBxxx8s", can_id, 8, data))


def total(lab: Lab, measurement: str, field: str, aggregate: str = "sum", **tags: str) -> float:
    tags["bench"] = "measured-bench"
    with lab.client() as client:
        found = client.series(measurement, field, tags=tags, aggregate=aggregate)["series"]
    return sum(float(value) for series in found for _, value in series["points"])


def eventually(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_load_frames_errors_bus_off_and_losses_are_counted(lab: Lab) -> None:
    with leased(lab, "measured-bench") as (bench, _):
        bus = bench.bus("powertrain")
        for number in range(20):
            bus.send(Frame(0, 0x3A0, 0, bytes([number])))
    agent = next(process for name, process in lab.processes.items() if name.startswith("agent"))
    with socket.socket(socket.AF_CAN, socket.SOCK_RAW, socket.CAN_RAW) as intruder:
        intruder.bind(("vcan0",))
        for _ in range(3):
            tell(intruder, ERROR | PROTOCOL)
        tell(intruder, ERROR | BUS_OFF)
        tell(intruder, ERROR | RESTARTED)
        agent.send_signal(signal.SIGSTOP)
        try:
            for _ in range(FLOOD):
                tell(intruder, 0x3A1)
        finally:
            agent.send_signal(signal.SIGCONT)
    eventually(lambda: total(lab, "can_bus_drops", "dropped", cause="driver") > 0)
    eventually(lambda: total(lab, "can_bus", "bus_off") >= 1)
    assert total(lab, "can_bus", "frames_out") >= 20
    assert total(lab, "can_bus", "error_frames") >= 5
    assert total(lab, "can_bus", "frames_in") > 100
    assert total(lab, "can_bus", "load_percent", "max") > 0
    seen = total(lab, "can_bus", "frames_in") + total(lab, "can_bus_drops", "dropped", cause="driver")
    assert seen >= FLOOD
