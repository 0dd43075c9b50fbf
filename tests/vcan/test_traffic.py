"""Cyclic messages, rest-bus, gateway and traces on vcan0, with candump as the witness."""

import time
from decimal import Decimal
from pathlib import Path

import can

from bench_agent.client import AliveCounter, BusFaultRule, Frame, PayloadBits
from deploy.demo.lab import Lab
from tests.vcan.can_utils import WAIT_S, Candump, cansend, watch
from tests.vcan.conftest import leased

FRAMES = 50


def times_s(candump: Candump, can_id: str) -> list[Decimal]:
    """When the frames with an ID were on the bus, by the kernel's clock."""
    return [
        Decimal(stamp.strip("()"))
        for stamp, line in zip(list(candump.stamps), list(candump.lines), strict=False)
        if line.startswith(can_id)
    ]


def test_cyclic_message_counts_keeps_its_period_and_ends_with_the_lease(lab: Lab, candump: Candump) -> None:
    with leased(lab, "vcan-bench") as (bench, _):
        counter = AliveCounter(bits=PayloadBits(start=0, length=8), modulo=16)
        bench.bus("powertrain").cyclic(Frame(0, 0x3A5, 0, bytes(4)), period_s=0.02, counter=counter)
        candump.wait_for_times(FRAMES, "3A5#")
    sent = [line for line in list(candump.lines) if line.startswith("3A5#")]
    assert sent == [f"3A5#{number % 16:02X}000000" for number in range(len(sent))]
    moments = times_s(candump, "3A5#")
    # The mean, not single gaps: this kernel shares its core with others.
    mean_s = (moments[-1] - moments[0]) / (len(moments) - 1)
    assert Decimal("0.015") < mean_s < Decimal("0.05")
    # The bench is free again: whatever is on the bus from here on is not ours.
    cansend("7FE#")
    candump.wait_for("7FE#")
    with leased(lab, "vcan-bench"):
        pass
    at = candump.lines.index("7FE#")
    assert not [line for line in candump.lines[at:] if line.startswith("3A5#")]


def test_rest_bus_is_every_message_but_those_of_the_ecu(lab: Lab, candump: Candump) -> None:
    with leased(lab, "vcan-bench") as (bench, _):
        rest = bench.bus("powertrain").restbus(absent=["Tester"])
        assert sorted(rest.messages) == ["KeyPosition", "Odometer", "TransmissionStatus", "TurnSignals"]
        for can_id in ("3A0#", "3D0#"):  # those whose cycle time is not conditional
            candump.wait_for_times(3, can_id)
        rest.off("TransmissionStatus")
        cansend("7FD#")
        candump.wait_for("7FD#")
        at = candump.lines.index("7FD#")
        candump.wait_for_times(2, "3D0#", after=at)
        assert not [line for line in candump.lines[at:] if line.startswith("3A0#")]


def test_trace_has_every_frame_that_candump_saw_at_the_kernels_time(lab: Lab, candump: Candump, tmp_path: Path) -> None:
    """Received frames carry the kernel's timestamp, to the µs the one that candump prints."""
    with leased(lab, "vcan-bench") as (bench, _), can.Bus(interface="socketcan", channel="vcan0") as other:
        bus = bench.bus("powertrain")
        other.send(can.Message(arbitration_id=0x5A0, is_extended_id=False))
        # What the agent sends is in the trace at once, what it receives once it has been read.
        assert bus.expect_frame(0x5A0, None, WAIT_S, since_ns=1).met
        for number in range(FRAMES):
            bus.send(Frame(0, 0x5A1, 0, bytes((number,))))
            other.send(can.Message(arbitration_id=0x5A2, is_extended_id=False, data=bytes((number,))))
        other.send(can.Message(arbitration_id=0x5A3, is_extended_id=False))
        candump.wait_for("5A3#")
        assert bus.expect_frame(0x5A3, None, WAIT_S, since_ns=1).met
        bench.traces.fetch("powertrain", tmp_path / "trace.log")
    trace = [line.split() for line in (tmp_path / "trace.log").read_text().splitlines()]
    first, last = (next(n for n, words in enumerate(trace) if words[2] == frame) for frame in ("5A0#", "5A3#"))
    traced = trace[first : last + 1]
    seen = list(zip(candump.stamps, candump.lines, strict=False))
    seen = seen[seen.index((trace[first][0], "5A0#")) : seen.index((trace[last][0], "5A3#")) + 1]
    assert [frame for _, _, frame, way in traced if way == "T"] == [f"5A1#{n:02X}" for n in range(FRAMES)]
    received = [(stamp, frame) for stamp, _, frame, way in traced if way == "R"]
    assert received == [(stamp, frame) for stamp, frame in seen if not frame.startswith("5A1#")]
    assert [frame for _, frame in seen if frame.startswith("5A1#")] == [f"5A1#{n:02X}" for n in range(FRAMES)]


def test_gateway_between_two_buses_drops_and_changes(lab: Lab, candump: Candump, vcan1: str) -> None:
    lab.wait_for_benches("two-buses")
    faults = [BusFaultRule(0x611, 0x7FF, drop=True), BusFaultRule(0x612, 0x7FF, flip=b"\xff")]
    with leased(lab, "two-buses") as (bench, _), watch(vcan1) as other, bench.gateway("vehicle", "body", faults) as way:
        for frame in ("610#01", "611#01", "612#0001", "613##0" + "5A" * 64):
            cansend(frame)
        other.wait_for("613##")
        assert [line for line in other.lines if line.startswith("61") and "##" not in line] == ["610#01", "612#FF01"]
        cansend("620#0102", vcan1)
        candump.wait_for("620#0102")
        deadline = time.monotonic() + WAIT_S
        while way.state().struck != (1, 1) and time.monotonic() < deadline:
            time.sleep(0.1)  # it tells its counts twice a second
        assert way.state().struck == (1, 1)
    with watch(vcan1) as other:
        cansend("614#")
        candump.wait_for("614#")
        with leased(lab, "two-buses"):
            pass  # whatever the gateway had in hand is on the bus by now
        other.provoke("631#", "631#")
        assert not [line for line in other.lines if line.startswith("614#")]
