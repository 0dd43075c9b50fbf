"""How often somebody may ask: token buckets, one for each of whom labd tells apart. No clock of its own."""

import threading
from collections import OrderedDict
from dataclasses import dataclass

KEYS_MAX = 10_000
"""Buckets that are remembered. Who was forgotten starts with a full one."""


@dataclass(frozen=True, slots=True)
class Rate:
    """``per_s`` requests a second in the long run, ``burst`` at once."""

    per_s: float
    burst: float


class Buckets:
    """A bucket for each key. Threads may share them."""

    def __init__(self, rate: Rate) -> None:
        self._rate = rate
        self._lock = threading.Lock()
        self._filled: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, key: str, now: float) -> float:
        """Takes one from the key's bucket: 0; or, when it is empty, the seconds until there is one. ``now`` is in s."""
        with self._lock:
            level, at = self._filled.pop(key, (self._rate.burst, now))
            level = min(self._rate.burst, level + max(0.0, now - at) * self._rate.per_s)
            wait_s = 0.0 if level >= 1 else (1 - level) / self._rate.per_s
            self._filled[key] = (level if wait_s else level - 1, now)
            if len(self._filled) > KEYS_MAX:
                self._filled.popitem(last=False)
            return wait_s


class Slots:
    """How many requests of one key are open at once. For one thread."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._open: dict[str, int] = {}

    def enter(self, key: str) -> bool:
        """Whether there was a slot; if so, `leave` has to follow."""
        count = self._open.get(key, 0)
        if count >= self._most:
            return False
        self._open[key] = count + 1
        return True

    def leave(self, key: str) -> None:
        """Gives the slot back."""
        count = self._open[key] - 1
        if count:
            self._open[key] = count
        else:
            del self._open[key]
