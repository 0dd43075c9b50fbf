"""How long to wait before the next attempt."""

import random
from collections.abc import Callable

FIRST_S = 1.0
MOST_S = 60.0
RETRY_AFTER_MAX_S = 900.0
"""A server that wants more is asked earlier."""


class Backoff:
    """Twice as long after each failure, up to ``MOST_S``, each shortened by up to half at random."""

    def __init__(self, chance: Callable[[], float] = random.random) -> None:
        self._chance = chance
        self._failures = 0

    def succeeded(self) -> None:
        """Begins anew."""
        self._failures = 0

    def failed(self, retry_after_s: float | None = None) -> float:
        """How long to wait now, in seconds; at least what the server asked for, up to ``RETRY_AFTER_MAX_S``."""
        wait = min(MOST_S, FIRST_S * 2.0 ** min(self._failures, 10)) * (1 - self._chance() / 2)
        self._failures += 1
        return max(wait, min(retry_after_s or 0.0, RETRY_AFTER_MAX_S))
