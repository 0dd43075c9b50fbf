"""The raw socket's reader and writer, on socket pairs: what SocketCAN's sockets do, without CAN in the kernel."""

import queue
import socket
import struct
import threading
import time
from collections.abc import Iterator

import can
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecu_adapters import frame_records as packed
from ecu_adapters.burst import Burst
from ecu_adapters.bus import BusError, BusHub, CanConfig, FrameError
from ecu_adapters.frame_records import CLASSIC, FD, Records
from ecu_adapters.raw_socket import SUPPORTED, HardwareClock, RawSocket

pytestmark = pytest.mark.skipif(not SUPPORTED, reason="recvmmsg is Linux'")

WAIT_S = 30.0
Pair = tuple[socket.socket, BusHub]


def _open(*, fd: bool, kind: socket.SocketKind = socket.SOCK_DGRAM) -> tuple[socket.socket, BusHub]:
    far, near = socket.socketpair(socket.AF_UNIX, kind)
    far.settimeout(WAIT_S)
    config = CanConfig(interface="unix", channel="pair", fd=fd)
    return far, BusHub("powertrain", RawSocket(near, fd=fd, channel="pair"), config)


@pytest.fixture
def pair() -> Iterator[Pair]:
    far, hub = _open(fd=False)
    with far, hub:
        yield far, hub


@pytest.fixture
def fd_pair() -> Iterator[Pair]:
    far, hub = _open(fd=True)
    with far, hub:
        yield far, hub


def classic(can_id: int, data: bytes) -> bytes:
    return struct.pack("<IBxxx8s", can_id, len(data), data)


def fd_frame(can_id: int, data: bytes, flags: int = 0) -> bytes:
    return struct.pack("<IBBxx64s", can_id, len(data), flags, data)


def _tap(hub: BusHub) -> "queue.Queue[Burst]":
    bursts: queue.Queue[Burst] = queue.Queue()
    hub.tap(bursts.put)
    return bursts


def _take(bursts: "queue.Queue[Burst]", count: int) -> list[Burst]:
    taken: list[Burst] = []
    while sum(map(len, taken)) < count:
        taken.append(bursts.get(timeout=WAIT_S))
    return taken


def test_many_frames_arrive_as_records_in_order_and_stamped(pair: Pair) -> None:
    far, hub = pair
    bursts = _tap(hub)
    before = time.time_ns()
    for number in range(20_000):
        far.send(classic(0x100 + number % 16, number.to_bytes(4, "big")))
    records = packed.join([burst.records for burst in _take(bursts, 20_000)])
    assert records.dtype == CLASSIC
    numbers = records["data"][:, :4].copy().view(">u4").ravel()
    assert (numbers == np.arange(20_000)).all()
    assert (np.diff(records["stamp"]) >= 0).all()
    assert before - 1_000_000 <= records["stamp"][0]
    assert records["stamp"][-1] <= time.time_ns()
    assert (records["stamp"] % 1000 == 0).all()
    assert hub.stats.received == 20_000


def test_fd_frames_keep_their_flags_and_64_bytes(fd_pair: Pair) -> None:
    far, hub = fd_pair
    bursts = _tap(hub)
    far.send(fd_frame(0x1, bytes(range(64)), packed.BITRATE_SWITCH | packed.ERROR_STATE))
    [long] = [frame for burst in _take(bursts, 1) for frame in burst]
    assert (long.is_fd, long.bitrate_switch, long.error_state_indicator) == (True, True, True)
    assert bytes(long.data) == bytes(range(64))
    # The slot was in use: nothing of the former frame may shine through.
    far.send(classic(0x80000002, b"\x01"))
    [burst] = _take(bursts, 1)
    assert (burst.records.dtype, burst.records["data"].tolist()) == (CLASSIC, [[1, 0, 0, 0, 0, 0, 0, 0]])
    assert (burst[0].is_fd, burst[0].is_extended_id, bytes(burst[0].data)) == (False, True, b"\x01")


