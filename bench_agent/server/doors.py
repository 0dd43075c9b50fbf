"""Which of labd's addresses the agent dials next, when, and how patiently."""

import random
from collections.abc import Sequence

FIRST_RETRY_S = 0.2
"""Longest pause before the second attempt; doubled with each round that found nobody, up to LAST_RETRY_S."""
LAST_RETRY_S = 15.0
SPREAD_S = 1.0
"""Over how long the agents of a labd that is gone come to the others."""
FIRST_PATIENCE_S = 3.0
"""How long one of several labds may take to welcome the agent; doubled with each such round, up to LAST_PATIENCE_S."""
LAST_PATIENCE_S = 10.0
"""The same for a labd that is alone: nobody else would be quicker."""


class Doors:
    """Goes from address to address in an order of its own, so that the agents of a lab spread over its labds.

    It stays with a labd for as long as that answers, and begins with the next one afterwards: whoever has just hung up
    is asked last. All pauses are jittered, as a thousand agents must not return in the same instant.
    """

    def __init__(self, addresses: Sequence[str], chance: random.Random | None = None) -> None:
        """``addresses`` are host:port, one at least."""
        self._chance = chance or random.Random()  # noqa: S311 - spreads agents and retries, no secret
        self._addresses = self._chance.sample(addresses, len(addresses))
        self._next = 0
        self._fruitless = 0
        """Attempts since a labd has welcomed the agent."""

    @property
    def current(self) -> str:
        """The address to dial."""
        return self._addresses[self._next]

    @property
    def patience_s(self) -> float:
        """How long labd may take to welcome the agent."""
        if len(self._addresses) == 1:
            return LAST_PATIENCE_S
        return min(FIRST_PATIENCE_S * 2.0**self._rounds, LAST_PATIENCE_S)

    def move_on(self, *, welcomed: bool) -> float:
        """The attempt is over, as labd did not answer, or was there and is gone; returns the pause (s) to make."""
        several = len(self._addresses) > 1
        self._next = (self._next + 1) % len(self._addresses)
        if welcomed:
            self._fruitless = 0
        pause = min(FIRST_RETRY_S * 2.0**self._rounds, LAST_RETRY_S) * self._chance.uniform(0.5, 1.0)
        self._fruitless += 1
        return self._chance.uniform(0.0, SPREAD_S) if welcomed and several else pause

    @property
    def _rounds(self) -> int:
        # Bounded, as it is an exponent.
        return min(self._fruitless // len(self._addresses), 10)
