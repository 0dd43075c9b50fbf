"""Many values of one kind, of which an interval is told by few."""

import math
import threading
from collections import deque
from dataclasses import dataclass

KEPT = 2048
"""Values of which the percentiles are, the latest; count, mean and maximum are of all."""


@dataclass(frozen=True, slots=True)
class Summary:
    """Of an interval with at least one value."""

    count: int
    mean: float
    p50: float
    p95: float
    max: float


class Samples:
    """`add` costs next to nothing. Threads share it."""

    def __init__(self, kept: int = KEPT) -> None:
        self._lock = threading.Lock()
        self._latest: deque[float] = deque(maxlen=kept)
        self._count, self._sum, self._max = 0, 0.0, -math.inf

    def add(self, value: float) -> None:
        """Another one."""
        with self._lock:
            self._latest.append(value)
            self._count += 1
            self._sum += value
            self._max = max(self._max, value)

    def take(self) -> Summary | None:
        """What came since the last call; None when nothing did."""
        with self._lock:
            count, total, most, latest = self._count, self._sum, self._max, sorted(self._latest)
            self._latest.clear()
            self._count, self._sum, self._max = 0, 0.0, -math.inf
        if not count:
            return None
        return Summary(count, total / count, _percentile(latest, 0.5), _percentile(latest, 0.95), most)


def _percentile(ordered: list[float], share: float) -> float:
    """The smallest value that at least this share of them does not exceed (nearest rank)."""
    return ordered[max(math.ceil(share * len(ordered)) - 1, 0)]
