"""labd's clock."""

import time
from typing import Protocol


class Clock(Protocol):
    """Tells the time in seconds since the Unix epoch."""

    def now(self) -> float:
        """Never less than what it said before."""


class LabClock:
    """The wall clock as it was at the start, carried on monotonically: a step of the wall clock ends no lease."""

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()

    def now(self) -> float:
        """Seconds since the Unix epoch."""
        return time.monotonic() + self._offset
