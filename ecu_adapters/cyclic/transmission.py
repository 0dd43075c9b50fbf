"""One message that is sent by itself: what is due next, and who sends it, the agent's thread or the kernel.

Pure but for its log; `Transmitter` is its only user, and keeps the clock and the locks.
"""

import errno
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import can
import structlog

from ecu_adapters.bus import BusError
from ecu_adapters.cyclic.schedule import Grid

CHECK_S = 0.2
"""How often the thread looks whether the kernel still sends a message."""
_AGAIN_S = 0.001
"""When a full transmit queue (ENOBUFS) is tried again."""
_PATIENCE_S = 1.0
"""How long a frame without a period is offered to a full transmit queue."""

_log = structlog.get_logger()


class Port(Protocol):
    """Where frames go: a bus hub, or a place at one."""

    def send(self, message: can.Message, timeout_s: float = 1.0) -> float:
        """Raises BusError when the frame was not taken within ``timeout_s``."""
        ...


class KernelJob(Protocol):
    """Frames that the kernel sends in turn."""

    @property
    def sent(self) -> int:
        """How many were seen on the bus."""

    @property
    def alive(self) -> bool:
        """Whether it goes on."""

    def update(self, frames: Sequence[can.Message], period_s: float) -> bool:
        """Other content and period without a break; False when that takes another job. Raises OSError."""

    def stop(self) -> None:
        """No frame is sent once this returns."""


Kernel = Callable[[Sequence[can.Message], float], KernelJob | None]
"""Has the kernel send frames with a period (s), the first at once; None where it cannot. Raises BusError."""


@dataclass(slots=True)
class TransmissionStats:
    """Counters since the message was added."""

    sent: int = 0
    failed: int = 0
    """Periods without a frame because the bus did not take it."""
    late: int = 0
    """Periods without a frame because the thread came half a period late or more."""
    error: str = ""
    """Why the last frame that failed did."""


