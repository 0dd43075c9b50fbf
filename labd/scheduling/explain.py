"""Why a wish waits: its place, who is ahead, which term of its selectors excludes which bench, who has the others."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from labd.model.selector import parse
from labd.scheduling.bits import members
from labd.scheduling.decide import Pass
from labd.scheduling.decisions import Decision, Reservation
from labd.scheduling.forecast import Forecast, Lasting, Recent
from labd.scheduling.lab import Bench, Lab
from labd.scheduling.quotas import Shortfall
from labd.scheduling.rules import Rules
from labd.scheduling.wish import Wish


class Why(StrEnum):
    """What keeps a matching bench from a wish."""

    UNUSABLE = "unusable"
    DRAINING = "draining"
    FAILED_BEFORE = "failed_before"
    HELD = "held"
    CLEANING_UP = "cleaning_up"
    PROMISED = "promised"
    BOOKED = "booked"
    """By a booking, or held for who has waited longest: the wish would not surely end before."""
    FREE = "free"
    """Nothing: others are missing, or somebody ahead gets it."""


@dataclass(frozen=True, slots=True)
class Matching:
    """A bench that a part's selector matches, and why the wish does not have it."""

    bench: str
    why: Why
    detail: str | None = None
    """Of an unusable bench: what it lacks."""
    by: str | None = None
    """The lease, booking or wish that has it."""
    until: float | None = None
    """When that one's time ends at the latest."""


@dataclass(frozen=True, slots=True)
class PartOutlook:
    """One part of the wish."""

    selector: str
    count: int
    excluded: Mapping[str, tuple[str, ...]]
    """By term of the selector the benches that do not meet it."""
    matching: tuple[Matching, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a wish waits, and until when."""

    wish: str
    position: int | None
    """1 is next. None for a booking."""
    ahead: tuple[str, ...]
    """The wishes before it, in order, that want one of the benches that it wants."""
    parts: tuple[PartOutlook, ...]
    expected_start: float | None
    """From what recent leases lasted; a booking's start. None while it cannot be served as things are."""
    over_quota: Shortfall | None = None
    reservation: Reservation | None = None
    """What is held for it, and from when on it has that at the latest."""
    stranded: bool = False
    """A booking whose bench cannot be used, with no other for it."""


def explain(wish_id: str, lab: Lab, rules: Rules, recent: Iterable[Recent] = ()) -> Explanation:
    """Why this wish waits. Raises KeyError when ``lab.wishes`` has none of this id."""
    wishes = {wish.id: wish for wish in lab.wishes}
    wish = wishes[wish_id]
    lab_pass = Pass(lab, rules)
    decision = lab_pass.decide()
    parts = tuple(_part(number, wish, lab_pass) for number in range(len(wish.parts)))
    if wish.starts_at is not None:
        return Explanation(wish.id, None, (), parts, wish.starts_at, stranded=wish.id in decision.stranded)
    queue = [other for other in lab_pass.order if other.starts_at is None]
    place = queue.index(wish)
    wanted = lab_pass.candidates.wanted(wish)
    over_quota = decision.over_quota.get(wish.id)
    reservation = next((held for held in decision.reservations if held.wish == wish.id), None)
    return Explanation(
        wish.id,
        place + 1,
        tuple(other.id for other in queue[:place] if lab_pass.candidates.wanted(other) & wanted),
        parts,
        None if over_quota else _expected_start(queue[: place + 1], lab_pass, decision, Lasting(recent)),
        over_quota,
        reservation,
    )


def _expected_start(queue: list[Wish], lab_pass: Pass, decision: Decision, lasting: Lasting) -> float | None:
    """Of the last in the queue. Only those matter who compete with it, or with those who do."""
    contested = 0
    relevant: list[Wish] = []
    for wish in reversed(queue):
        wanted = lab_pass.candidates.wanted(wish)
        if not relevant or (wanted & contested and wish.id not in decision.over_quota):
            relevant.append(wish)
            contested |= wanted
    forecast = Forecast(lab_pass.lab, lab_pass.fleet, lab_pass.candidates, lab_pass.rules, lasting)
    starts = [forecast.serve(wish) for wish in reversed(relevant)]
    return starts[-1]


def _part(number: int, wish: Wish, lab_pass: Pass) -> PartOutlook:
    part = wish.parts[number]
    fleet = lab_pass.fleet
    excluded = {
        str(term): tuple(bench.name for bench in fleet.benches if not term.matches(bench.labels))
        for term in parse(part.selector).terms
    }
    considered = lab_pass.candidates.masks(wish)[number]
    matching = tuple(
        _matching(fleet.benches[member], wish, bool(considered >> member & 1), lab_pass)
        for member in members(fleet.matching(part.selector))
    )
    return PartOutlook(part.selector, part.count, excluded, matching)


def _matching(bench: Bench, wish: Wish, considered: bool, lab_pass: Pass) -> Matching:
    held = lab_pass.lab.holders.get(bench.name)
    if bench.obstacle is not None:
        return Matching(bench.name, Why.UNUSABLE, detail=bench.obstacle)
    if bench.draining:
        return Matching(bench.name, Why.DRAINING, by=held.id if held else None)
    if not considered:
        if bench.name in wish.avoid:
            return Matching(bench.name, Why.FAILED_BEFORE)
        return Matching(bench.name, Why.PROMISED, by=bench.promised_to)
    if held is not None:
        return Matching(bench.name, Why.CLEANING_UP if held.ending else Why.HELD, by=held.id, until=held.gone_at)
    if not bench.clean:
        return Matching(bench.name, Why.CLEANING_UP)
    ends_at = lab_pass.lab.now + wish.duration_s + lab_pass.rules.clean_up_s
    for stay in lab_pass.timeline.coming(bench.name):
        if stay.starts_at < ends_at and stay.by != wish.id:
            return Matching(bench.name, Why.BOOKED, by=stay.by, until=stay.ends_at)
    return Matching(bench.name, Why.FREE)
