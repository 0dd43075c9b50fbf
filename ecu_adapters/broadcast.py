"""Frames that Linux sends by itself: SocketCAN's broadcast manager (linux/can/bcm.h).

A job is a row of frames with one ID, sent in turn with a period by a timer of the kernel, which no busy process makes
late. The kernel ends all jobs of a socket when it is closed, however its process ends.
"""

import errno
import socket
import struct
import threading
import time
from collections.abc import Sequence

import can
import numpy as np
import numpy.typing as npt

from ecu_adapters import frame_records as packed
from ecu_adapters.frame_records import Records

MOST_FRAMES = 256
"""Of one job (MAX_NFRAMES)."""
_FADING_S = 1.0
"""How long frames of an ended job are still expected back."""
_HEAD = struct.Struct("@IIIllllII")
"""struct bcm_msg_head without frames: opcode, flags, count, two intervals (s, us), ID, number of frames."""
_FRAME_AT = 8
_CLASSIC_MTU, _FD_MTU = 16, 72
_TX_SETUP, _TX_DELETE = 1, 2
_SETTIMER, _STARTTIMER, _FD_FRAMES = 0x0001, 0x0002, 0x0800


class BroadcastJob:
    """A row of frames that the kernel sends. Usable from any thread."""

    def __init__(self, broadcast: "Broadcast", frames: Sequence[can.Message], period_s: float) -> None:
        self.can_id = packed.can_id(frames[0])
        """As in SocketCAN."""
        self.sent = 0
        """Frames that were seen on the bus."""
        self._broadcast = broadcast
        self._frames = tuple(frames)
        self._period_s = period_s

    @property
    def alive(self) -> bool:
        """Whether the kernel still sends."""
        return self._broadcast.has(self)

    def update(self, frames: Sequence[can.Message], period_s: float) -> bool:
        """Other content from the next frame on, another period after it; the row goes on where it is.

        False, and nothing is changed, for what takes another job: another number of frames, or CAN FD frames for
        classic ones. Raises OSError.
        """
        same_kind = len(frames) == len(self._frames) and all(frame.is_fd == self._frames[0].is_fd for frame in frames)
        if not same_kind or not self.alive:
            return False
        timer = _SETTIMER if period_s != self._period_s else 0
        self._broadcast.set_up(frames, period_s, timer)
        self._frames, self._period_s = tuple(frames), period_s
        return True

    def stop(self) -> None:
        """The kernel sends no further frame once this returns. Stopping twice does nothing."""
        self._broadcast.end(self)


class Broadcast:
    """The jobs on one interface, on one socket. Usable from any thread.

    Their frames come back by the interface's loopback; `own` tells them from others'.
    """

    def __init__(self, channel: str) -> None:
        """Raises OSError where the kernel has no broadcast manager."""
        self._lock = threading.Lock()
        self._jobs: dict[int, BroadcastJob] = {}
        self._ids: npt.NDArray[np.uint32] = np.zeros(0, np.uint32)
        self._fading: dict[int, tuple[BroadcastJob, float]] = {}
        """Ended jobs, whose last frames may not have been read yet, and until when."""
        self._closed = False
        self._socket = socket.socket(socket.AF_CAN, socket.SOCK_DGRAM, socket.CAN_BCM)
        try:
            self._socket.connect((channel,))
            self._socket.setblocking(False)
        except OSError:
            self._socket.close()
            raise

    @property
    def idle(self) -> bool:
        """Whether no frame of ours can come back."""
        return not len(self._ids)

    def start(self, frames: Sequence[can.Message], period_s: float) -> BroadcastJob | None:
        """Sends the first frame at once. None for what the kernel cannot: too many, mixed kinds, an ID in use.

        Raises OSError.
        """
        job = BroadcastJob(self, frames, period_s)
        alike = all(frame.is_fd == frames[0].is_fd and packed.can_id(frame) == job.can_id for frame in frames)
        with self._lock:
            if self._closed or not alike or not 1 <= len(frames) <= MOST_FRAMES or job.can_id in self._jobs:
                return None
            self._jobs[job.can_id] = job
            # Before the first frame can come back.
            self._note()
        try:
            self.set_up(frames, period_s, _SETTIMER | _STARTTIMER)
        except OSError:
            with self._lock:
                del self._jobs[job.can_id]
                self._note()
            raise
        return job

    def has(self, job: BroadcastJob) -> bool:
        """Whether the job runs."""
        return not self._closed and self._jobs.get(job.can_id) is job

    def set_up(self, frames: Sequence[can.Message], period_s: float, flags: int) -> None:
        """Tells the kernel. Raises OSError."""
        is_fd = frames[0].is_fd
        head = _head(_TX_SETUP, flags | (_FD_FRAMES if is_fd else 0), packed.can_id(frames[0]), len(frames), period_s)
        self._socket.send(head + b"".join(_bytes(frame) for frame in frames))

    def end(self, job: BroadcastJob) -> None:
        """Ends a job. Never raises: where the socket has gone, so have its jobs."""
        with self._lock:
            if self._closed or self._jobs.get(job.can_id) is not job:
                return
            is_fd = job._frames[0].is_fd
            try:
                self._socket.send(_head(_TX_DELETE, _FD_FRAMES if is_fd else 0, job.can_id, 0, 0.0))
            except OSError as error:
                if error.errno not in (errno.EINVAL, errno.ENODEV, errno.ENETDOWN, errno.ENOTCONN):
                    # The one way left to make the kernel stop.
                    self._close()
            del self._jobs[job.can_id]
            # Frames that are in our receive queue already are own ones still.
            self._fading[job.can_id] = (job, time.monotonic() + _FADING_S)
            self._note()

    def own(self, records: Records, local: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Which of these frames the jobs have sent, and counts them. ``local``: sent on this machine at all."""
        if self._fading:
            self._forget()
        own: npt.NDArray[np.bool_] = local & np.isin(records["id"], self._ids)
        for can_id, count in zip(*np.unique(records["id"][own], return_counts=True), strict=True):
            job = self._jobs.get(int(can_id)) or self._fading.get(int(can_id), (None, 0.0))[0]
            if job is not None:
                job.sent += int(count)
        return own

    def close(self) -> None:
        """Ends all jobs."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        self._closed = True
        self._socket.close()

    def _forget(self) -> None:
        now = time.monotonic()
        with self._lock:
            self._fading = {can_id: one for can_id, one in self._fading.items() if one[1] > now}
            self._note()

    def _note(self) -> None:
        self._ids = np.fromiter({*self._jobs, *self._fading}, np.uint32)


def _head(opcode: int, flags: int, can_id: int, frames: int, period_s: float) -> bytes:
    seconds, us = divmod(round(period_s * 1e6), 1_000_000)
    return _HEAD.pack(opcode, flags, 0, 0, 0, seconds, us, can_id, frames)


def _bytes(frame: can.Message) -> bytes:
    record = packed.pack([frame])[0].tobytes()
    data = bytearray(record[_FRAME_AT : _FRAME_AT + (_FD_MTU if frame.is_fd else _CLASSIC_MTU)])
    data[5] &= ~packed.OWN & 0xFF
    return bytes(data)
