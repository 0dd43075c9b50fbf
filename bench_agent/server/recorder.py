"""The trace of one bus during one lease, as files that any CAN tool reads.

Its own thread writes; the bus' threads only append to a bounded queue. What does not fit, in the queue, in the trace's
bounds or on the disk, is counted, and the counts stand beside the files. A disk that fails costs the trace only, and
only until it takes something again.
"""

import json
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import structlog

from bench_agent.server import blf, trace_store
from bench_agent.server.config import Traces
from bench_agent.server.trace_formats import FORMATS, MOST_RECORDS, Format
from bench_agent.server.trace_store import Segment
from ecu_adapters.burst import Burst, records_of
from ecu_adapters.frame_records import NONE, Records

QUEUE = 262_144
"""Frames that wait for the disk."""
FLUSH_S = 0.2
"""How old a frame gets before it is in the file."""
RETRY_S = 10.0
"""Pause before a disk that failed is tried again."""
_STOP_S = 5.0
_SEGMENTS = 8
"""In a trace that is full: what goes at once when it makes room."""

_log = structlog.get_logger()


@dataclass(slots=True)
class TraceCounts:
    """What became of the frames."""

    written: int = 0
    dropped: int = 0
    """Came faster than the disk took them."""
    beyond_limit: int = 0
    """Came after a trace that keeps its oldest part had reached its size or duration."""
    overwritten: int = 0
    """Were written, and made room for newer ones."""
    failed: int = 0
    """The disk did not take them."""


