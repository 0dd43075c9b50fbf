"""One thread that sends all cyclic messages of all buses.

What a message carries has been worked out before (`Recipe.frames`): the thread takes the next frame and hands it to the
bus. A message that fails is counted and stays; a bus whose transmit queue is full is asked again a little later, while
the others go on.
"""

import errno
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import can
import structlog

from ecu_adapters.bus import BusError
from ecu_adapters.cyclic.schedule import Grid, Schedule

SHORTEST_S = 0.001
"""The shortest period (s)."""
_SEND_TIMEOUT_S = 0.0005
"""How long a bus may keep the thread, and with it the other buses."""
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
        self, title: str, port: Port, frames: Sequence[can.Message], period_s: float | None, *, gap_s: float = 0.0
    ) -> None:
        """``frames`` are sent in turn. Without a period it is sent when asked (`Transmitter.send_now`), never sooner
        than ``gap_s`` after the last time."""
        self.title = title
        self.period_s = period_s
        self.stats = TransmissionStats()
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

    @property
    def due_s(self) -> float | None:
        """When the next frame is due; None when none is."""
        if self._retry_s is not None:
            return self._retry_s
        times = [self._grid.due_s if self._grid is not None else None, self._wanted_s]
        return min((when for when in times if when is not None), default=None)

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
                self.stats.late += self._grid.advance(now_s)
            self._give_up_s = self._grid.due_s if self._grid is not None else now_s + _PATIENCE_S
            if not self.frozen or self._last < 0:
                self._index = self._last + 1 + self._skip
                self._skip = 0
            else:
                self._index = self._last
        return self._frames[self._index % len(self._frames)]

    def _taken(self, now_s: float) -> None:
        self.stats.sent += 1
        self._last_s, self._retry_s = now_s, None
        self._last = self._index

    def _refused(self, error: BusError, now_s: float) -> None:
        self.stats.error = str(error)
        if _is_full(error) and self.running and now_s + _AGAIN_S < self._give_up_s:
            self._retry_s = now_s + _AGAIN_S
            return
        self._retry_s = None
        self.stats.failed += 1
        # One that fails every time must not fill the log: the 1st, 2nd, 4th, 8th, ... time is enough.
        if self.stats.failed & (self.stats.failed - 1) == 0:
            _log.warning("cyclic message was not sent", message=self.title, times=self.stats.failed, reason=str(error))


class Transmitter:
    """Sends any number of messages on any number of buses from one thread, which lives while there are messages."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._schedule: Schedule[Transmission] = Schedule()
        self._members: set[Transmission] = set()
        self._sending: Transmission | None = None
        self._thread: threading.Thread | None = None

    def __len__(self) -> int:
        return len(self._members)

    def add(self, message: Transmission, *, delay_s: float = 0.0) -> None:
        """Takes a message in and starts it; its first frame is due after ``delay_s``."""
        with self._changed:
            self._members.add(message)
            message._start(time.monotonic() + delay_s)
            self._plan(message)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="cyclic", daemon=True)
                self._thread.start()

    def pause(self, message: Transmission) -> None:
        """No frame is sent once this returns. Pausing twice does nothing."""
        with self._changed:
            message._stop()
            self._schedule.drop(message)
            self._changed.wait_for(lambda: self._sending is not message)

    def resume(self, message: Transmission) -> None:
        """Goes on, with the first frame at once. Does nothing while it runs, or once it was removed."""
        with self._changed:
            if message in self._members and not message.running:
                message._start(time.monotonic())
                self._plan(message)

    def remove(self, message: Transmission) -> None:
        """Ends a message for good. No frame is sent once this returns."""
        self.pause(message)
        with self._changed:
            self._members.discard(message)
            self._changed.notify_all()

    def set_frames(self, message: Transmission, frames: Sequence[can.Message]) -> None:
        """Other content from the next frame on; neither the period's grid nor the counter is disturbed."""
        with self._changed:
            message._frames = tuple(frames)

    def set_period(self, message: Transmission, period_s: float | None) -> None:
        """Another period after the next frame; None: only when asked."""
        with self._changed:
            message._set_period(period_s, time.monotonic())
            self._plan(message)

    def skip(self, message: Transmission, count: int) -> None:
        """Leaves out so many states of the counter."""
        with self._changed:
            message._skip += count

    def freeze(self, message: Transmission, *, frozen: bool) -> None:
        """Stops or goes on counting. A frozen counter stays at the value that was sent last."""
        with self._changed:
            message.frozen = frozen

    def send_now(self, message: Transmission) -> None:
        """Sends a frame as soon as the message's gap allows, beside its period. Not while it is paused."""
        with self._changed:
            message._want(time.monotonic())
            self._plan(message)

    def _plan(self, message: Transmission) -> None:
        due_s = message.due_s
        if due_s is None or message is self._sending:
            # A message that is being sent makes its next appointment afterwards.
            self._schedule.drop(message)
            return
        first = self._schedule.next_s()
        self._schedule.put(message, due_s)
        if first is None or due_s < first:
            self._changed.notify_all()

    def _run(self) -> None:
        clock = time.monotonic
        with self._changed:
            while self._members:
                now_s = clock()
                message = self._schedule.take(now_s)
                if message is not None:
                    self._send(message, now_s)
                else:
                    due_s = self._schedule.next_s()
                    self._changed.wait(None if due_s is None else due_s - now_s)
            self._thread = None

    def _send(self, message: Transmission, now_s: float) -> None:
        """Called with the lock held, which others may have while the driver is at work."""
        frame = message._begin(now_s)
        self._sending = message
        self._changed.release()
        failure: BusError | None = None
        try:
            message._port.send(frame, _SEND_TIMEOUT_S)
        except BusError as error:
            failure = error
        except Exception as error:
            # Whatever a driver raises beyond that: one message's fault must not end all the others.
            failure = BusError(f"{type(error).__name__}: {error}")
        finally:
            self._changed.acquire()
            self._sending = None
        if failure is None:
            message._taken(now_s)
        else:
            message._refused(failure, now_s)
        due_s = message.due_s
        if due_s is not None:
            self._schedule.put(message, due_s)
        self._changed.notify_all()  # somebody may be waiting in `pause`


def _is_full(error: BusError) -> bool:
    """Whether the transmit queue had no room: python-can and the operating system say so in different fields."""
    codes = (getattr(error.__cause__, "error_code", None), getattr(error.__cause__, "errno", None))
    return any(code in (errno.ENOBUFS, errno.EAGAIN) for code in codes)
