"""One thread that sends all cyclic messages of all buses.

What a message carries has been worked out before (`Recipe.frames`): the thread takes the next frame and hands it to the
bus. A message that fails is counted and stays; a bus whose transmit queue is full is asked again a little later, while
the others go on.
"""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import can
import structlog

from ecu_adapters.bus import BusError
from ecu_adapters.cyclic.schedule import Schedule
from ecu_adapters.cyclic.transmission import CHECK_S, Transmission

SHORTEST_S = 0.001
"""The shortest period (s)."""
_SEND_TIMEOUT_S = 0.0005
"""How long a bus may keep the thread, and with it the other buses."""
_SILENCE_S, _SILENT_PERIODS = 1.0, 3
"""How long no frame of the kernel's may be seen: whichever is longer."""
_SETTLE_S = 0.005
"""From the kernel's last frame until it is counted."""

_log = structlog.get_logger()


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
        if self._halt(message):
            time.sleep(_SETTLE_S)
            with self._changed:
                message._take_back(time.monotonic())

    def resume(self, message: Transmission) -> None:
        """Goes on, with the first frame at once. Does nothing while it runs, or once it was removed."""
        with self._changed:
            if message in self._members and not message.running:
                message._start(time.monotonic())
                self._plan(message)

    def remove(self, message: Transmission) -> None:
        """Ends a message for good. No frame is sent once this returns."""
        self._halt(message)
        with self._changed:
            self._members.discard(message)
            self._changed.notify_all()

    def set_frames(self, message: Transmission, frames: Sequence[can.Message]) -> None:
        """Other content from the next frame on; neither the period's grid nor the counter is disturbed."""
        with self._changed:
            message._frames = tuple(frames)
            self._update_job(message)

    def set_period(self, message: Transmission, period_s: float | None) -> None:
        """Another period after the next frame; None: only when asked."""
        with self._changed:
            message._set_period(period_s, time.monotonic())
            self._update_job(message)
            self._plan(message)

    def skip(self, message: Transmission, count: int) -> None:
        """Leaves out so many states of the counter."""
        with self._changed:
            message._skip += count
            self._recall(message)

    def freeze(self, message: Transmission, *, frozen: bool) -> None:
        """Stops or goes on counting. A frozen counter stays at the value that was sent last."""
        with self._changed:
            message.frozen = frozen
            if frozen:
                self._recall(message)

    def send_now(self, message: Transmission) -> None:
        """Sends a frame as soon as the message's gap allows, beside its period. Not while it is paused."""
        with self._changed:
            message._want(time.monotonic())
            self._recall(message)
            self._plan(message)

    def _halt(self, message: Transmission) -> bool:
        """Stops a message, and says whether it was the kernel that sent it."""
        with self._changed:
            message._stop()
            self._schedule.drop(message)
            self._changed.wait_for(lambda: self._sending is not message)
            if message._job is None:
                return False
            message._recalled = True
            message._job.stop()
            return True

    def _update_job(self, message: Transmission) -> None:
        if message._job is None:
            return
        try:
            taken = message.period_s is not None and message._job.update(
                message._in_turn(message._job_first), message.period_s
            )
        except OSError:
            taken = False
        if not taken:
            self._recall(message)

    def _recall(self, message: Transmission) -> None:
        """Has the thread send again what the kernel sends."""
        if message._job is not None and not message._recalled:
            message._recalled, message._check_s = True, time.monotonic()
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
        if message._job is not None:
            self._look_after(message, now_s)
            return
        if message._for_kernel and self._hand_over(message, now_s):
            return
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

    def _hand_over(self, message: Transmission, now_s: float) -> bool:
        """Has the kernel send from now on; false, and for good, when it cannot."""
        frames, period_s, kernel = message._frames, message.period_s, message._kernel
        if kernel is None or period_s is None:
            return False
        job = None
        with self._busy_with(message):
            try:
                job = kernel(message._in_turn(message._last + 1), period_s)
            except Exception as error:
                _log.info("the kernel does not send a cyclic message", message=message.title, reason=str(error))
        if job is None:
            message._kernel = None
            return False
        message._hand_over(job, now_s)
        if message._frames is not frames or message.period_s != period_s:
            self._update_job(message)  # they were changed meanwhile
        if message.frozen or message._skip:
            self._recall(message)
        if message.running:
            self._schedule.put(message, message._check_s)
        self._changed.notify_all()
        return True

    def _look_after(self, message: Transmission, now_s: float) -> None:
        """Takes over from the kernel when that is asked for, or when it has ceased to send."""
        job, period_s = message._job, message.period_s
        if job is None:
            return
        alive = job.alive
        if job.sent != message._seen:
            message._seen, message._seen_s = job.sent, now_s
        silent_s = now_s - message._seen_s
        silent = period_s is not None and silent_s > max(_SILENCE_S, _SILENT_PERIODS * period_s)
        if alive and not silent and not message._recalled:
            message._check_s = now_s + CHECK_S
            self._schedule.put(message, message._check_s)
            return
        if not message._recalled:
            # The thread tells why, with its own next frame.
            message._kernel = None
            message._stats.failed += int(silent_s / period_s) if period_s else 0
            message._stats.error = "the kernel's frames did not reach the bus"
            _log.warning("the kernel has ceased to send a cyclic message", message=message.title, silent_s=silent_s)
        job.stop()
        with self._busy_with(message):
            time.sleep(_SETTLE_S if alive else 0)
        message._take_back(time.monotonic())
        due_s = message.due_s
        if due_s is not None and message.running:
            self._schedule.put(message, due_s)
        self._changed.notify_all()

    @contextmanager
    def _busy_with(self, message: Transmission) -> Iterator[None]:
        """Lets others have the lock, save those who wait for this message."""
        self._sending = message
        self._changed.release()
        try:
            yield
        finally:
            self._changed.acquire()
            self._sending = None
