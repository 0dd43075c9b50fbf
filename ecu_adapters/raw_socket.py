"""CAN frames straight from a raw socket into packed records, many of them a system call.

For SocketCAN's ``CAN_RAW`` sockets (linux/can/raw.h), with the kernel's timestamps and its counter of dropped frames.
Any socket that keeps the borders of messages does as well, so that the same code runs where the kernel has no CAN: a
message is then a ``struct can_frame`` or ``struct canfd_frame``.
"""

import ctypes
import errno
import os
import select
import socket
import struct
import sys
import time
from collections.abc import Sequence
from typing import ClassVar

import can
import numpy as np
import numpy.typing as npt

from ecu_adapters import can_link
from ecu_adapters import frame_records as packed
from ecu_adapters.broadcast import Broadcast, BroadcastJob
from ecu_adapters.burst import Burst
from ecu_adapters.frame_records import CLASSIC, FD, Records

SUPPORTED = sys.platform == "linux" and struct.calcsize("P") == 8
"""Whether this system has recvmmsg with the layouts below; elsewhere SocketCAN goes through python-can."""

_SLOTS = 1024
"""Frames that one system call takes at most."""
_CONTROL = 192
"""Bytes for the ancillary data of one frame: timestamps and the drop counter need 120."""
_STAMP_AT = 8
"""Where the frame begins in a record."""
_CLASSIC_MTU, _FD_MTU = 16, 72

_SO_RXQ_OVFL = 40
_SO_TIMESTAMPNS = 35
_SO_TIMESTAMPING = 37
_SO_RCVBUFFORCE = 33
# SOF_TIMESTAMPING_ RX_HARDWARE | RX_SOFTWARE | SOFTWARE | RAW_HARDWARE (linux/net_tstamp.h)
_STAMP_FLAGS = 1 << 2 | 1 << 3 | 1 << 4 | 1 << 6
_CAN_RAW_ERR_FILTER = 2
_ALL_ERRORS = 0x1FFF_FFFF
_MSG_DONTWAIT = 0x40
_MSG_DONTROUTE = 0x04
"""The frame was sent on this machine."""
_RECEIVE_BUFFER = 8 << 20
"""Bytes of the kernel's queue for one socket, if we may; about a second of a full bus."""

_PAUSES = ((100_000, 0.0), (6_000, 0.002), (3_000, 0.001), (0, 0.0))
"""From how many frames/s on reading pauses for how long (s), so that one system call takes several frames. What is
faster than any bus is somebody's test of how fast we are: there, a pause would only let the queue fill."""
_WAKES_PER_S = 1000
"""How often all pausing readers of this process together wake up: each of eight full buses pauses for 8 ms, one of two
for 2 ms."""

_NONE = np.zeros(0, np.bool_)
_least, _most = np.minimum.reduce, np.maximum.reduce

_CONTROL_HEADER = struct.Struct("=Qii")  # struct cmsghdr: length, level, type


# struct iovec and struct mmsghdr, on 64 bits.
_VECTOR = np.dtype([("base", "u8"), ("length", "u8")])
_HEADER = np.dtype(
    [
        ("name", "u8"),
        ("name_length", "u8"),
        ("vector", "u8"),
        ("vector_length", "u8"),
        ("control", "u8"),
        ("control_length", "u8"),
        ("flags", "u8"),
        ("length", "u4"),
        ("padding", "u4"),
    ]
)


