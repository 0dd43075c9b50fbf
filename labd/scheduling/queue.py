"""Order of the queue and matching of waiting leases to free benches."""

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass

from labd.model.bench import SHARED, TEAM_LABEL
from labd.model.lease import Lease
from labd.model.policy import Policy
from labd.model.selector import parse


@dataclass(frozen=True, slots=True)
class FreeBench:
    """A bench that may be handed out now."""

    name: str
    labels: Mapping[str, str]
    """With the reserved ``name``."""


@dataclass(frozen=True, slots=True)
class Grant:
    """A decision: this lease gets these benches, one for each of its parts."""

    lease_id: str
    benches: tuple[str, ...]


def ordered(queue: Iterable[Lease], policy: Policy) -> list[Lease]:
    """The queue in its order: higher class first, then arrival."""
    return sorted(queue, key=lambda lease: (-policy.rank(lease.priority), lease.seq))


def decide(queue: Iterable[Lease], benches: Sequence[FreeBench], policy: Policy) -> list[Grant]:
    """The grants to make now, in the queue's order; all the benches of a lease, or none.

    A lease that the free benches do not serve holds nobody up. Of several matching benches a lease gets the one that
    the fewest of those behind it could use, so that a modest wish does not take the bench somebody else needs.
    """
    free = {bench.name: bench for bench in benches}
    wishes: list[tuple[Lease, list[set[str]]]] = []
    for lease in ordered(queue, policy):
        selectors = [parse(part) for part in lease.parts]
        theirs = [one for one in benches if one.labels.get(TEAM_LABEL, SHARED) in (SHARED, lease.team)]
        wishes.append((lease, [{one.name for one in theirs if selector.matches(one.labels)} for selector in selectors]))
    demand = {name: sum(name in wish for _, parts in wishes for wish in parts) for name in free}
    grants = []
    for lease, parts in wishes:
        for wish in parts:
            for name in wish:
                demand[name] -= 1
        chosen = _assign(parts, free.keys(), demand)
        if chosen is not None:
            for name in chosen:
                del free[name]
            grants.append(Grant(lease.id, chosen))
    return grants


def _assign(parts: Sequence[set[str]], free: Set[str], demand: Mapping[str, int]) -> tuple[str, ...] | None:
    """A different free bench for each part, those least in demand first; None when that is impossible."""
    if not parts:
        return ()
    for name in sorted(parts[0] & free, key=lambda name: (demand[name], name)):
        rest = _assign(parts[1:], free - {name}, demand)
        if rest is not None:
            return (name, *rest)
    return None
