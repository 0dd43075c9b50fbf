"""Why a wish waits: its place, who is ahead, which term of its selectors excludes which bench, who has the others."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from labd.model.selector import parse
from labd.scheduling.bits import members
from labd.scheduling.decide import Pass
from labd.scheduling.decisions import Decision, Reservation
from labd.scheduling.forecast import Forecast, Lasting, Recent
from labd.scheduling.lab import SITE_LABEL, Bench, Lab
from labd.scheduling.limits import LimitReached
from labd.scheduling.quotas import Quotas, Shortfall
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
    """To another wish; or to this booking, for its time."""
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
    """Of an unusable bench what it lacks, of a drained one why it is drained, if that is known."""
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
    at_limit: LimitReached | None = None
    """There are enough of its kind: nobody knows when one ends."""
    reservation: Reservation | None = None
    """What is held for it, and from when on it has that at the latest."""
    short_of: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Of a wish for one site: by each site with some bench for it, the parts for which it has too few usable ones."""
    stranded: bool = False
    """A booking whose bench cannot be used, with no other for it."""


def explain(wish_id: str, lab: Lab, rules: Rules, recent: Iterable[Recent] = ()) -> Explanation:
    """Why this wish waits. Raises KeyError when ``lab.wishes`` has none of this id."""
    wishes = {wish.id: wish for wish in lab.wishes}
    wish = wishes[wish_id]
    lab_pass = Pass(lab, rules)
    decision = lab_pass.decide()
    parts = tuple(_part(number, wish, lab_pass) for number in range(len(wish.parts)))
    short_of = _short_of(wish, lab_pass)
    if wish.starts_at is not None:
        stranded = wish.id in decision.stranded
        start = None if stranded else wish.starts_at
        return Explanation(wish.id, None, (), parts, start, short_of=short_of, stranded=stranded)
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
        _expected_start(queue[: place + 1], lab_pass, decision, Lasting(recent)),
        over_quota,
        decision.at_limit.get(wish.id),
        reservation,
        short_of,
    )


def _expected_start(queue: list[Wish], lab_pass: Pass, decision: Decision, lasting: Lasting) -> float | None:
    """Of the last in the queue. Only those matter who compete with it, or with those who do: for benches, or, while its
    team has too much, for what that may have.
    """
    last = queue[-1]
    if last.id in decision.at_limit:
        return None
    contested = 0
    relevant: list[Wish] = []
    for wish in reversed(queue):
        if wish.id in decision.at_limit:
            continue
        wanted = lab_pass.candidates.wanted(wish)
        if wish.id in decision.over_quota:
            competes = wish is last or (wish.team == last.team and last.id in decision.over_quota)
        else:
            competes = wish is last or bool(wanted & contested)
        if competes:
            relevant.append(wish)
            contested |= wanted
    lab = lab_pass.lab
    as_expected = tuple(replace(held, ends_at=lasting.expected_end(held, lab.now)) for held in lab.held)
    quotas = Quotas(replace(lab, held=as_expected), lab_pass.rules)
    forecast = Forecast(lab, lab_pass.fleet, lab_pass.candidates, lab_pass.rules, lasting, quotas)
    starts = [forecast.serve(wish) for wish in reversed(relevant)]
    return starts[-1]


def _short_of(wish: Wish, lab_pass: Pass) -> dict[str, tuple[int, ...]]:
    if not wish.same_site or wish.count == 1:
        return {}
    benches, masks = lab_pass.fleet.benches, lab_pass.candidates.masks(wish)
    sites: dict[str, int] = defaultdict(int)
    for member in members(lab_pass.candidates.wanted(wish)):
        sites[benches[member].labels.get(SITE_LABEL, "")] |= 1 << member
    return {
        site: tuple(
            number
            for number, (part, mask) in enumerate(zip(wish.parts, masks, strict=True))
            if (mask & sites[site]).bit_count() < part.count
        )
        for site in sorted(sites)
    }


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
        return Matching(bench.name, Why.DRAINING, by=held.id if held else None, until=held.gone_at if held else None)
    if wish.starts_at is not None and bench.name in wish.booked:
        return Matching(bench.name, Why.PROMISED, by=wish.id, until=wish.ends_at)
    if not considered:
        if bench.name in wish.avoid:
            return Matching(bench.name, Why.FAILED_BEFORE)
        return Matching(bench.name, Why.PROMISED, by=bench.promised_to)
    now, clean_up_s = lab_pass.lab.now, lab_pass.rules.clean_up_s
    starts_at = now if wish.starts_at is None else wish.starts_at
    if held is not None and (starts_at <= now or held.gone_at + clean_up_s > starts_at):
        return Matching(bench.name, Why.CLEANING_UP if held.ending else Why.HELD, by=held.id, until=held.gone_at)
    if not bench.clean and starts_at <= now:
        return Matching(bench.name, Why.CLEANING_UP)
    ends_at = starts_at + wish.duration_s + clean_up_s
    for stay in lab_pass.timeline.coming(bench.name):
        if stay.starts_at < ends_at and stay.ends_at + clean_up_s > starts_at and stay.by != wish.id:
            return Matching(bench.name, Why.BOOKED, by=stay.by, until=stay.ends_at)
    return Matching(bench.name, Why.FREE)
