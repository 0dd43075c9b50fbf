"""Error frames and the state of a bus: decoded, followed, and told by a hub that reads them."""

import queue
import socket
import struct
from itertools import pairwise

import can
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecu_adapters.bus import BusHub, CanConfig
from ecu_adapters.bus_state import BusEvent, BusMonitor, ErrorSeen, FramesLost, StateChange
from ecu_adapters.error_frames import BusState, decode
from ecu_adapters.raw_socket import SUPPORTED, RawSocket

WAIT_S = 30.0
# Classes of linux/can/error.h.
LOST_ARBITRATION, CONTROLLER, PROTOCOL, TRANSCEIVER, NO_ACK, BUS_OFF = 0x02, 0x04, 0x08, 0x10, 0x20, 0x40
BUS_ERROR, RESTARTED, COUNTERS = 0x80, 0x100, 0x200
ERROR_FLAG = 0x2000_0000


@pytest.mark.parametrize(
    ("can_id", "data", "kinds", "detail", "state"),
    [
        (BUS_OFF, "0000000000000000", ("bus_off",), "bus off", BusState.BUS_OFF),
        (ERROR_FLAG | BUS_OFF, "", ("bus_off",), "bus off", BusState.BUS_OFF),
        (RESTARTED, "0000000000000000", ("restarted",), "the controller was restarted", BusState.ERROR_ACTIVE),
        (NO_ACK | BUS_ERROR, "0000000000000000", ("no_ack",), "no other node acknowledged a frame", None),
        (LOST_ARBITRATION, "0500000000000000", ("arbitration_lost",), "arbitration lost in bit 5", None),
        (
            CONTROLLER | COUNTERS,
            "0020000000008001",
            ("error_passive",),
            "error passive by the transmit error counter (tx errors 128, rx errors 1)",
            BusState.ERROR_PASSIVE,
        ),
        (
            CONTROLLER,
            "0004000000000060",
            ("error_warning",),
            "the receive error counter reached the warning level (tx errors 0, rx errors 96)",
            BusState.ERROR_WARNING,
        ),
        (CONTROLLER, "0040", ("error_active",), "error active again", BusState.ERROR_ACTIVE),
        (CONTROLLER, "0001", ("rx_overflow",), "the controller's receive buffer overflowed", None),
        (
            PROTOCOL | BUS_ERROR,
            "0000840A00000000",
            ("stuff_error",),
            "bit stuffing error in the data while sending",
            None,
        ),
        (PROTOCOL, "0000000800000000", ("protocol_error",), "protocol error in the CRC sequence", None),
        (TRANSCEIVER, "0000000007000000", ("transceiver",), "transceiver: CAN_H: short to ground", None),
        (BUS_ERROR, "0000000000000000", ("bus_error",), "a bus error", None),
        (0, "", ("error_frame",), "an error frame that its driver does not explain", None),
    ],
)
def test_linux_error_frames(
    can_id: int, data: str, kinds: tuple[str, ...], detail: str, state: BusState | None
) -> None:
    report = decode(can_id, bytes.fromhex(data))
    assert (report.kinds, report.detail, report.state) == (kinds, detail, state)


def test_peak_tells_place_direction_and_counters() -> None:
    report = decode(4, bytes((0, 0x0A, 3, 128)), "pcan")
    assert report.kinds == ("stuff_error",)
    assert report.detail == "bit stuffing error in the data while sending (tx errors 128, rx errors 3)"
    assert (report.tx_errors, report.rx_errors) == (128, 3)


def test_other_vendors_error_frames_are_not_taken_for_linux_ones() -> None:
    report = decode(BUS_OFF, bytes(8), "vector")
    assert (report.kinds, report.state) == (("error_frame",), None)


@given(can_id=st.integers(0, 2**32 - 1), data=st.binary(max_size=64), interface=st.sampled_from(["", "pcan", "kvaser"]))
def test_every_error_frame_says_something(can_id: int, data: bytes, interface: str) -> None:
    report = decode(can_id, data, interface)
    assert report.kinds
    assert report.detail


LINUX = st.tuples(st.integers(0, 0x3FF), st.binary(min_size=8, max_size=8))


