"""What becomes of points, in numbers."""

import threading
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum


class Loss(StrEnum):
    """Why a point was not kept."""

    INVALID = "invalid"
    """Not as the catalogue says."""
    SERIES = "too_many_series"
    """Its measurement has as many series as it may have."""
    QUEUE_FULL = "queue_full"
    """The disk was slower than the points came."""
    DISK = "disk"
    """The spool could not be written."""
    SPOOL_FULL = "spool_full"
    """The database was away for longer than the spool lasts."""
    TORN = "torn"
    """labd was killed while it wrote it to the spool."""
    DAMAGED = "damaged"
    """What came back from the disk is not what was written."""
    DAY = "last_day"
    """The store of the last day could not be written; on the way to the database nothing happened to it."""
    FAULT = "fault"
    """A fault of labd, which the log describes."""
    REFUSED = "refused"
    """The database did not want it."""
    TOO_LARGE = "too_large"
    """The database takes no request that is large enough for it."""


@dataclass(slots=True)
class Counters:
    """Since labd started, but for what is now. Read them at any time."""

    taken: int = 0
    """Points that were handed over."""
    queued: int = 0
    """Now in memory, on the way to the disk."""
    spooled: int = 0
    """Now on the disk, on the way to the database."""
    spool_bytes: int = 0
    """Now on the disk."""
    written: int = 0
    """That the database has taken."""
    requests: int = 0
    """To the database."""
    last_success: float | None = None
    """When the database took points for the last time: s since the Unix epoch."""
    dropped: Counter[Loss] = field(default_factory=Counter)
    """By cause. TORN and DAMAGED count one point where it cannot be known how many there were."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def lose(self, why: Loss, points: int = 1) -> None:
        """Points are dropped."""
        if points:
            with self._lock:
                self.dropped[why] += points

    def losses(self) -> dict[str, int]:
        """How many points were dropped, by cause."""
        with self._lock:
            return {why.value: points for why, points in sorted(self.dropped.items())}
