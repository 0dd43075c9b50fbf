"""The one way of points to where they are kept: nobody who hands over points waits for a disk or a network."""

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

import structlog

from labd.model.check import Check, CheckState
from labd.model.point import Point
from labd.telemetry.admission import Admission, Admitted
from labd.telemetry.backoff import MOST_S
from labd.telemetry.counters import Counters, Loss
from labd.telemetry.day import Day
from labd.telemetry.influx import InfluxSettings, InfluxTarget, Target
from labd.telemetry.sender import Sender
from labd.telemetry.spool import Spool

QUEUE_MAX = 50_000
"""Points in memory, on the way to the disk."""
SPOOL_BYTES = 1000 * 10**6
"""Default bound of the spool: an hour of 50,000 points a minute, of which a line has about 220 bytes."""
SYNC_S = 1.0
"""How often what came is brought to the disk: what a power cut may cost, in seconds."""
MARKED_S = 0.2
"""The same while somebody waits for a mark: many who wait share one."""
STOP_S = 2.0
"""How long labd sends on when it stops; the rest waits in the spool for the next labd."""
_RECORD_LINES = 1_000

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Mark:
    name: str
    mark: str
    done: "Future[None]"


class Writer:
    """Takes points into the store of the last day, and into the spool from which InfluxDB gets them."""

    def __init__(
        self,
        folder: Path,
        influx: InfluxSettings | None = None,
        *,
        spool_bytes: int = SPOOL_BYTES,
        target: Target | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Without ``influx``, only the last day is kept. Raises OSError if the folder cannot be used."""
        self.counters = Counters()
        self._clock = clock
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.day = Day(folder / "day.sqlite")
        self._spool_bytes = spool_bytes
        self._spool: Spool | None = None
        self._sender: Sender | None = None
        if influx is not None:
            self._spool = Spool(folder / "spool", self.counters, bytes_max=spool_bytes)
            self._sender = Sender(self._spool, target or InfluxTarget(influx), self.counters, clock)
        self._admission = Admission(self.counters)
        self._queue: deque[Point] = deque()
        self._marks: list[_Mark] = []
        self._changed = threading.Condition()
        self._stopping = False
        self._troubles: dict[str, str] = {}
        self._spooled = threading.Event()
        self._stopped = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="points", daemon=True)
        self._carrier = threading.Thread(target=self._carry, name="points-influx", daemon=True)

    @property
    def sends(self) -> bool:
        """Whether there is an InfluxDB."""
        return self._sender is not None

    def start(self) -> None:
        """Keeps and sends from now on; what was written before is not lost."""
        self._keeper.start()
        if self._sender is not None:
            self._carrier.start()

    def write(self, points: Iterable[Point]) -> None:
        """Takes the points, in their order; never waits, never raises. When there are too many, the first ones go."""
        taken = list(points)
        with self._changed:
            self._queue.extend(taken)
            surplus = len(self._queue) - QUEUE_MAX
            for _ in range(surplus):
                self._queue.popleft()
            self.counters.taken += len(taken)
            self.counters.queued = len(self._queue)
            self._changed.notify()
        if surplus > 0:
            self.counters.lose(Loss.QUEUE_FULL, surplus)

    def mark(self, name: str, mark: str) -> "Future[None]":
        """See `Marks.mark`. What was dropped on the way, and counted, is done with."""
        done: Future[None] = Future()
        with self._changed:
            self._marks.append(_Mark(name, mark, done))
            self._changed.notify()
        return done

    def marked(self, name: str) -> str | None:
        """See `Marks.marked`. Raises OSError."""
        return self.day.marked(name)

    def stop(self) -> None:
        """Brings what came to the disk, and sends for ``STOP_S`` seconds at most."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        if self._keeper.is_alive():
            self._keeper.join()
        if self._carrier.is_alive():
            self._spooled.set()
            self._carrier.join(STOP_S)
        self._stopped.set()
        if self._spool is not None and not self._carrier.is_alive():
            self._spool.close()
        self.day.close()

    def checks(self) -> list[Check]:
        """How points are kept, for ``labctl doctor``."""
        found = [
            Check(
                name, CheckState.ERROR, text, "make room on the disk of labd's data directory, and look at its rights"
            )
            for name, text in sorted(self._troubles.items())
        ]
        if self._sender is None:
            text = "is not configured: figures of the last day are kept, no longer"
            return [*found, Check("InfluxDB", CheckState.OK, text, "labd serve --influx-url, to keep them for longer")]
        found += self._sender.checks()
        if losses := self.counters.losses():
            text = ", ".join(f"{points} ({cause})" for cause, points in losses.items())
            remedy = "the manual (Time series) says what each cause means; --influx-spool-mb gives the spool more room"
            found.append(Check("points dropped", CheckState.WARNING, f"since labd started: {text}", remedy))
        full = self.counters.spool_bytes / self._spool_bytes
        if full > 0.5:
            text = f"is {full:.0%} full; the oldest points go when there is no more room"
            found.append(Check("spool", CheckState.WARNING, text, "bring InfluxDB back, or raise --influx-spool-mb"))
        return found

    def _keep(self) -> None:
        synced, unsynced, marks = time.monotonic(), 0, list[_Mark]()
        while True:
            pause = MARKED_S if marks else SYNC_S
            with self._changed:
                if not self._queue and not self._marks and not self._stopping:
                    self._changed.wait(pause if unsynced or marks else None)
                points, self._queue = self._queue, deque()
                new_marks, self._marks = self._marks, []
                self.counters.queued = 0
                stopping = self._stopping
            marks += new_marks
            try:
                for one in new_marks:
                    self.day.mark(one.name, one.mark)
                self._take(points)
                unsynced += len(points)
                if (unsynced or marks) and (stopping or time.monotonic() - synced >= pause):
                    pending, unsynced, synced = unsynced, 0, time.monotonic()
                    self._sync(pending)
                    done, marks = marks, []
                    for one in done:
                        one.done.set_result(None)
            except Exception:
                self.counters.lose(Loss.FAULT, len(points))
                _log.exception("points were not kept")
            if stopping and not points:
                return

    def _take(self, points: Iterable[Point]) -> None:
        admitted = self._admission.admit(points)
        self.day.take(admitted, self._clock())
        if self._spool is None:
            return
        for start in range(0, len(admitted), _RECORD_LINES):
            part = admitted[start : start + _RECORD_LINES]
            with self._trouble("spool", Loss.DISK, len(part)):
                self._spool.append(_lines(part))
        self._spooled.set()

    def _sync(self, points: int) -> None:
        if self._spool is not None:
            with self._trouble("spool", Loss.DISK, 0):
                self._spool.sync()
        # The marks are in this file: at last, as what they stand for must not be younger.
        with self._trouble("figures of the last day", Loss.DAY, points):
            self.day.flush(self._clock())

    @contextlib.contextmanager
    def _trouble(self, name: str, why: Loss, points: int) -> Iterator[None]:
        """Trouble with the disk costs these points, and is logged when it begins and ends."""
        try:
            yield
        except OSError as error:
            self.counters.lose(why, points)
            if name not in self._troubles:
                _log.error("points cannot be kept on the disk", what=name, error=str(error))
            self._troubles[name] = f"cannot be written: {error}"
        else:
            if self._troubles.pop(name, None) is not None:
                _log.info("points can be kept on the disk again", what=name)

    def _carry(self) -> None:
        if self._sender is None:
            return
        while not self._stopped.is_set():
            self._spooled.clear()
            try:
                wait = self._sender.step()
            except Exception:
                _log.exception("points were not sent; labd tries again in a minute")
                wait = MOST_S
            if self._stopping and not self._keeper.is_alive() and wait != 0:
                return
            if wait is None:
                self._spooled.wait()
            elif wait:
                self._stopped.wait(wait)


def _lines(admitted: list[Admitted]) -> list[bytes]:
    from labd.telemetry.lines import line  # takes a second to import, and is for those who have InfluxDB

    return [line(one.point, one.time_ns) for one in admitted]
