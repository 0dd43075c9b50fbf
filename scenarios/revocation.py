"""Notice that labd wants the run's benches back, on its way to the script."""

import threading
import time

from labd.client import RevokeNotice
from scenarios.stop import Stop


class Revocation:
    """The newest notice that the script has not been given. Thread-safe."""

    def __init__(self, stop: Stop) -> None:
        """``stop`` is stirred by a notice: a script that sleeps is to hear of it."""
        self._stop = stop
        self._lock = threading.Lock()
        self._reason = ""
        self._gone_at: float | None = None

    def tell(self, notice: RevokeNotice) -> None:
        """labd has given notice."""
        with self._lock:
            self._reason, self._gone_at = notice.reason, time.monotonic() + notice.grace_s
        self._stop.stir()

    def take(self) -> tuple[str, float] | None:
        """Reason, and the seconds that are left; once for each notice."""
        with self._lock:
            gone_at, self._gone_at = self._gone_at, None
            return None if gone_at is None else (self._reason, max(0.0, gone_at - time.monotonic()))
