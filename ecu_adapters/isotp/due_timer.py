"""One timer of an asyncio loop for whatever is due next."""

import asyncio
import time
from collections.abc import Callable

_TICK_S = 0.001
"""What asyncio's timers can tell apart; a shorter rest is spent in turns of the loop."""


class DueTimer:
    """Calls back when the earliest moment that was asked for has come, or before: who is called looks at the clock.

    It says how late it calls, in s.

    Moments are in s, on the monotonic clock. A later wish does not move an earlier one: most waits end long before
    they are over, and setting a timer for each costs more than one call for nothing.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, on_due: Callable[[float], None]) -> None:
        self._loop = loop
        self._on_due = on_due
        self._handle: asyncio.Handle | None = None
        self._due = 0.0

    def arm(self, first: float | None, second: float | None) -> None:
        """Asks for a call at the earlier of two moments; None: there is none."""
        due = second if first is None or (second is not None and second < first) else first
        if due is None:
            return
        if self._handle is not None:
            if self._due <= due:
                return
            self._handle.cancel()
        self._due = due
        left = due - time.monotonic()
        if left < _TICK_S:
            self._handle = self._loop.call_soon(self._fire)
        else:
            # Whole ticks: a longer timer would come up to a tick late.
            self._handle = self._loop.call_later(int(left / _TICK_S) * _TICK_S, self._fire)

    def cancel(self) -> None:
        """No call is made any more."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _fire(self) -> None:
        self._handle = None
        self._on_due(max(time.monotonic() - self._due, 0.0))
