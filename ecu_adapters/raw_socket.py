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

import numpy as np
import numpy.typing as npt

from ecu_adapters import frame_records as packed
from ecu_adapters.burst import Burst
from ecu_adapters.frame_records import CLASSIC, FD, Records

SUPPORTED = sys.platform == "linux" and struct.calcsize("P") == 8
"""Whether this system has recvmmsg with the layouts below; elsewhere SocketCAN goes through python-can."""

_SLOTS = 512
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
_RECEIVE_BUFFER = 8 << 20
"""Bytes of the kernel's queue for one socket, if we may; about a second of a full bus."""

_BUSY_PER_S = 3_000
"""Frames/s from which on reading pauses a little, so that one system call takes several frames."""
_PAUSE_S = 0.001

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
        self._channel = channel
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._layout = FD if fd else CLASSIC
        self._ring = _Slots(self._layout, control=True)
        self._outgoing = _Slots(self._layout, control=False)
        self._clock = HardwareClock()
        self._lost_before = 0
        self._rate = _Rate()
        self._wake, self._waker = os.pipe()
        self._poll = select.poll()
        self._poll.register(link.fileno(), select.POLLIN)
        self._poll.register(self._wake, select.POLLIN)
        self._closed = False
        _enlarge(link)
        stamps = (_SO_TIMESTAMPNS, 1) if link.family == socket.AF_UNIX else (_SO_TIMESTAMPING, _STAMP_FLAGS)
        for option, value in (stamps, (_SO_RXQ_OVFL, 1)):
            try:
                link.setsockopt(socket.SOL_SOCKET, option, value)
            except OSError:
                continue  # then frames are stamped here, and drops stay unknown

    def receive(self, timeout_s: float) -> Burst | None:
        """Raises OSError when the interface is down or gone, ConnectionError when the other end has closed."""
        if self._rate.pause and not self._closed:
            time.sleep(self._rate.pause)
        ready = self._poll.poll(timeout_s * 1000)
        if not ready or self._closed:
            self._rate.count(0)
            return None
        count = self._libc.recvmmsg(self._socket.fileno(), self._ring.headers_at, _SLOTS, _MSG_DONTWAIT, None)
        if count < 0:
            code = ctypes.get_errno()
            if code in (errno.EAGAIN, errno.EINTR):
                return None
            raise OSError(code, os.strerror(code))
        self._rate.count(count)
        return self._burst(count)

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

    def close(self) -> None:
        """Closes the socket."""
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

    def _burst(self, count: int) -> Burst | None:
        """The received frames as records of their own: the slots are used again."""
        lengths = self._ring.lengths[:count]
        if not lengths.all():
            count = int(lengths.argmin())
            if not count:
                raise ConnectionResetError(errno.ECONNRESET, "the other end has closed")
            lengths = lengths[:count]
        is_fd = lengths == _FD_MTU
        sound = is_fd | (lengths == _CLASSIC_MTU)
        if is_fd.any():
            records = self._ring.records[:count].copy()
            records["data"][~is_fd, 8:] = 0
        elif self._layout == FD:
            rows = self._ring.rows[:count, : CLASSIC.itemsize]
            records = np.ascontiguousarray(rows).reshape(-1).view(CLASSIC)
        else:
            records = self._ring.records[:count].copy()
        keep = packed.BITRATE_SWITCH | packed.ERROR_STATE
        records["flags"] = np.where(is_fd, records["flags"] & keep | packed.FD_FRAME, 0)
        records["stamp"] = self._stamps(count)
        self._ring.reset(count)
        sound &= records["length"] <= np.where(is_fd, 64, 8)
        if not sound.all():
            self.lost += int(count - sound.sum())
            records = records[sound]
        return Burst(records=records, channel=self._channel) if len(records) else None

    def _stamps(self, count: int) -> npt.NDArray[np.int64]:
        stamps = np.full(count, time.time_ns(), np.int64)
        sizes = self._ring.control_lengths[:count]
        # The kernel writes the same ancillary data in the same order into all messages that have equally much of it.
        for size in set(sizes.tolist()):
            if not size:
                continue
            chosen = np.flatnonzero(sizes == size)
            rows = self._ring.control[chosen]
            for kind, at in _ancillary(rows[0, :size].tobytes()):
                if kind == _SO_TIMESTAMPNS:
                    stamps[chosen] = _nanoseconds(rows, at)
                elif kind == _SO_TIMESTAMPING:
                    software, hardware = _nanoseconds(rows, at), _nanoseconds(rows, at + 32)
                    stamps[chosen] = np.where(software > 0, software, stamps[chosen])
                    if hardware.all():
                        stamps[chosen] = self._clock.to_system(hardware, stamps[chosen])
                elif kind == _SO_RXQ_OVFL:
                    dropped = int(rows[-1, at : at + 4].view("<u4")[0])
                    self.lost += (dropped - self._lost_before) & 0xFFFF_FFFF
                    self._lost_before = dropped
        result: npt.NDArray[np.int64] = stamps - stamps % 1000
        return result


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
        return np.minimum(hardware + self._offset, software)


class _Slots:
    """Memory for the frames of one system call, and the structures that point to it."""

    def __init__(self, layout: np.dtype[np.void], *, control: bool) -> None:
        self.records: Records = np.zeros(_SLOTS, layout)
        self.rows = self.records.view(np.uint8).reshape(_SLOTS, layout.itemsize)
        self.control = np.zeros((_SLOTS if control else 0, _CONTROL), np.uint8)
        self._vectors = np.zeros(_SLOTS, _VECTOR)
        self._headers = np.zeros(_SLOTS, _HEADER)
        self.headers_at = ctypes.c_void_p(self._headers.ctypes.data)
        numbers = np.arange(_SLOTS, dtype=np.uint64)
        self._vectors["base"] = self.records.ctypes.data + numbers * layout.itemsize + _STAMP_AT
        self._vectors["length"] = layout.itemsize - _STAMP_AT
        self._headers["vector"] = self._vectors.ctypes.data + numbers * _VECTOR.itemsize
        self._headers["vector_length"] = 1
        self.lengths = self._headers["length"]
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

    def __init__(self) -> None:
        self.pause = 0.0
        self._since = time.monotonic()
        self._frames = 0

    def count(self, frames: int) -> None:
        self._frames += frames
        elapsed = time.monotonic() - self._since
        if elapsed >= 0.01:
            self.pause = _PAUSE_S if self._frames >= _BUSY_PER_S * elapsed else 0.0
            self._since += elapsed
            self._frames = 0


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


def _ancillary(data: bytes) -> list[tuple[int, int]]:
    """Kind and place of each entry of SOL_SOCKET (cmsg(3))."""
    found: list[tuple[int, int]] = []
    at = 0
    while at + _CONTROL_HEADER.size <= len(data):
        length, level, kind = _CONTROL_HEADER.unpack_from(data, at)
        if length < _CONTROL_HEADER.size:
            break
        if level == socket.SOL_SOCKET:
            found.append((kind, at + _CONTROL_HEADER.size))
        at += (length + 7) & ~7
    return found


def _nanoseconds(rows: npt.NDArray[np.uint8], at: int) -> npt.NDArray[np.int64]:
    """The struct timespec at ``at`` of each row."""
    spec = np.ascontiguousarray(rows[:, at : at + 16]).view("<i8")
    result: npt.NDArray[np.int64] = spec[:, 0] * 1_000_000_000 + spec[:, 1]
    return result
