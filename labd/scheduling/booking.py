"""Booking ahead: from a time, for a duration; refused at once where it conflicts, and what that is.

In the way of a booking is what is certain: leases until their hard end, other bookings, and the benches that are held
for those who waited longest. Who merely waits is not: a booking is a promise, a place in the queue an order.
"""

from dataclasses import dataclass, replace

from labd.scheduling.decide import Pass
from labd.scheduling.lab import Lab
from labd.scheduling.quotas import Shortfall
from labd.scheduling.rules import Rules
from labd.scheduling.timeline import Stay
from labd.scheduling.wish import Part, Wish


@dataclass(frozen=True, slots=True)
class InTheWay:
    """A lease, a booking or a wish that has a bench in the time that was asked for."""

    lease: str
    bench: str
    starts_at: float
    ends_at: float


@dataclass(frozen=True, slots=True)
class Booked:
    """The benches that the booking gets, in the order of ``Wish.slots``."""

    benches: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Refused:
    """Why there is no such booking."""

    in_the_way: tuple[InTheWay, ...] = ()
    """On the benches that match; what is in the way of least of the time first."""
    next_free: float | None = None
    """The first later start at which benches are free for the whole duration; None if there is none as things are."""
    shortfall: Shortfall | None = None
    """It would be over its team's quota."""


def book(wish: Wish, lab: Lab, rules: Rules) -> Booked | Refused:
    """Whether the wish, which has ``starts_at`` and is not in ``lab.wishes``, can be promised. Raises SelectorError.

    Raises ValueError without ``starts_at``. A start in the past counts from now on.
    """
    if wish.starts_at is None:
        raise ValueError(f"wish {wish.id} has no start: it is no booking")
    starts_at = max(wish.starts_at, lab.now)
    ends_at = starts_at + wish.duration_s
    wish = replace(wish, starts_at=starts_at)
    lab_pass = Pass(lab, rules)
    lab_pass.settle()
    shortfall = lab_pass.quotas.shortfall(wish.team, wish.count, starts_at, ends_at)
    if shortfall is not None:
        return Refused(shortfall=shortfall)
    benches = lab_pass.find(wish)
    if benches is not None:
        return Booked(benches)
    later = lab_pass.timeline.earliest(wish, lab_pass.candidates, starts_at)
    return Refused(_in_the_way(wish, starts_at, ends_at, lab_pass), None if later is None else later[0])


def extend(lease: str, ends_at: float, lab: Lab, rules: Rules) -> Refused | None:
    """Why a present lease cannot have this later hard end; None if it can. Raises KeyError when nobody holds it.

    In the way are bookings, and what is held for those who waited longest; ``next_free`` is None.
    """
    held = {held.id: held for held in lab.held}[lease]
    lab_pass = Pass(lab, rules)
    lab_pass.settle()
    shortfall = lab_pass.quotas.shortfall(held.team, len(held.benches), held.ends_at, ends_at)
    in_the_way = [
        InTheWay(stay.by, bench, stay.starts_at, stay.ends_at)
        for bench in held.benches
        for stay in lab_pass.timeline.coming(bench)
        if stay.starts_at < ends_at + rules.clean_up_s
    ]
    if shortfall is None and not in_the_way:
        return None
    return Refused(tuple(sorted(in_the_way, key=lambda stay: (stay.starts_at, stay.bench))), shortfall=shortfall)


@dataclass(frozen=True, slots=True)
class Agenda:
    """When a bench is taken, from now on."""

    stays: tuple[Stay, ...]
    """In order, without the clean-up after each."""
    next_free: float | None
    """The first time from which it is free for as long as was asked; None if that never comes as things are."""


def agenda(bench: str, duration_s: float, lab: Lab, rules: Rules) -> Agenda:
    """What is certain of a bench, and when it is next free for this long. Raises KeyError when there is no such one."""
    lab_pass = Pass(lab, rules)
    lab_pass.settle()
    slot = Wish("", 0, (Part(f"name={bench}"),), duration_s, lab.now)
    free = lab_pass.timeline.earliest(slot, lab_pass.candidates, lab.now)
    return Agenda(tuple(lab_pass.timeline.stays(bench)), None if free is None else free[0])


def _in_the_way(wish: Wish, starts_at: float, ends_at: float, lab_pass: Pass) -> tuple[InTheWay, ...]:
    starts_at -= lab_pass.rules.clean_up_s
    ends_at += lab_pass.rules.clean_up_s
    wanted = lab_pass.candidates.wanted(wish)
    found = []
    for number, bench in enumerate(lab_pass.fleet.names):
        if wanted >> number & 1:
            for stay in lab_pass.timeline.stays(bench):
                if stay.starts_at < ends_at and stay.ends_at > starts_at:
                    overlap = min(stay.ends_at, ends_at) - max(stay.starts_at, starts_at)
                    found.append((overlap, bench, stay))
    return tuple(
        InTheWay(stay.by, bench, stay.starts_at, stay.ends_at) for _, bench, stay in sorted(found, key=_least_first)
    )


def _least_first(entry: tuple[float, str, Stay]) -> tuple[float, str]:
    return entry[:2]
