"""How many leases of a kind there may be at once: of runs in a cluster, of a team's, ..."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LimitReached:
    """Why a wish has to wait, whatever benches are free."""

    limit: str
    """What it is of."""
    most: int
    taken: int

    def __str__(self) -> str:
        return f"{self.limit} runs {self.taken} of {self.most} runs"


class Limits:
    """What is taken of each limit, while a pass hands out more."""

    def __init__(self, most: Mapping[str, int], present: Iterable[Iterable[str]]) -> None:
        """``present`` are the limits that each lease counts for that is there."""
        self._most = most
        self._taken = Counter(limit for limits in present for limit in limits)

    def take(self, limits: Iterable[str]) -> None:
        """There is one more that counts for these."""
        self._taken.update(limits)

    def reached(self, limits: Iterable[str]) -> LimitReached | None:
        """The first of these that leaves no room for one more."""
        for limit in limits:
            if self._taken[limit] >= self._most.get(limit, self._taken[limit] + 1):
                return LimitReached(limit, self._most[limit], self._taken[limit])
        return None
