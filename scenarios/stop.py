"""The one way in which a run is stopped from outside its script."""

import threading
from typing import Literal

Verdict = Literal["failed", "error"]


class Stop:
    """Set once, with the reason; later reasons are ignored. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._event = threading.Event()
        self._stirred = threading.Event()
        self._reason = ""
        self._verdict: Verdict = "error"

    def set(self, reason: str, verdict: Verdict = "error") -> bool:
        """True if this was the first reason; ``verdict`` is that of a run that is stopped for it."""
        with self._lock:
            if self._event.is_set():
                return False
            self._reason, self._verdict = reason, verdict
            self._event.set()
            self._stirred.set()
            return True

    def stir(self) -> None:
        """Ends a `pause`, now or the next one: there is news for the script."""
        self._stirred.set()

    def is_set(self) -> bool:
        """Whether the run is to end."""
        return self._event.is_set()

    def pause(self, timeout_s: float) -> None:
        """Waits up to ``timeout_s``, until the run is to end, or until it is stirred. For one thread."""
        if self._stirred.wait(timeout_s) and not self._event.is_set():
            self._stirred.clear()

    @property
    def verdict(self) -> Verdict:
        """Of the run that is stopped."""
        with self._lock:
            return self._verdict

    @property
    def reason(self) -> str:
        """Why; empty while it is not set."""
        with self._lock:
            return self._reason