def test_what_is_no_frame_is_counted_as_lost(pair: Pair) -> None:
    far, hub = pair
    bursts = _tap(hub)
    for bad in (b"\x01", bytes(15), classic(0x1, b"")[:4] + b"\x09" + bytes(11)):
        far.send(bad)
    far.send(classic(0x2, b""))
    [burst] = _take(bursts, 1)
    assert burst.ids() == [0x2]
    far.send(classic(0x3, b""))
    _take(bursts, 1)
    assert hub.stats.lost == 3


def test_only_the_frames_that_somebody_wants_become_messages(pair: Pair) -> None:
    far, hub = pair
    bursts = _tap(hub)
    heard: list[tuple[int, bool]] = []
    hub.subscribe(lambda message: heard.append((message.data[0], message.is_extended_id)), ids={0x80000007})
    for number in range(200):
        far.send(classic(0x7 | (packed.EXTENDED if number % 50 == 0 else 0), bytes((number,))))
        far.send(classic(packed.ERROR | 0x7, bytes(8)))
    taken = _take(bursts, 400)
    hub.close()  # the reader is done with the last of them
    assert heard == [(0, True), (50, True), (100, True), (150, True)]
    assert hub.stats.error_frames == 200
    made = sum(message is not None for burst in taken for message in burst._messages if len(burst) > 8)
    assert made <= 4


def test_messages_and_rows_of_records_are_sent(fd_pair: Pair) -> None:
    far, hub = fd_pair
    bursts = _tap(hub)
    hub.send(can.Message(arbitration_id=0x1, is_extended_id=False, data=b"\xaa"))
    assert far.recv(100) == classic(0x1, b"\xaa")
    records = np.zeros(1000, FD)
    records["id"] = np.arange(1000) | packed.EXTENDED
    records["length"] = np.where(np.arange(1000) % 2, 64, 8)
    records["flags"] = np.where(np.arange(1000) % 2, packed.FD_FRAME | packed.BITRATE_SWITCH, 0)
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.extend(far.recv(100) for _ in range(1000)))
    reader.start()
    taken = hub.send_records(records, WAIT_S)
    reader.join(WAIT_S)
    assert (len(taken.records), taken.error) == (1000, None)
    assert [len(frame) for frame in received] == [16, 72] * 500
    assert [frame[5] for frame in received[:2]] == [0, packed.FD_FRAME | packed.BITRATE_SWITCH]
    assert [int.from_bytes(frame[:4], "little") & 0x7FF for frame in received] == list(range(1000))
    own = packed.join([burst.records for burst in _take(bursts, 1001)])
    assert (own["flags"] & packed.OWN).all()
    assert (own["stamp"] > 0).all()


def test_a_row_ends_at_the_frame_that_cannot_be_sent(pair: Pair) -> None:
    far, hub = pair
    records = np.zeros(3, CLASSIC)
    records["id"][1] = 0x800
    taken = hub.send_records(records)
    assert isinstance(taken.error, FrameError)
    assert str(taken.error) == "arbitration ID 0x800 is above 0x7FF"
    assert len(taken.records) == 1
    assert far.recv(100) == classic(0, b"")


def test_a_full_queue_is_waited_for_and_then_given_up(pair: Pair) -> None:
    far, hub = pair
    started = time.monotonic()
    taken = hub.send_records(np.zeros(1_000_000, CLASSIC), 0.2)
    assert time.monotonic() - started >= 0.2
    assert 0 < len(taken.records) < 1_000_000
    assert isinstance(taken.error, BusError)
    waiting = 0
    far.settimeout(0.2)
    with pytest.raises(TimeoutError):
        while far.recv(100):
            waiting += 1
    assert waiting == len(taken.records) == hub.stats.sent


def test_the_other_end_may_go_away() -> None:
    far, hub = _open(fd=False, kind=socket.SOCK_SEQPACKET)
    reasons: queue.Queue[str] = queue.Queue()
    with hub:
        hub.on_error = reasons.put
        far.close()
        assert "the other end has closed" in reasons.get(timeout=WAIT_S)