class Transmission:
    """One message that is sent by itself. Changed through its `Transmitter` only; ``stats`` may be read any time."""

    def __init__(
        self,
        title: str,
        port: Port,
        frames: Sequence[can.Message],
        period_s: float | None,
        *,
        gap_s: float = 0.0,
        kernel: Kernel | None = None,
    ) -> None:
        """``frames`` are sent in turn. Without a period it is sent when asked (`Transmitter.send_now`), never sooner
        than ``gap_s`` after the last time. ``kernel`` is for a message that is sent with its period only."""
        self.title = title
        self.period_s = period_s
        self._stats = TransmissionStats()
        self.running = False
        self.frozen = False
        """The same frame is sent again and again: the alive counter stands still."""
        self._last = -1
        """Index of the frame that was sent last."""
        self._index = 0
        """Index of the frame that is being sent."""
        self._skip = 0
        self._port = port
        self._frames = tuple(frames)
        self._gap_s = gap_s
        self._grid: Grid | None = None
        self._wanted_s: float | None = None
        self._retry_s: float | None = None
        self._give_up_s = 0.0
        self._last_s = float("-inf")
        self._kernel = kernel
        self._job: KernelJob | None = None
        self._job_first = 0
        """Index of the first frame that the kernel sent."""
        self._sent_before = 0
        self._handed_s = 0.0
        self._recalled = False
        """The thread is to send again itself: it can what the kernel cannot."""
        self._check_s = 0.0
        """When to look next whether the kernel still sends."""
        self._seen = 0
        self._seen_s = 0.0
        """How many frames the kernel had sent, and when that was last seen to be more."""

    @property
    def stats(self) -> TransmissionStats:
        """Counters since the message was added."""
        if self._job is not None:
            self._stats.sent = self._sent_before + self._job.sent
        return self._stats

    @property
    def in_kernel(self) -> bool:
        """Whether the kernel sends it by itself at present."""
        return self._job is not None

    @property
    def due_s(self) -> float | None:
        """When the next frame is due; None when none is."""
        if self._job is not None:
            return self._check_s
        if self._retry_s is not None:
            return self._retry_s
        times = [self._grid.due_s if self._grid is not None else None, self._wanted_s]
        return min((when for when in times if when is not None), default=None)

    @property
    def _for_kernel(self) -> bool:
        plain = not self.frozen and not self._skip and self._retry_s is None
        return self._kernel is not None and plain and self.running and self.period_s is not None

    def _in_turn(self, first: int) -> tuple[can.Message, ...]:
        """The frames from this one on."""
        first %= len(self._frames)
        return self._frames[first:] + self._frames[:first]

    def _hand_over(self, job: KernelJob, now_s: float) -> None:
        self._job, self._job_first, self._sent_before = job, self._last + 1, self._stats.sent
        self._handed_s = now_s
        self._recalled, self._seen, self._seen_s = False, 0, now_s
        self._check_s = now_s + CHECK_S

    def _take_back(self, now_s: float) -> None:
        """What the kernel has sent counts, and the thread goes on behind it."""
        if self._job is None:
            return
        sent = self._job.sent
        self._stats.sent, self._last, self._last_s = self._sent_before + sent, self._job_first + sent - 1, now_s
        self._job, self._recalled = None, False
        if self.running and self.period_s is not None:
            # The kernel's grid goes on.
            over = int((now_s - self._handed_s) / self.period_s) + 1 if sent else 0
            self._grid = Grid(self._handed_s, self.period_s, over)

    def _start(self, now_s: float) -> None:
        self.running = True
        self._grid = Grid(now_s, self.period_s) if self.period_s is not None else None

    def _stop(self) -> None:
        self.running = False
        self._grid = self._wanted_s = self._retry_s = None

    def _want(self, now_s: float) -> None:
        if self.running and self._wanted_s is None:
            self._wanted_s = max(now_s, self._last_s + self._gap_s)

    def _set_period(self, period_s: float | None, now_s: float) -> None:
        self.period_s = period_s
        if not self.running or period_s is None:
            self._grid = None
        else:
            self._grid = self._grid.with_period(period_s) if self._grid is not None else Grid(now_s, period_s)

    def _begin(self, now_s: float) -> can.Message:
        """Crosses off what is due now and gives the frame."""
        if self._retry_s is None:
            if self._wanted_s is not None and self._wanted_s <= now_s:
                self._wanted_s = None
            if self._grid is not None and self._grid.due_s <= now_s:
                self._stats.late += self._grid.advance(now_s)
            self._give_up_s = self._grid.due_s if self._grid is not None else now_s + _PATIENCE_S
            if not self.frozen or self._last < 0:
                self._index = self._last + 1 + self._skip
                self._skip = 0
            else:
                self._index = self._last
        return self._frames[self._index % len(self._frames)]

    def _taken(self, now_s: float) -> None:
        self._stats.sent += 1
        self._last_s, self._retry_s = now_s, None
        self._last = self._index

    def _refused(self, error: BusError, now_s: float) -> None:
        self._stats.error = str(error)
        if _is_full(error) and self.running and now_s + _AGAIN_S < self._give_up_s:
            self._retry_s = now_s + _AGAIN_S
            return
        self._retry_s = None
        self._stats.failed += 1
        # One that fails every time must not fill the log: the 1st, 2nd, 4th, 8th, ... time is enough.
        if self._stats.failed & (self._stats.failed - 1) == 0:
            _log.warning("cyclic message was not sent", message=self.title, times=self._stats.failed, reason=str(error))


def _is_full(error: BusError) -> bool:
    """Whether the transmit queue had no room: python-can and the operating system say so in different fields."""
    codes = (getattr(error.__cause__, "error_code", None), getattr(error.__cause__, "errno", None))
    return any(code in (errno.ENOBUFS, errno.EAGAIN) for code in codes)