class RawSocket:
    """A socket as a CAN driver. Closes it in the end."""

    def __init__(self, link: socket.socket, *, fd: bool, channel: str) -> None:
        """``fd``: frames may be CAN FD ones."""
        self.lost = 0
        """Frames that the kernel dropped because its queue was full (SO_RXQ_OVFL)."""
        self._socket = link
        self._on_can = link.family == getattr(socket, "AF_CAN", None)
        self._channel = channel
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._layout = FD if fd else CLASSIC
        self._ring = _Slots(self._layout, control=True)
        self._outgoing = _Slots(self._layout, control=False)
        self._clock = HardwareClock()
        self._layouts: dict[int, dict[int, int]] = {}
        self._lost_before = 0
        self._rate = _Rate()
        self._wake, self._waker = os.pipe()
        self._poll = select.poll()
        self._poll.register(link.fileno(), select.POLLIN)
        self._poll.register(self._wake, select.POLLIN)
        self._closed = False
        self._jobs: Broadcast | None = None
        _enlarge(link)
        stamps = (_SO_TIMESTAMPNS, 1) if link.family == socket.AF_UNIX else (_SO_TIMESTAMPING, _STAMP_FLAGS)
        for option, value in (stamps, (_SO_RXQ_OVFL, 1)):
            try:
                link.setsockopt(socket.SOL_SOCKET, option, value)
            except OSError:
                continue  # then frames are stamped here, and drops stay unknown

    def receive(self, timeout_s: float) -> Burst | None:
        """Raises OSError when the interface is down or gone, ConnectionError when the other end has closed."""
        if self._rate.pause:
            time.sleep(self._rate.pause)
            count = self._take()
            if count:
                return self._burst(count)
        if not self._poll.poll(timeout_s * 1000) or self._closed:
            self._rate.count(0)
            return None
        count = self._take()
        return self._burst(count) if count else None

    def send(self, frames: Burst, start: int, timeout_s: float) -> int:
        """Raises OSError; ENOBUFS when the interface's queue is full."""
        try:
            return self._send(frames, start)
        except BlockingIOError:
            # An interface's full queue is ENOBUFS at once; this is the socket's own, which can be waited for.
            select.select((), (self._socket,), (), timeout_s)
            return self._send(frames, start)

    def wake(self) -> None:
        """Ends `receive`."""
        self._closed = True
        os.write(self._waker, b"\0")

    def restart(self) -> bool:
        """Asks the kernel, which tells with an error frame. Raises LinkError; OSError where there is no controller."""
        if not self._on_can:
            raise OSError(errno.EOPNOTSUPP, "there is no controller that could be restarted")
        can_link.restart(self._channel)
        return False

    def broadcast(self, frames: Sequence[can.Message], period_s: float) -> BroadcastJob | None:
        """Has the kernel send frames of one ID in turn; None where it cannot. They come back marked as own.

        Raises OSError. One thread at a time.
        """
        if not self._on_can or self._closed:
            return None
        if self._jobs is None:
            self._jobs = Broadcast(self._channel)
        return self._jobs.start(frames, period_s)

    def close(self) -> None:
        """Closes the socket, which ends what the kernel sends."""
        if self._jobs is not None:
            self._jobs.close()
        self._rate.end()
        self._socket.close()
        os.close(self._wake)
        os.close(self._waker)

    def _send(self, frames: Burst, start: int) -> int:
        records = frames.records[start : start + _SLOTS]
        if len(records) == 1:
            is_fd = bool(records["flags"][0] & packed.FD_FRAME)
            frame = bytearray(records.tobytes()[_STAMP_AT : _STAMP_AT + (_FD_MTU if is_fd else _CLASSIC_MTU)])
            frame[5] &= ~packed.OWN
            self._socket.send(frame, _MSG_DONTWAIT)
            return 1
        self._outgoing.fill(records)
        count: int = self._libc.sendmmsg(self._socket.fileno(), self._outgoing.headers_at, len(records), _MSG_DONTWAIT)
        if count < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))  # BlockingIOError for EAGAIN
        return count

    def _take(self) -> int:
        """Fills the slots with what waits; how many."""
        if self._closed:
            return 0
        count: int = self._libc.recvmmsg(self._socket.fileno(), self._ring.headers_at, _SLOTS, _MSG_DONTWAIT, None)
        if count < 0:
            code = ctypes.get_errno()
            if code in (errno.EAGAIN, errno.EINTR):
                return 0
            raise OSError(code, os.strerror(code))
        self._rate.count(count)
        return count

    def _burst(self, count: int) -> Burst | None:
        """The received frames as records of their own: the slots are used again."""
        lengths = self._ring.lengths[:count]
        # Reductions of ufuncs: each costs a microsecond, and this runs a thousand times a second.
        if not _least(lengths):
            count = int(lengths.argmin())
            if not count:
                raise ConnectionResetError(errno.ECONNRESET, "the other end has closed")
            lengths = lengths[:count]
        if self._layout == FD and _most(lengths) > _CLASSIC_MTU:
            records = self._ring.records[:count].copy()
            is_fd = lengths == _FD_MTU
            records["data"][~is_fd, 8:] = 0
            keep = packed.BITRATE_SWITCH | packed.ERROR_STATE
            records["flags"] = np.where(is_fd, records["flags"] & keep | packed.FD_FRAME, 0)
            bad = ~is_fd & (lengths != _CLASSIC_MTU) | (records["length"] > np.where(is_fd, 64, 8))
            sound = not bad.any()
        else:
            records = self._ring.narrow[:count].copy()
            records["flags"] = 0
            sound = _least(lengths) == _CLASSIC_MTU and _most(records["length"]) <= 8
            bad = _NONE if sound else (lengths != _CLASSIC_MTU) | (records["length"] > 8)
        records["stamp"] = self._stamps(count)
        if self._jobs is not None and not self._jobs.idle:
            own = self._jobs.own(records, self._ring.flags[:count] & _MSG_DONTROUTE != 0)
            records["flags"] |= np.where(own, np.uint8(packed.OWN), np.uint8(0))
        self._ring.reset(count)
        if not sound:
            self.lost += int(np.count_nonzero(bad))
            records = records[~bad]
        return Burst(records=records, channel=self._channel) if len(records) else None

    def _stamps(self, count: int) -> npt.NDArray[np.int64]:
        sizes = self._ring.control_lengths[:count]
        first = int(sizes[0])
        if _least(sizes) == first == _most(sizes):
            return self._stamps_alike(first, slice(0, count), count)
        stamps = np.zeros(count, np.int64)
        for size in set(sizes.tolist()):
            chosen = np.flatnonzero(sizes == size)
            stamps[chosen] = self._stamps_alike(size, chosen, len(chosen))
        return stamps

    def _stamps_alike(self, size: int, chosen: "slice | npt.NDArray[np.intp]", count: int) -> npt.NDArray[np.int64]:
        """Of frames with equally much ancillary data, of which the kernel writes the same kinds in the same order."""
        words = self._ring.control[chosen]
        layout = self._layouts.get(size)
        if layout is None:
            layout = self._layouts[size] = _ancillary(words[0].tobytes()[:size])
        dropped = layout.get(_SO_RXQ_OVFL)
        if dropped is not None:
            total = int(words[-1, dropped]) & 0xFFFF_FFFF
            self.lost += (total - self._lost_before) & 0xFFFF_FFFF
            self._lost_before = total
        if _SO_TIMESTAMPNS in layout:
            return _whole_us(words, layout[_SO_TIMESTAMPNS])
        if _SO_TIMESTAMPING in layout:
            at = layout[_SO_TIMESTAMPING]
            software = _whole_us(words, at)
            if words[0, at] and words[0, at + 4]:
                return self._clock.to_system(_whole_us(words, at + 4), software)
            if words[0, at]:
                return software
        now = time.time_ns()
        return np.full(count, now - now % 1000, np.int64)


