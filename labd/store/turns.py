"""Who may write next: one at a time, in the order of arrival."""

import threading
from collections import deque


class Turns:
    """A lock that is handed on in the order of arrival."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._taken = False
        self._waiters: deque[threading.Lock] = deque()

    def take(self, timeout_s: float) -> bool:
        """Waits for the turn; False when it did not come in time."""
        with self._mutex:
            if not self._taken:
                self._taken = True
                return True
            called = threading.Lock()
            called.acquire()
            self._waiters.append(called)
        if called.acquire(timeout=timeout_s):
            return True
        with self._mutex:
            if called in self._waiters:
                self._waiters.remove(called)
                return False
        return True  # it came at the last moment

    def hand_over(self) -> bool:
        """Gives the turn to who has waited for longest; False when nobody waits: then the holder keeps it."""
        with self._mutex:
            if not self._waiters:
                return False
            self._waiters.popleft().release()
            return True

    def end(self) -> None:
        """Gives the turn to who has waited for longest, or to whoever comes."""
        with self._mutex:
            if self._waiters:
                self._waiters.popleft().release()
            else:
                self._taken = False
