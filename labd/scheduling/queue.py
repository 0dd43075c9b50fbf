"""Order of the queue and matching of waiting leases to free benches."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from labd.model.lease import Lease
from labd.model.selector import parse


@dataclass(frozen=True, slots=True)
class FreeBench:
    """A bench that may be handed out now."""

    name: str
    labels: Mapping[str, str]
    """With the reserved ``name``."""


@dataclass(frozen=True, slots=True)
class Grant:
    """A decision: this lease gets this bench."""

    lease_id: str
    bench: str


def order(lease: Lease) -> tuple[int, int]:
    """Sort key of the queue: higher priority first, then arrival."""
    return (-lease.priority, lease.seq)


def decide(queue: Iterable[Lease], benches: Sequence[FreeBench]) -> list[Grant]:
    """The grants to make now, in the queue's order.

    A lease that no free bench matches holds nobody up. Of several matching benches a lease gets the one that the
    fewest of those behind it could use, so that a modest wish does not take the bench somebody else needs.
    """
    free = {bench.name: bench for bench in benches}
    wishes: list[tuple[Lease, set[str]]] = []
    for lease in sorted(queue, key=order):
        selector = parse(lease.selector)
        wishes.append((lease, {bench.name for bench in benches if selector.matches(bench.labels)}))
    demand = {name: sum(name in wish for _, wish in wishes) for name in free}
    grants = []
    for lease, wish in wishes:
        for name in wish:
            demand[name] -= 1
        candidates = wish & free.keys()
        if candidates:
            chosen = min(candidates, key=lambda name: (demand[name], name))
            del free[chosen]
            grants.append(Grant(lease.id, chosen))
    return grants