class Recorder:
    """Writes the frames given to `put` until `stop`."""

    def __init__(
        self,
        place: Path,
        bus: str,
        settings: Traces,
        *,
        max_bytes: int | None = None,
        queue: int = QUEUE,
        retry_s: float = RETRY_S,
        on_drop: Callable[[str, int], None] = lambda _cause, _count: None,
    ) -> None:
        """Goes on with the trace that is there: an agent that was restarted serves the same lease.

        ``max_bytes`` is what ``settings`` say unless given. ``on_drop`` is called, from any thread, with the cause
        and the number of frames that are not in the trace: ``trace`` (they came too fast), ``trace_full``,
        ``trace_failed``. Raises OSError.
        """
        place.mkdir(parents=True, exist_ok=True)
        self.bus = bus
        self.fault: str | None = None
        """Why frames are not being written at present; None when they are."""
        self._place = place
        self._newest = settings.keep == "newest"
        self._max_bytes = settings.max_file_mb << 20 if max_bytes is None else max_bytes
        self._max_ns = round(settings.max_duration_s * 1e9) if settings.max_duration_s else None
        self._retry_s = retry_s
        self._on_drop = on_drop
        self._begin_ns = trace_store.begin_ns(place, bus) or blf.whole_ms(time.time_ns())
        self._kinds: list[Format] = [FORMATS[name](bus, self._begin_ns) for name in settings.formats]
        known = trace_store.segments(place, bus)
        self._number = max((number for number, _ in known), default=0)
        self._counts = TraceCounts(written=_recorded(known))
        self._sizes: dict[int, int] = {}
        """Bytes by number of segment."""
        self._frames: dict[int, int] = {}
        self._ends: dict[int, int] = {}
        """Time of its last frame (ns) by number of segment."""
        for number, path in known:
            listed = trace_store.chunks(path)
            self._sizes[number] = self._sizes.get(number, 0) + path.stat().st_size
            self._frames[number] = sum(chunk.frames for chunk in listed)
            self._ends[number] = max((chunk.last_ns for chunk in listed), default=self._begin_ns)
        self._open: list[Segment] = []
        self._full = False
        self._retry_at = 0.0
        self._bound = queue
        self._queue: list[Burst] = []
        self._waiting = 0
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._taken = 0  # frames that the writer has dealt with
        self._put = 0
        self._dealt = threading.Condition(self._lock)
        self._save()
        self._thread = threading.Thread(target=self._run, name=f"trace-{bus}", daemon=True)
        self._thread.start()

    @property
    def counts(self) -> TraceCounts:
        """Up to now."""
        with self._lock:
            return replace(self._counts)

    def put(self, burst: Burst) -> None:
        """A tap of a bus hub; any thread."""
        # Not packed here: frames that were sent one at a time are packed many at a time by the writer.
        count = len(burst)
        # The reader's and the senders' threads: without the lock, two of them could count as one.
        with self._lock:
            room = min(max(self._bound - self._waiting, 0), count)
            if room:
                self._queue.append(burst if room == count else Burst(records=burst.records[:room], own=burst.own))
            self._waiting += room
            self._put += room
            self._counts.dropped += count - room
        if count > room:
            self._on_drop("trace", count - room)

    def sync(self, timeout_s: float) -> bool:
        """Waits until what was put so far is written or counted. False when the disk takes too long."""
        with self._dealt:
            upto = self._put
            self._wake.set()
            return self._dealt.wait_for(lambda: self._taken >= upto or not self._thread.is_alive(), timeout_s)

    def stop(self) -> bool:
        """Writes what waits, closes the files and puts the counts beside them. False when the disk takes too long."""
        self._stopping.set()
        self._wake.set()
        self._thread.join(_STOP_S)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            self._wake.wait(FLUSH_S)
            self._wake.clear()
            ending = self._stopping.is_set()
            with self._lock:
                parts, self._queue, self._waiting = self._queue, [], 0
            records = records_of(parts) if parts else NONE
            for start in range(0, len(records), MOST_RECORDS):
                self._deal_with(records[start : start + MOST_RECORDS])
            if ending:
                break
        self._close()
        self._save()

    def _deal_with(self, records: Records) -> None:
        count = len(records)
        outcome = "failed"
        if self._full:
            outcome = "beyond_limit"
        elif self.fault is None or time.monotonic() >= self._retry_at:
            try:
                self._write(records)
            except OSError as error:
                self._fail(error)
            else:
                outcome = "written"
                self._recovered()
        with self._dealt:
            setattr(self._counts, outcome, getattr(self._counts, outcome) + count)
            self._taken += count
            self._dealt.notify_all()
        if outcome == "written":
            self._keep_within_bounds()
        else:
            self._on_drop("trace_full" if outcome == "beyond_limit" else "trace_failed", count)

    def _write(self, records: Records) -> None:
        if not self._open:
            self._next_segment()
        for segment in self._open:
            segment.write(records)
        first = self._open[0]
        self._sizes[self._number] = sum(segment.size for segment in self._open)
        self._frames[self._number] = first.totals.frames
        self._ends[self._number] = first.totals.last_ns

    def _next_segment(self) -> None:
        self._number += 1
        opened: list[Segment] = []
        self._open = opened
        for kind in self._kinds:
            opened.append(Segment(self._place / f"{self.bus}-{self._number:04}{kind.suffix}", kind))

    def _keep_within_bounds(self) -> None:
        total = sum(self._sizes.values())
        now_ns = self._ends[self._number]
        if not self._newest:
            over_time = self._max_ns is not None and now_ns - self._begin_ns >= self._max_ns
            if total >= self._max_bytes or over_time:
                self._full = True
                self._close()
                _log.warning("trace is full; further frames are only counted", trace=str(self._place), bus=self.bus)
            return
        if self._open and (
            self._sizes[self._number] * _SEGMENTS >= self._max_bytes
            or (self._max_ns is not None and self._open[0].span_ns * _SEGMENTS >= self._max_ns)
        ):
            self._close()
            self._save()
        for number in sorted(self._sizes)[:-1]:
            over_time = self._max_ns is not None and now_ns - self._ends[number] > self._max_ns
            if total <= self._max_bytes and not over_time:
                return
            total -= self._let_go(number)

    def _let_go(self, number: int) -> int:
        """Deletes a segment; returns its size."""
        for kind in self._kinds:
            try:
                trace_store.delete(self._place / f"{self.bus}-{number:04}{kind.suffix}")
            except OSError as error:
                _log.warning("the oldest part of a trace cannot be deleted", bus=self.bus, reason=str(error))
        with self._lock:
            self._counts.overwritten += self._frames.pop(number, 0)
        self._ends.pop(number, None)
        return self._sizes.pop(number, 0)

    def _fail(self, error: OSError) -> None:
        self._retry_at = time.monotonic() + self._retry_s
        reason = str(error)
        if self.fault != reason:
            _log.error("trace is not written", trace=str(self._place), bus=self.bus, reason=reason)
        self.fault = reason
        # A segment that failed is over: what is in it stays readable.
        self._close()

    def _recovered(self) -> None:
        if self.fault is not None:
            _log.info("trace is written again", trace=str(self._place), bus=self.bus)
            self.fault = None

    def _close(self) -> None:
        for segment in self._open:
            segment.close()
        self._open = []

    def _save(self) -> None:
        content = {"begin_ns": self._begin_ns, **asdict(self.counts)}
        try:
            trace_store.meta_path(self._place, self.bus).write_text(json.dumps(content))
        except OSError as error:
            _log.warning("counts of a trace are lost", trace=str(self._place), counts=content, reason=str(error))


def _recorded(known: list[tuple[int, Path]]) -> int:
    """Frames in the segments that are there, each counted once whatever the formats."""
    by_number = {number: sum(chunk.frames for chunk in trace_store.chunks(path)) for number, path in known}
    return sum(by_number.values())
