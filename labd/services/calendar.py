"""The calendar of a bench: who has it when, and when it is next free."""

from dataclasses import dataclass
from enum import StrEnum

from labd.model.lease import Lease, LeaseState
from labd.scheduling.booking import agenda
from labd.services.core import Core
from labd.services.fleet import Fleet
from labd.services.planning import lab_of, rules_of


class Taken(StrEnum):
    """How somebody has a bench in a time."""

    LEASED = "leased"
    BOOKED = "booked"
    KEPT = "kept"
    """It is kept free for who has waited longest."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A time in which somebody has the bench: s since the Unix epoch, without the clean-up after it."""

    starts_at: float
    ends_at: float
    taken: Taken
    lease: Lease


@dataclass(frozen=True, slots=True)
class CalendarView:
    """What is certain of a bench from now on."""

    bench: str
    entries: tuple[Entry, ...]
    next_free: float | None
    """The first time from which it is free for as long as was asked; None: never, as things are."""


class Calendar:
    """The use case of whoever plans."""

    def __init__(self, core: Core, fleet: Fleet) -> None:
        self._core = core
        self._fleet = fleet

    def of(self, bench: str, duration_s: float) -> CalendarView:
        """The calendar of a bench, and its next free slot of ``duration_s``. Raises NotFound."""
        self._fleet.bench(bench)
        with self._core.view() as unit:
            lab = lab_of(unit, self._core.clock.now(), self._core.presence.attached)
            found = agenda(bench, duration_s, lab, rules_of(unit.policy()))
            leases = {stay.by: unit.lease(stay.by) for stay in found.stays}
        entries = tuple(
            Entry(stay.starts_at, stay.ends_at, _taken(lease), lease)
            for stay in found.stays
            if (lease := leases[stay.by]) is not None
        )
        return CalendarView(bench, entries, found.next_free)


def _taken(lease: Lease) -> Taken:
    if lease.state is not LeaseState.QUEUED:
        return Taken.LEASED
    return Taken.KEPT if lease.starts_at is None else Taken.BOOKED
