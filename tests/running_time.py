"""A clock that stands still while the machine does: what a busy one adds to a duration is nobody's fault."""

import functools
import threading
import time

TICK_S = 0.02
LATE_S = 0.02
"""By which a tick may be late without the machine being said to have stood still."""


class _Clock:
    def __init__(self) -> None:
        self._seen = (time.monotonic(), 0.0)  # when the last tick was; seconds lost until then
        threading.Thread(target=self._tick, daemon=True, name="running time").start()

    def now(self) -> float:
        now = time.monotonic()
        return now - self._lost_s(now)

    def _lost_s(self, now: float) -> float:
        last, lost_s = self._seen
        return lost_s + max(0.0, now - last - TICK_S - LATE_S)

    def _tick(self) -> None:
        while True:
            time.sleep(TICK_S)
            now = time.monotonic()
            self._seen = (now, self._lost_s(now))


_clock = functools.cache(_Clock)


def running_time() -> float:
    """Like `time.monotonic` (s), less the time in which this process could not run."""
    return _clock().now()
