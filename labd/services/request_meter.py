"""How many requests the REST API had, of what kind, and how long they took."""

import threading
from collections.abc import Iterator

from labd.model.measurements import STATUSES
from labd.model.point import Point


class RequestMeter:
    """`note` costs next to nothing. Threads share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: dict[tuple[str, str], tuple[int, float, float]] = {}

    def note(self, route: str, status: int, took_s: float) -> None:
        """A request was answered; ``route`` is one of few words."""
        key = route, STATUSES[min(max(status // 100, 1), 5) - 1]
        with self._lock:
            count, total, most = self._seen.get(key, (0, 0.0, 0.0))
            self._seen[key] = count + 1, total + took_s, max(most, took_s)

    def points(self, replica: str, now: float) -> Iterator[Point]:
        """Since the last call."""
        with self._lock:
            seen, self._seen = self._seen, {}
        for (route, status), (count, total, most) in sorted(seen.items()):
            tags = {"replica": replica, "route": route, "status": status}
            fields = {"requests": count, "latency_mean_ms": 1000 * total / count, "latency_max_ms": 1000 * most}
            yield Point("labd_requests", tags, fields, now)
