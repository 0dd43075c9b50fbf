"""Which leases end early, with notice, for a wish that has the right to it.

The fewest leases that are enough; of equally many the lowest class, then what began last. A lease that ends by itself
within the grace is waited for instead.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations, islice

from labd.scheduling.lab import Held, Lab
from labd.scheduling.rules import Rules

_TRIALS = 50


def preemptible(lab: Lab, rules: Rules, priority: str) -> list[Held]:
    """The leases that wishes of this class may end, the one that is best ended first."""
    own = rules.by_name[priority]
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

    ``most`` is what one wish can need: a victim for each of its benches. Where there are too many sets to try them all,
    it is one from which nobody can be left out; for leases of one bench that is the same.
    """
    if not enough(victims):
        return None
    for trial in islice(_sets(victims, most), _TRIALS):
        if enough(trial):
            return trial
    needed: list[Held] = []
    while not enough(needed):
        # Of the shortest beginning of the list that is enough, the last one cannot be left out.
        length = bisect_left(range(len(victims)), True, key=lambda size: enough([*needed, *victims[: size + 1]]))
        needed.append(victims[length])
        victims = victims[:length]
    return needed


def _sets(victims: Sequence[Held], most: int) -> Iterator[Sequence[Held]]:
    for size in range(1, most + 1):
        yield from combinations(victims, size)
