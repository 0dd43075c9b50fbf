"""The one way in which a run is stopped from outside its script."""

import threading


class Stop:
    """Set once, with the reason; later reasons are ignored. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._event = threading.Event()
        self._reason = ""

    def set(self, reason: str) -> bool:
        """True if this was the first reason."""
        with self._lock:
            if self._event.is_set():
                return False
            self._reason = reason
            self._event.set()
            return True

    def is_set(self) -> bool:
        """Whether the run is to end."""
        return self._event.is_set()

    def wait(self, timeout_s: float) -> bool:
        """Waits up to ``timeout_s``; True if the run is to end."""
        return self._event.wait(timeout_s)

    @property
    def reason(self) -> str:
        """Why; empty while it is not set."""
        with self._lock:
            return self._reason
