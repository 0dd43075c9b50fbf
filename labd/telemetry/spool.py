"""A bounded queue of points on the disk: they wait there until the time-series database has taken them.

Records go to the end of the newest segment; a reader takes them from the oldest, and acknowledges them. A segment that
is acknowledged as a whole is removed. When the spool is full, the oldest segment goes that nobody is reading.

What is appended has reached the operating system when ``append`` returns: it survives ``kill -9``. ``sync`` brings it
to the disk; what came since the last one may be lost with the machine's power. The place up to which was acknowledged
is not synced: after a power cut some points are sent again, which changes nothing in InfluxDB.
"""

import contextlib
import os
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from labd.telemetry.counters import Counters, Loss
from labd.telemetry.segments import MAGIC, is_segment, record, records

_SUFFIX = ".points"
_POSITION = "position"
SEGMENTS = 16
"""Of how many segments a full spool consists, about."""
SEGMENT_BYTES_MAX = 8 * 2**20


@dataclass(slots=True)
class _Segment:
    path: Path
    size: int
    points: int
    """Not acknowledged yet."""


@dataclass(frozen=True, slots=True)
class Place:
    """Between two records."""

    segment: int
    offset: int


@dataclass(frozen=True, slots=True)
class Batch:
    """What is to be sent next."""

    lines: list[bytes]
    end: Place
    _points: dict[int, int] = field(default_factory=dict)
    """How many of each segment, those that cannot be read included."""