def test_closing_does_not_wait_for_a_frame(pair: Pair) -> None:
    hub = pair[1]
    started = time.monotonic()
    hub.close()
    assert time.monotonic() - started < 5
    assert not hub._reader.is_alive()


def test_a_unix_path_that_nobody_serves_is_no_bus() -> None:
    with pytest.raises(BusError, match=r"unix /nowhere\) cannot be opened: .*No such file"):
        BusHub.open("b", CanConfig(interface="unix", channel="/nowhere"))


def _messages(*, fd: bool) -> st.SearchStrategy[can.Message]:
    def make(stamp: int, can_id: int, data: bytes, brs: bool, own: bool) -> can.Message:
        return can.Message(
            timestamp=stamp / 1e6, arbitration_id=can_id, data=data, is_fd=fd, bitrate_switch=fd and brs, is_rx=not own
        )

    lengths = sorted(packed.FD_LENGTHS) if fd else range(9)
    data = st.sampled_from(lengths).flatmap(lambda length: st.binary(min_size=length, max_size=length))
    return st.builds(make, st.integers(0, 2**51), st.integers(0, packed.ID_MASK), data, st.booleans(), st.booleans())


@given(st.lists(st.booleans().flatmap(lambda fd: _messages(fd=fd)), min_size=1, max_size=5))
def test_messages_survive_packing(messages: list[can.Message]) -> None:
    records = packed.pack(messages)
    back = [packed.unpack(record) for record in records]
    assert all(a.equals(b, timestamp_delta=None, check_channel=False) for a, b in zip(messages, back, strict=True))
    assert [packed.to_ns(message.timestamp) for message in back] == records["stamp"].tolist()
    assert [packed.unpack(record).data for record in packed.widen(records)] == [message.data for message in messages]


@pytest.mark.parametrize(
    ("can_id", "length", "flags", "says"),
    [
        (packed.ERROR, 0, 0, "an error frame cannot be sent"),
        (0x800, 0, 0, "arbitration ID 0x800 is above 0x7FF"),
        (0x1, 9, 0, "data has 9 bytes; a classic CAN frame takes at most 8"),
        (0x1, 9, packed.FD_FRAME, "data has 9 bytes; CAN FD takes one of"),
        (packed.REMOTE, 0, packed.FD_FRAME, "CAN FD knows no remote frames"),
    ],
)
def test_the_first_frame_that_cannot_be_is_found(can_id: int, length: int, flags: int, says: str) -> None:
    records = np.zeros(3, FD)
    records["id"][2], records["length"][2], records["flags"][2] = can_id, length, flags
    found = packed.fault(records, fd=True)
    assert found is not None
    assert found[0] == 2
    assert says in found[1]


def test_filters_pass_what_any_of_them_matches() -> None:
    records: Records = np.zeros(4, CLASSIC)
    records["id"] = [0x100, 0x105, 0x80000100, 0x200]
    assert packed.matches(records, [(0x100, 0xFFFFFFF0), (0x80000100, 0xFFFFFFFF)]).tolist() == [
        True,
        True,
        True,
        False,
    ]


def test_a_controllers_clock_is_brought_to_the_time_of_day() -> None:
    clock = HardwareClock()
    true = 1_800_000_000_000_000_000 + np.arange(1000) * 1_000_000
    hardware = np.asarray((true - true[0]) * 1.0001 + 5_000, np.int64)  # counts from its start, 100 ppm fast
    delay = np.where(np.arange(1000) % 10, 80_000, 20_000)  # how late the kernel stamps, in ns
    for start in range(0, 1000, 10):
        part = slice(start, start + 10)
        stamps = clock.to_system(hardware[part], true[part] + delay[part])
        assert (np.abs(stamps - true[part]) < 30_000).all()
        assert (stamps <= true[part] + delay[part]).all()
