"""What a team may have: benches at once, and bench-hours in any seven days in a row.

Counted are the hours used, those that present leases may still use until their hard end, and booked ones. So no quota
is ever exceeded, whatever the leases do.
"""

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import inf
from typing import NamedTuple

from labd.scheduling.lab import Lab
from labd.scheduling.rules import WEEK_S, Rules

_ROUNDING_S = 1e-3
"""Sums of times since 1970 are that exact."""


@dataclass(frozen=True, slots=True)
class Shortfall:
    """Why a wish is over its team's quota. In benches or bench-hours."""

    team: str
    unit: str
    """``benches at once`` or ``bench-hours per week``."""
    limit: float
    taken: float
    """By the team's other leases and bookings, at the worst moment that the wish would live to see."""
    asked: float

    def __str__(self) -> str:
        return (
            f"team {self.team} may have {self.limit:g} {self.unit}: {self.taken:.4g} are taken, "
            f"this asks for {self.asked:.4g} more"
        )


class _Span(NamedTuple):
    starts_at: float
    ends_at: float
    benches: float


class Quotas:
    """What every team has and has coming, while a pass hands out more."""

    def __init__(self, lab: Lab, rules: Rules) -> None:
        self._rules = rules
        self._committed: dict[str, list[_Span]] = defaultdict(list)
        self._lab = lab
        self._used: dict[str, _Cumulated] = {}
        self._known: dict[str, dict[tuple[int, float, float], Shortfall | None]] = defaultdict(dict)
        for held in lab.held:
            if self.limits(held.team):
                ends_at = min(lab.now, held.ends_at) if held.ending else held.ends_at
                self._committed[held.team].append(_Span(held.granted_at, ends_at, len(held.benches)))
        for wish in lab.bookings:
            if wish.starts_at is not None and wish.booked:
                self.charge(wish.team, len(wish.booked), wish.starts_at, wish.starts_at + wish.duration_s)

    def limits(self, team: str) -> bool:
        """Whether the team has a quota at all."""
        return self._rules.team(team).limited

    def charge(self, team: str, benches: int, starts_at: float, ends_at: float) -> None:
        """From now on the team has these as well."""
        if self.limits(team):
            self._committed[team].append(_Span(starts_at, ends_at, benches))
            self._known[team].clear()

    def shortfall(self, team: str, benches: int, starts_at: float, ends_at: float) -> Shortfall | None:
        """Why the team may not have so many benches for that time in addition; None if it may."""
        if not self.limits(team):
            return None
        known = self._known[team]
        key = (benches, starts_at, ends_at)
        if key not in known:
            known[key] = self._too_many(team, *key) or self._too_long(team, *key)
        return known[key]

    def earliest(self, team: str, benches: int, not_before: float, lasting_s: float) -> float | None:
        """From when on the team may have so many benches for so long, as far as can be seen; None: never.

        What it has ends, and leaves the week, one after the other: of those moments, the first that will do.
        """
        if self.shortfall(team, benches, not_before, not_before + lasting_s) is None:
            return not_before
        ends = {span.ends_at for span in self._committed[team]}
        weeks = {end + WEEK_S for end in (*ends, *(used.ends_at for used in self._lab.used.get(team, ())))}
        moments = sorted(moment for moment in ends | weeks if moment > not_before)

        def permitted(moment: float) -> bool:
            return self.shortfall(team, benches, moment, moment + lasting_s) is None

        found = bisect_left(moments, True, key=permitted)
        return moments[found] if found < len(moments) and permitted(moments[found]) else None

    def _too_many(self, team: str, benches: int, starts_at: float, ends_at: float) -> Shortfall | None:
        limit = self._rules.team(team).benches_at_once
        if limit is None:
            return None
        spans = [span for span in self._committed[team] if span.starts_at < ends_at and span.ends_at > starts_at]
        moments = {starts_at, *(span.starts_at for span in spans if span.starts_at > starts_at)}
        taken = max(sum(span.benches for span in spans if span.starts_at <= at < span.ends_at) for at in moments)
        if taken + benches <= limit:
            return None
        return Shortfall(team, "benches at once", limit, taken, benches)

    def _too_long(self, team: str, benches: int, starts_at: float, ends_at: float) -> Shortfall | None:
        limit = self._rules.team(team).bench_hours_per_week
        if limit is None:
            return None
        limit_s = limit * 3600 + _ROUNDING_S
        used, committed = self._used_by(team), self._committed[team]
        asked_s = benches * (ends_at - starts_at)
        if used.total + sum((span.ends_at - span.starts_at) * span.benches for span in committed) + asked_s <= limit_s:
            return None
        most_s = busiest_week(used, committed, _Span(starts_at, ends_at, benches))
        if most_s <= limit_s:
            return None
        return Shortfall(team, "bench-hours per week", limit, max(most_s - asked_s, 0.0) / 3600, asked_s / 3600)

    def _used_by(self, team: str) -> "_Cumulated":
        if team not in self._used:
            self._used[team] = _Cumulated(
                _Span(used.starts_at, used.ends_at, used.bench_s / max(used.ends_at - used.starts_at, _ROUNDING_S))
                for used in self._lab.used.get(team, ())
                if used.ends_at > self._lab.now - WEEK_S
            )
        return self._used[team]


def busiest_week(used: "_Cumulated", committed: Sequence[_Span], own: _Span) -> float:
    """The most bench-seconds in any seven days that overlap ``own``, with it."""
    taken = _Cumulated([*committed, own])
    last = min(max(taken.ends_at, used.ends_at), own.ends_at + WEEK_S)  # after it, weeks only lose
    return max(
        used.between(end - WEEK_S, end) + taken.between(end - WEEK_S, end)
        for end in (*taken.peaks, *used.peaks)
        if own.starts_at < end <= last
    )


class _Cumulated:
    """Bench-seconds used up to a time; grows piecewise linearly."""

    def __init__(self, spans: Iterable[_Span]) -> None:
        spans = list(spans)
        changes: dict[float, float] = defaultdict(float)
        for span in spans:
            changes[span.starts_at] += span.benches
            changes[span.ends_at] -= span.benches
        self._times = sorted(changes)
        self._rates = list(accumulate(changes[time] for time in self._times))
        steps = (
            rate * (after - before)
            for rate, before, after in zip(self._rates, self._times, self._times[1:], strict=False)
        )
        self._sums = [0.0, *accumulate(steps)]
        self.total = self._sums[-1]
        self.ends_at = self._times[-1] if self._times else -inf
        self.peaks = {span.ends_at for span in spans} | {span.starts_at + WEEK_S for span in spans}
        """Where the busiest weeks end."""

    def between(self, start: float, end: float) -> float:
        return self._until(end) - self._until(start)

    def _until(self, time: float) -> float:
        index = bisect_right(self._times, time) - 1
        return 0.0 if index < 0 else self._sums[index] + self._rates[index] * (time - self._times[index])
