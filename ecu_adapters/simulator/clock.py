"""Time as the simulated ECU knows it, so that a test need not wait five seconds for S3."""

import asyncio
import heapq
from collections.abc import Callable
from itertools import count
from typing import Protocol


class Timer(Protocol):
    """A call that is due later."""

    def cancel(self) -> None:
        """It will not be made; does nothing when it was."""


class Clock(Protocol):
    """Seconds since some fixed moment, and calls at a later one."""

    def now(self) -> float:
        """Seconds; only differences mean something."""

    def call_later(self, delay_s: float, call: Callable[[], None]) -> Timer:
        """Makes the call when ``delay_s`` have passed."""


class LoopClock:
    """The time of the running asyncio loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()

    def now(self) -> float:
        """The loop's monotonic time."""
        return self._loop.time()

    def call_later(self, delay_s: float, call: Callable[[], None]) -> Timer:
        """On the loop."""
        return self._loop.call_later(delay_s, call)


class VirtualClock:
    """Time that passes when told to."""

    def __init__(self) -> None:
        self._now = 0.0
        self._order = count()
        self._due: list[tuple[float, int, _VirtualTimer]] = []

    def now(self) -> float:
        """Seconds since the clock was made."""
        return self._now

    def call_later(self, delay_s: float, call: Callable[[], None]) -> Timer:
        """During `advance`."""
        timer = _VirtualTimer(call)
        heapq.heappush(self._due, (self._now + delay_s, next(self._order), timer))
        return timer

    def advance(self, seconds: float) -> None:
        """Lets time pass, and makes the calls that fall due, each at its time."""
        end = self._now + seconds
        while self._due and self._due[0][0] <= end:
            self._now, _, timer = heapq.heappop(self._due)
            if timer.call is not None:
                timer.call()
        self._now = end


class _VirtualTimer:
    def __init__(self, call: Callable[[], None]) -> None:
        self.call: Callable[[], None] | None = call

    def cancel(self) -> None:
        self.call = None
