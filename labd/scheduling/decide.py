"""One decision pass: who gets which benches now.

The interface for whoever keeps the leases::

    decision = decide(Lab(now, benches, wishes, held, used), rules)

- ``wishes``: every QUEUED lease as a ``Wish``; a booking has ``starts_at`` and, once accepted, ``booked``.
- ``held``: every GRANTED, ACTIVE or ENDING lease as a ``Held``, with its hard end.
- ``benches``: all that are known, with why they cannot be used, if they cannot.
- To do afterwards: make each of ``decision.grants`` a lease on its benches until ``ends_at``.

The same input gives the same decision; the order of the arguments' elements makes no difference.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from labd.scheduling.candidates import Candidates
from labd.scheduling.lab import Lab
from labd.scheduling.matching import Fleet, Preference
from labd.scheduling.ordering import in_order, recent_use
from labd.scheduling.placing import Placing
from labd.scheduling.quotas import Quotas, Shortfall
from labd.scheduling.rules import Rules
from labd.scheduling.wish import Wish


@dataclass(frozen=True, slots=True)
class Grant:
    """This wish gets these benches now."""

    wish: str
    benches: tuple[str, ...]
    """In the order of ``Wish.slots``: those of the first part first."""
    ends_at: float
    """The hard end of the lease."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do now."""

    grants: tuple[Grant, ...] = ()
    over_quota: Mapping[str, Shortfall] = field(default_factory=dict)
    """The wishes that wait for their team's quota and hold nobody up, with what is missing."""


def decide(lab: Lab, rules: Rules) -> Decision:
    """The grants to make now. Raises SelectorError for a wish whose selector is none, KeyError for an unknown class."""
    fleet = Fleet(lab.benches)
    candidates = Candidates(lab, fleet)
    quotas = Quotas(lab, rules)
    waiting = [wish for wish in lab.wishes if wish.starts_at is None]
    holders = lab.holders
    free = fleet.usable & fleet.where(bench.clean and bench.name not in holders for bench in fleet.benches)
    placing = Placing(free, Preference(fleet, waiting))
    order = in_order(lab.wishes, rules, lab.now, recent_use(lab, rules))
    served: list[Wish] = []
    in_vain: set[object] = set()
    over_quota: dict[str, Shortfall] = {}
    for wish in order:
        ends_at = lab.now + wish.duration_s
        shortfall = quotas.shortfall(wish.team, len(wish.slots), lab.now, ends_at)
        if shortfall is not None:
            over_quota[wish.id] = shortfall
            continue
        shape = candidates.shape(wish)
        if not placing.free or shape in in_vain:
            continue
        if candidates.place(wish, placing, free):
            served.append(wish)
            quotas.charge(wish.team, len(wish.slots), lab.now, ends_at)
        else:
            in_vain.add(shape)
    got = placing.benches()
    return Decision(
        tuple(
            Grant(wish.id, tuple(fleet.names[number] for number in got[wish.id]), lab.now + wish.duration_s)
            for wish in served
        ),
        over_quota,
    )
