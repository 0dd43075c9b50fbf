"""What was measured and labd does not have yet: batches on the disk, oldest first, up to a bound.

A batch is a file; it goes when labd has it. Beyond the bound the oldest go. While the disk takes nothing, a few are
kept in memory. Whatever is dropped is counted by its cause.
"""

import re
import threading
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog
from google.protobuf.message import DecodeError

from bench_agent.protocol import lab_pb2

BATCH = 500
"""Points in a batch at most."""
MEMORY_BYTES = 1 << 20
"""Batches that the disk does not take."""
_SUFFIX, _DRAFT = ".points", ".new"
_NAME = re.compile(r"([0-9a-f]{16})-([0-9]{12})-([0-9]{1,6})")

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Entry:
    spool: str
    number: int
    points: int
    size: int
    path: Path
    content: bytes | None = None
    """Where the disk did not take it."""


class PointSpool:
    """`put` and `head` block for the disk, the rest does not. Threads share it."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        """Goes on with what a former agent has left; what of it cannot be read is counted."""
        self._folder = folder
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._dropped: Counter[str] = Counter()
        self._disk_fault = ""
        self._entries = deque(self._found())
        self._bytes = sum(one.size for one in self._entries)
        last = max((int(one.spool, 16) for one in self._entries), default=0)
        # No other agent has used it, unless a clock was set back: then its batches are gone, as they come in order.
        self._spool = f"{max(time.time_ns() // 1000, last + 1):016x}"
        self._number = 0

    @property
    def bytes(self) -> int:
        """Of all that waits."""
        return self._bytes

    def put(self, points: Sequence[lab_pb2.Point]) -> None:
        """Keeps the points until labd has them."""
        for start in range(0, len(points), BATCH):
            with self._lock:
                self._put(points[start : start + BATCH])

    def head(self) -> lab_pb2.Metrics | None:
        """The oldest batch; None when there is none."""
        while True:
            with self._lock:
                if not self._entries:
                    return None
                entry = self._entries[0]
            try:
                content = entry.path.read_bytes() if entry.content is None else entry.content
                return lab_pb2.Metrics.FromString(content)
            except (OSError, DecodeError) as error:
                _log.error("a batch of points is lost", file=str(entry.path), reason=str(error))
                self._drop(entry, "disk")

    def taken(self, spool: str, number: int) -> None:
        """labd has this batch."""
        with self._lock:
            entry = self._entries[0] if self._entries else None
            if entry is None or (entry.spool, entry.number) != (spool, number):
                return
            self._entries.popleft()
            self._bytes -= entry.size
        _remove(entry)

    def drop(self, cause: str, points: int) -> None:
        """Counts what was dropped elsewhere."""
        with self._lock:
            self._dropped[cause] += points

    def dropped(self) -> dict[str, int]:
        """Points by cause, since the last call."""
        with self._lock:
            dropped, self._dropped = dict(self._dropped), Counter()
            return dropped

    def _put(self, points: Sequence[lab_pb2.Point]) -> None:
        self._number += 1
        batch = lab_pb2.Metrics(spool=self._spool, number=self._number, points=points)
        content = batch.SerializeToString()
        path = self._folder / f"{self._spool}-{self._number:012d}-{len(points)}{_SUFFIX}"
        entry = _Entry(self._spool, self._number, len(points), len(content), path)
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            draft = path.with_suffix(_DRAFT)
            draft.write_bytes(content)
            draft.replace(path)
            self._disk_fault = ""
        except OSError as error:
            if self._disk_fault != str(error):
                self._disk_fault = str(error)
                _log.error("points are kept in memory only", folder=str(self._folder), reason=str(error))
            entry = _Entry(self._spool, self._number, len(points), len(content), path, content)
        self._entries.append(entry)
        self._bytes += entry.size
        self._make_room()

    def _make_room(self) -> None:
        """Drops the oldest, but never the first one alone for its size."""
        while self._bytes > self._max_bytes and len(self._entries) > 1:
            self._forget(self._entries[0], "spool_full")
        kept = [one for one in self._entries if one.content is not None]
        while sum(one.size for one in kept) > MEMORY_BYTES:
            self._forget(kept.pop(0), "disk")

    def _drop(self, entry: _Entry, cause: str) -> None:
        with self._lock:
            if entry in self._entries:
                self._forget(entry, cause)

    def _forget(self, entry: _Entry, cause: str) -> None:
        self._entries.remove(entry)
        self._bytes -= entry.size
        self._dropped[cause] += entry.points
        _remove(entry)

    def _found(self) -> list[_Entry]:
        """What a former agent has left, without what it was just writing."""
        entries = []
        try:
            for draft in self._folder.glob(f"*{_DRAFT}"):
                draft.unlink(missing_ok=True)
            for path in sorted(self._folder.glob(f"*{_SUFFIX}")):
                found = _NAME.fullmatch(path.stem)
                if found is None:
                    _log.warning("no batch of points", file=str(path))
                    continue
                spool, number, points = found.groups()
                entries.append(_Entry(spool, int(number), int(points), path.stat().st_size, path))
        except OSError as error:
            _log.error("points of a former agent cannot be listed", folder=str(self._folder), reason=str(error))
        return entries


def _remove(entry: _Entry) -> None:
    if entry.content is None:
        try:
            entry.path.unlink(missing_ok=True)
        except OSError as error:
            _log.error("a batch of points stays, and may be sent again", file=str(entry.path), reason=str(error))