@given(frames=st.lists(LINUX, max_size=30))
def test_the_state_changes_exactly_when_an_event_says_so(frames: list[tuple[int, bytes]]) -> None:
    monitor, events = BusMonitor(), list[BusEvent]()
    monitor.on_event = events.append
    for stamp, (can_id, data) in enumerate(frames, 1):
        monitor.error(stamp, decode(can_id, data))
    changes = [event for event in events if isinstance(event, StateChange)]
    path = [BusState.ERROR_ACTIVE, *(change.state for change in changes)]
    assert [change.before for change in changes] == path[:-1]
    assert all(before is not after for before, after in pairwise(path))
    now = monitor.condition()
    assert now.state is path[-1] is monitor.state
    assert now.bus_offs == path.count(BusState.BUS_OFF)
    assert now.bus_offs - now.recoveries == (now.state is BusState.BUS_OFF)
    assert sum(isinstance(event, ErrorSeen) for event in events) == len(frames)


def test_falling_counters_do_not_end_a_bus_off() -> None:
    monitor = BusMonitor()
    monitor.error(1, decode(BUS_OFF, bytes(8)))
    monitor.error(2, decode(COUNTERS, bytes((0, 0, 0, 0, 0, 0, 90, 0))))
    assert monitor.state is BusState.BUS_OFF
    monitor.error(3, decode(RESTARTED, bytes(8)))
    assert (monitor.state, monitor.condition().recoveries) == (BusState.ERROR_ACTIVE, 1)


def test_only_the_latest_errors_are_kept_but_all_are_counted() -> None:
    monitor = BusMonitor()
    for stamp in range(100):
        monitor.error(stamp, decode(NO_ACK, bytes(8)))
    now = monitor.condition()
    assert now.kinds == {"no_ack": 100}
    assert [seen.stamp_ns for seen in now.last_errors] == list(range(84, 100))


@pytest.mark.skipif(not SUPPORTED, reason="recvmmsg is Linux'")
def test_a_hub_on_a_raw_socket_tells_of_bus_off_and_restart() -> None:
    far, near = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with far, BusHub("b", RawSocket(near, fd=False, channel="p"), CanConfig(interface="unix", channel="p")) as hub:
        events: queue.Queue[BusEvent] = queue.Queue()
        hub.monitor.on_event = events.put
        for number in range(50):  # more than are looked at one by one
            far.send(struct.pack("<IBxxx8s", 0x100 + number, 8, bytes(8)))
        far.send(struct.pack("<IBxxx8s", ERROR_FLAG | BUS_OFF | COUNTERS, 8, bytes((0, 0, 0, 0, 0, 0, 248, 0))))
        assert isinstance(events.get(timeout=WAIT_S), ErrorSeen)
        change = events.get(timeout=WAIT_S)
        assert isinstance(change, StateChange)
        assert (change.state, change.before) == (BusState.BUS_OFF, BusState.ERROR_ACTIVE)
        far.send(struct.pack("<IBxxx8s", ERROR_FLAG | RESTARTED, 8, bytes(8)))
        events.get(timeout=WAIT_S)
        change = events.get(timeout=WAIT_S)
        assert isinstance(change, StateChange)
        assert change.state is BusState.ERROR_ACTIVE
        assert hub.stats.error_frames == 2
        now = hub.monitor.condition()
        assert (now.kinds, now.tx_errors) == ({"bus_off": 1, "restarted": 1}, 248)


@pytest.mark.skipif(not SUPPORTED, reason="recvmmsg is Linux'")
def test_frames_that_were_lost_are_an_event() -> None:
    far, near = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with far, BusHub("b", RawSocket(near, fd=False, channel="p"), CanConfig(interface="unix", channel="p")) as hub:
        events: queue.Queue[BusEvent] = queue.Queue()
        hub.monitor.on_event = events.put
        far.send(b"no frame at all")
        far.send(struct.pack("<IBxxx8s", 0x1, 8, bytes(8)))
        lost = events.get(timeout=WAIT_S)
        assert isinstance(lost, FramesLost)
        assert (lost.lost, lost.total) == (1, 1)


def test_a_hub_on_python_can_tells_of_errors_too() -> None:
    config = CanConfig(interface="virtual", channel="errors")
    with BusHub.open("b", config) as hub, can.Bus(interface="virtual", channel="errors") as other:
        events: queue.Queue[BusEvent] = queue.Queue()
        hub.monitor.on_event = events.put
        other.send(can.Message(arbitration_id=NO_ACK, is_error_frame=True, data=bytes(8), is_extended_id=False))
        seen = events.get(timeout=WAIT_S)
        assert isinstance(seen, ErrorSeen)
        assert seen.report.kinds == ("no_ack",)
        assert hub.monitor.condition().last_errors == (seen,)
