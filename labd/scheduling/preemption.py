"""Which leases end early, with notice, for a wish that has the right to it.

The fewest leases that are enough; of equally many the lowest class, then what began last. A lease that ends by itself
within the grace is waited for instead.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import combinations, islice

from labd.scheduling.lab import Held, Lab
from labd.scheduling.rules import Rules
from labd.scheduling.wish import Wish

_TRIALS = 2000
"""Combinations tried before a set from which none can be left out is taken instead of a smallest one."""


def preemptible(lab: Lab, rules: Rules, wish: Wish) -> list[Held]:
    """The leases that the wish may end, the one that is best ended first."""
    own = rules.by_name[wish.priority]
    if not own.preempts:
        return []
    found = [
        (rules.by_name[held.priority].rank, -held.granted_at, held.id, held)
        for held in lab.held
        if rules.by_name[held.priority].preemptible
        and rules.by_name[held.priority].rank < own.rank
        and not held.ending
        and held.gone_at > lab.now + rules.grace_s
    ]
    return [held for *_, held in sorted(found, key=lambda entry: entry[:3])]


def fewest(victims: Sequence[Held], most: int, enough: Callable[[Sequence[Held]], bool]) -> Sequence[Held] | None:
    """The smallest set of victims that is enough, at most ``most`` of them; None if all together are not.

    ``most`` is what one wish can need: a victim for each of its benches.
    """
    if not enough(victims):
        return None
    for trial in islice(_sets(victims, most), _TRIALS):
        if enough(trial):
            return trial
    chosen = list(victims)
    for victim in reversed(victims):
        without = [other for other in chosen if other is not victim]
        if enough(without):
            chosen = without
    return chosen


def _sets(victims: Sequence[Held], most: int) -> Iterator[Sequence[Held]]:
    for size in range(1, most + 1):
        yield from combinations(victims, size)