class HardwareClock:
    """Tells the time of day of stamps that a controller's own clock made.

    That clock may count from anywhere and drifts; but a frame is never stamped by the kernel before the controller has,
    so that the smallest distance seen is the offset. It may grow by ``drift``, more than what quartz crystals differ.
    """

    def __init__(self, *, drift: float = 200e-6) -> None:
        self._drift = drift
        self._offset: int | None = None
        self._at = 0

    def to_system(self, hardware: npt.NDArray[np.int64], software: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Stamps (ns since the Unix epoch) as exact as the controller's, none of them later than the kernel's."""
        smallest = int((software - hardware).min())
        now = int(hardware[-1])
        if self._offset is None or abs(smallest - self._offset) > 1_000_000_000:
            self._offset = smallest  # the first frames, or one of the clocks was set
        else:
            allowed = int(max(now - self._at, 0) * self._drift)
            self._offset = min(smallest, self._offset + allowed)
        self._at = now
        stamps = np.minimum(hardware + self._offset, software)
        result: npt.NDArray[np.int64] = stamps - stamps % 1000
        return result


class _Slots:
    """Memory for the frames of one system call, and the structures that point to it."""

    def __init__(self, layout: np.dtype[np.void], *, control: bool) -> None:
        self.records: Records = np.zeros(_SLOTS, layout)
        self.rows = self.records.view(np.uint8).reshape(_SLOTS, layout.itemsize)
        self.narrow = self.rows[:, : CLASSIC.itemsize].view(CLASSIC)[:, 0]
        """As if all were classic frames, in the same memory."""
        self.control = np.zeros((_SLOTS if control else 0, _CONTROL // 8), np.int64)
        self._vectors = np.zeros(_SLOTS, _VECTOR)
        self._headers = np.zeros(_SLOTS, _HEADER)
        self.headers_at = ctypes.c_void_p(self._headers.ctypes.data)
        numbers = np.arange(_SLOTS, dtype=np.uint64)
        self._vectors["base"] = self.records.ctypes.data + numbers * layout.itemsize + _STAMP_AT
        self._vectors["length"] = layout.itemsize - _STAMP_AT
        self._headers["vector"] = self._vectors.ctypes.data + numbers * _VECTOR.itemsize
        self._headers["vector_length"] = 1
        self.lengths = self._headers["length"]
        self.flags = self._headers["flags"]
        self.control_lengths = self._headers["control_length"]
        if control:
            self._headers["control"] = self.control.ctypes.data + numbers * _CONTROL
            self.reset(_SLOTS)

    def reset(self, count: int) -> None:
        """Makes room for ancillary data again, which the kernel has shortened to what it wrote."""
        self.control_lengths[:count] = _CONTROL

    def fill(self, records: Records) -> None:
        """Puts frames into the first slots, each with the length that it has on the wire's side of the kernel."""
        count = len(records)
        wide = records if records.dtype == self.records.dtype else packed.widen(records)
        self.records[:count] = wide
        flags = self.records["flags"][:count]
        flags &= 0xFF ^ packed.OWN
        self._vectors["length"][:count] = np.where(flags & packed.FD_FRAME, _FD_MTU, _CLASSIC_MTU)


class _Rate:
    """Decides whether reading should pause, from how fast frames have come lately."""

    _pausing: ClassVar[set[int]] = set()

    def __init__(self) -> None:
        self.pause = 0.0
        self._since = time.monotonic()
        self._frames = 0

    def count(self, frames: int) -> None:
        self._frames += frames
        elapsed = time.monotonic() - self._since
        if elapsed >= 0.01:
            rate = self._frames / elapsed
            pause = next(pause for least, pause in _PAUSES if rate >= least)
            (self._pausing.add if pause else self._pausing.discard)(id(self))
            self.pause = max(pause, len(self._pausing) / _WAKES_PER_S) if pause else 0.0
            self._since += elapsed
            self._frames = 0

    def end(self) -> None:
        """The reader has stopped."""
        self._pausing.discard(id(self))


def open_socketcan(channel: str, *, fd: bool) -> RawSocket:
    """A raw CAN socket bound to an interface, which also hears error frames. Raises OSError."""
    link = socket.socket(socket.AF_CAN, socket.SOCK_RAW, socket.CAN_RAW)
    try:
        link.setsockopt(socket.SOL_CAN_RAW, _CAN_RAW_ERR_FILTER, _ALL_ERRORS)
        if fd:
            link.setsockopt(socket.SOL_CAN_RAW, socket.CAN_RAW_FD_FRAMES, 1)
        link.bind((channel,))
        return RawSocket(link, fd=fd, channel=channel)
    except BaseException:
        link.close()
        raise


def open_unix(path: str, *, fd: bool) -> RawSocket:
    """Connects to a unix socket (SOCK_SEQPACKET) that speaks Linux' frame structures. Raises OSError."""
    link = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        link.connect(path)
        return RawSocket(link, fd=fd, channel=path)
    except BaseException:
        link.close()
        raise


def _enlarge(link: socket.socket) -> None:
    try:
        link.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER)
    except OSError:
        # Needs CAP_NET_ADMIN; without it, the kernel gives what net.core.rmem_max allows.
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)


def _ancillary(data: bytes) -> dict[int, int]:
    """Where the data of each entry of SOL_SOCKET begin, in words of 8 bytes, by kind (cmsg(3))."""
    found: dict[int, int] = {}
    at = 0
    while at + _CONTROL_HEADER.size <= len(data):
        length, level, kind = _CONTROL_HEADER.unpack_from(data, at)
        if length < _CONTROL_HEADER.size:
            break
        if level == socket.SOL_SOCKET:
            found[kind] = (at + _CONTROL_HEADER.size) // 8
        at += (length + 7) & ~7
    return found


def _whole_us(words: npt.NDArray[np.int64], at: int) -> npt.NDArray[np.int64]:
    """The struct timespec at word ``at`` of each row, in ns, without what is less than a µs."""
    return words[:, at] * 1_000_000_000 + words[:, at + 1] // 1000 * 1000
