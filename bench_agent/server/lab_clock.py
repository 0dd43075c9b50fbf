"""labd's time, kept on this machine's monotonic clock.

A bench computer may have no battery-backed clock, or get its time set while a lease runs. The expiry of tokens is
judged by labd's clock as the attach stream reports it; between reports, the monotonic clock carries it on.
"""

import time
from collections import deque
from collections.abc import Callable

_SAMPLES = 16
_LONGEST_WAY_S = 30.0
"""A report cannot have been under way for longer: the attach stream would have been given up."""


class LabClock:
    """``now`` is labd's time in seconds since the Unix epoch. Until labd has reported, it is this machine's."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time) -> None:
        self._monotonic = monotonic
        self._offset = wall() - monotonic()
        self._samples: deque[float] = deque(maxlen=_SAMPLES)

    def now(self) -> float:
        """Seconds since the Unix epoch, by labd's clock."""
        return self._monotonic() + self._offset

    def restart(self) -> None:
        """A new stream: its labd may run on another machine, so former reports say nothing about it."""
        self._samples.clear()

    def report(self, lab_time_ms: int) -> None:
        """labd's clock as just received (ms).

        A report is late by the time it was under way, never early: of the last ones, the greatest offset is the best.
        """
        offset = lab_time_ms / 1000 - self._monotonic()
        if self._samples and offset < self._offset - _LONGEST_WAY_S:
            self._samples.clear()  # labd's clock was set back; otherwise its new tokens would seem to have expired
        self._samples.append(offset)
        self._offset = max(self._samples)
