"""Which objects are to be looked at, and when: each by one thread at a time, and once however often it is asked for."""

import heapq
import random
import threading
import time
from collections.abc import Callable

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 15.0


def pause_s(failures: int) -> float:
    """How long to wait after so many failures in a row: about twice as long each time, never in step with others."""
    longest = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(failures - 1, 10))
    return longest * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, keeps no secret


class WorkQueue:
    """Names of objects. It is as long as there are objects."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """``clock`` in seconds."""
        self._clock = clock
        self._changed = threading.Condition()
        self._due: dict[str, float] = {}
        self._heap: list[tuple[float, str]] = []
        self._busy: set[str] = set()
        self._failures: dict[str, int] = {}
        self._closed = False

    def add(self, name: str, after_s: float = 0.0) -> None:
        """Has it looked at then, or earlier if that was asked for before."""
        due = self._clock() + after_s
        with self._changed:
            if due < self._due.get(name, float("inf")):
                self._due[name] = due
                heapq.heappush(self._heap, (due, name))
                self._changed.notify()

    def take(self) -> str | None:
        """The next one, as soon as it is due; None when the queue is closed. `done` or `failed` has to follow."""
        with self._changed:
            while not self._closed:
                name, wait = self._next()
                if name is not None:
                    self._busy.add(name)
                    return name
                self._changed.wait(timeout=wait)
            return None

    def done(self, name: str) -> None:
        """It has been looked at."""
        with self._changed:
            self._failures.pop(name, None)
            self._busy.discard(name)
            self._changed.notify()

    def failed(self, name: str, at_least_s: float = 0.0) -> None:
        """It could not be looked at: again, after a pause."""
        with self._changed:
            self._failures[name] = failures = self._failures.get(name, 0) + 1
            self._busy.discard(name)
            self._changed.notify()
        self.add(name, max(at_least_s, pause_s(failures)))

    def close(self) -> None:
        """Nobody gets anything any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _next(self) -> tuple[str | None, float | None]:
        now, later = self._clock(), []
        try:
            while self._heap:
                due, name = self._heap[0]
                if due > now:
                    return None, due - now
                heapq.heappop(self._heap)
                if self._due.get(name) != due:
                    continue  # it was asked for earlier since
                if name in self._busy:
                    later.append((due, name))
                    continue
                del self._due[name]
                return name, None
            return None, None
        finally:
            for item in later:
                heapq.heappush(self._heap, item)