class Spool:
    """For one appending and one reading thread."""

    def __init__(self, folder: Path, counters: Counters, *, bytes_max: int) -> None:
        """Goes on with what is in the folder. Raises OSError if it cannot be read and written."""
        self._folder = folder
        self._counters = counters
        self._bytes_max = bytes_max
        self._segment_bytes = max(4096, min(SEGMENT_BYTES_MAX, bytes_max // SEGMENTS))
        self._lock = threading.Lock()
        self._segments: OrderedDict[int, _Segment] = OrderedDict()
        self._reading: set[int] = set()
        self._tail: BinaryIO | None = None
        self._unsynced = False
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._read = self._position()
        self._find()
        self._next = max([*self._segments, self._read.segment, 0]) + 1
        self._count()

    def append(self, lines: list[bytes]) -> None:
        """Adds the lines as one record. Raises OSError when the disk does not take it; nothing of it is kept then."""
        if not lines:
            return
        data = record(b"\n".join(lines), len(lines))
        with self._lock:
            tail, segment = self._open_tail()
            try:
                _write(tail, data)
            except OSError:
                self._forget_tail(tail, segment)
                raise
            segment.size += len(data)
            segment.points += len(lines)
            self._unsynced = True
            if segment.size >= self._segment_bytes:
                self._close_tail(tail)
            self._make_room()
            self._count()

    def sync(self) -> None:
        """Brings what was appended to the disk. Raises OSError."""
        with self._lock:
            tail, unsynced, self._unsynced = self._tail, self._unsynced, False
            copy = os.dup(tail.fileno()) if tail is not None and unsynced else None
        if copy is not None:
            try:
                os.fdatasync(copy)  # others may append and read meanwhile
            finally:
                os.close(copy)

    def peek(self, lines_max: int, bytes_max: int) -> Batch | None:
        """The oldest lines that are not acknowledged, some at least; None when there are none.

        Their segments stay until the batch is acknowledged, or peeked again. Damaged records are passed over, and
        counted. Raises OSError.
        """
        with self._lock:
            found = Batch([], self._read)
            self._reading = set()
            size = 0
            for number, segment in list(self._segments.items()):
                if number < self._read.segment:
                    continue
                self._reading.add(number)
                offset = self._read.offset if number == self._read.segment else len(MAGIC)
                end = offset
                with segment.path.open("rb") as file:
                    for one in records(file, offset, payloads=True):
                        fits = len(found.lines) + one.points <= lines_max and size + one.end - one.offset <= bytes_max
                        if found.lines and not fits:
                            return Batch(found.lines, Place(number, end), found._points)
                        end = one.end
                        found._points[number] = found._points.get(number, 0) + one.points
                        if one.payload is None:
                            self._counters.lose(Loss.DAMAGED, one.points)
                            continue
                        found.lines.extend(one.payload.split(b"\n"))
                        size += len(one.payload)
                if end < segment.size:  # a header is damaged: what is behind it cannot be found
                    self._counters.lose(Loss.DAMAGED, max(1, segment.points - found._points.get(number, 0)))
                    found._points[number] = segment.points
                found = Batch(found.lines, Place(number, max(end, segment.size)), found._points)
            if not found.lines:
                if found._points:
                    self._acknowledge(found)  # nothing but damage
                self._reading = set()
                return None
            return found

    def acknowledge(self, batch: Batch) -> None:
        """The batch is done with. Raises OSError."""
        with self._lock:
            self._acknowledge(batch)

    def close(self) -> None:
        """Brings everything to the disk, as far as it takes it."""
        with contextlib.suppress(OSError):
            self.sync()
        with self._lock:
            if self._tail is not None:
                self._close_tail(self._tail)

    def _acknowledge(self, batch: Batch) -> None:
        self._read = batch.end
        self._reading = set()
        for number, points in batch._points.items():
            self._segments[number].points -= points
        for number, segment in list(self._segments.items()):
            done = number < batch.end.segment or (number == batch.end.segment and batch.end.offset >= segment.size)
            if done and not (self._tail is not None and next(reversed(self._segments)) == number):
                self._remove(number)
        part = self._folder / f"{_POSITION}.part"
        part.write_text(f"{batch.end.segment} {batch.end.offset}\n", "ascii")
        part.replace(self._folder / _POSITION)
        self._count()

    def _position(self) -> Place:
        try:
            segment, offset = (self._folder / _POSITION).read_text("ascii").split()
            return Place(int(segment), max(len(MAGIC), int(offset)))
        except (OSError, ValueError):  # none yet, or cut off by a crash: all that is there is sent, again
            return Place(0, len(MAGIC))

    def _find(self) -> None:
        for path in sorted(self._folder.glob(f"*{_SUFFIX}")):
            if not path.stem.isdecimal() or not is_segment(path):
                self._counters.lose(Loss.DAMAGED, 1 if path.stat().st_size > len(MAGIC) else 0)
                path.unlink()
                continue
            number = int(path.stem)
            if number < self._read.segment:
                path.unlink()  # acknowledged; labd was killed before it was removed
                continue
            start = self._read.offset if number == self._read.segment else len(MAGIC)
            self._segments[number] = self._measure(path, start)

    def _measure(self, path: Path, start: int) -> _Segment:
        size, points, end = path.stat().st_size, 0, start
        with path.open("r+b") as file:
            for one in records(file, start, payloads=True):
                if one.end >= size and one.payload is None:
                    self._counters.lose(Loss.TORN, one.points)
                    break
                points += one.points
                end = one.end
            else:
                if end < size:
                    self._counters.lose(Loss.TORN, 1)
            if end < size:
                file.truncate(end)
        return _Segment(path, max(end, len(MAGIC)), points)

    def _open_tail(self) -> tuple[BinaryIO, _Segment]:
        if self._tail is not None:
            return self._tail, next(reversed(self._segments.values()))
        number, self._next = self._next, self._next + 1
        path = self._folder / f"{number:012}{_SUFFIX}"
        self._tail = path.open("xb", buffering=0)
        try:
            _write(self._tail, MAGIC)
        except OSError:
            self._tail.close()
            self._tail = None
            path.unlink()
            raise
        segment = self._segments[number] = _Segment(path, len(MAGIC), 0)
        return self._tail, segment

    def _close_tail(self, tail: BinaryIO) -> None:
        with contextlib.suppress(OSError):
            os.fdatasync(tail.fileno())
        tail.close()
        self._tail = None

    def _forget_tail(self, tail: BinaryIO, segment: _Segment) -> None:
        """After a failed write: half a record may be at the end."""
        with contextlib.suppress(OSError):
            os.truncate(segment.path, segment.size)
        tail.close()
        self._tail = None

    def _make_room(self) -> None:
        while sum(segment.size for segment in self._segments.values()) > self._bytes_max:
            newest = next(reversed(self._segments))
            number = next((one for one in self._segments if one not in self._reading and one != newest), None)
            if number is None:
                return
            self._counters.lose(Loss.SPOOL_FULL, self._segments[number].points)
            self._remove(number)

    def _remove(self, number: int) -> None:
        segment = self._segments.pop(number)
        segment.path.unlink(missing_ok=True)

    def _count(self) -> None:
        self._counters.spool_bytes = sum(segment.size for segment in self._segments.values())
        self._counters.spooled = sum(segment.points for segment in self._segments.values())


def _write(file: BinaryIO, data: bytes) -> None:
    """All of it: an unbuffered file takes less when the disk is nearly full."""
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]
