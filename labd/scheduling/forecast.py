"""When the wishes that wait can be expected to start: what recent leases lasted tells how long the others will.

An estimate, not a promise: who waits is served in the present order, each by the benches that come free first.
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from heapq import nsmallest
from math import inf

from labd.scheduling.bits import members
from labd.scheduling.candidates import Candidates
from labd.scheduling.lab import Held, Lab
from labd.scheduling.matching import Fleet
from labd.scheduling.quotas import Quotas
from labd.scheduling.rules import Rules
from labd.scheduling.timeline import Timeline
from labd.scheduling.wish import Wish


@dataclass(frozen=True, slots=True)
class Recent:
    """A lease that has ended: what it was asked for, and how long it lasted."""

    asked_s: float
    lasted_s: float


class Lasting:
    """How long leases last, of what was asked for. Without any example: all of it."""

    def __init__(self, recent: Iterable[Recent]) -> None:
        self._shares = sorted(min(lease.lasted_s / lease.asked_s, 1.0) for lease in recent if lease.asked_s > 0)

    def expected_s(self, asked_s: float, elapsed_s: float = 0.0) -> float:
        """The median, from its start on, of those that lasted longer than it already has."""
        longer = self._shares[bisect_right(self._shares, elapsed_s / asked_s if asked_s > 0 else inf) :]
        return asked_s * longer[len(longer) // 2] if longer else max(asked_s, elapsed_s)

    def expected_end(self, held: Held, now: float) -> float:
        """When a present lease can be expected to end; its hard end at the latest."""
        lasting_s = self.expected_s(held.ends_at - held.granted_at, now - held.granted_at)
        return now if held.ending else max(now, min(held.granted_at + lasting_s, held.gone_at))


class Forecast:
    """The benches as they come free, while one wish after the other is given them."""

    def __init__(
        self, lab: Lab, fleet: Fleet, candidates: Candidates, rules: Rules, lasting: Lasting, quotas: Quotas
    ) -> None:
        """``quotas`` count present leases until their expected ends."""
        self._now = lab.now
        self._quotas = quotas
        self._fleet = fleet
        self._candidates = candidates
        timeline = Timeline(lab, fleet, rules)
        self._coming = [timeline.coming(name) for name in fleet.names]
        self._clean_up_s = rules.clean_up_s
        self._lasting = lasting
        self._ready = [lab.now if bench.clean else lab.now + rules.clean_up_s for bench in fleet.benches]
        for name, held in lab.holders.items():
            if name in fleet.numbers:
                self._ready[fleet.numbers[name]] = lasting.expected_end(held, lab.now) + rules.clean_up_s

    def serve(self, wish: Wish) -> float | None:
        """The expected start of the next wish, which then has its benches; None if there are not enough for it, or if
        its team may never have so much.
        """
        lasting_s = self._lasting.expected_s(wish.duration_s)
        masks = self._candidates.masks(wish)
        sites = self._fleet.sites if wish.same_site else [self._fleet.everything]
        not_before = self._now
        while True:
            found = [self._soonest(wish, [mask & site for mask in masks], not_before) for site in sites]
            start, numbers = min(found, default=(inf, ()))
            if start == inf:
                return None
            permitted = self._quotas.earliest(wish.team, wish.count, start, wish.duration_s)
            if permitted is None:
                return None
            if permitted <= start:
                break
            not_before = permitted
        self._quotas.charge(wish.team, wish.count, start, start + lasting_s)
        for number in numbers:
            self._ready[number] = start + lasting_s + self._clean_up_s
        return start

    def _soonest(self, wish: Wish, masks: Sequence[int], not_before: float) -> tuple[float, tuple[int, ...]]:
        """The benches that are ready first from then on, the parts with the least choice choosing first."""
        chosen: list[int] = []
        start = -inf
        for part, mask in sorted(zip(wish.parts, masks, strict=True), key=lambda entry: entry[1].bit_count()):
            ready = nsmallest(
                part.count,
                (
                    (self._from(number, wish.duration_s, not_before), number)
                    for number in members(mask)
                    if number not in chosen
                ),
            )
            if len(ready) < part.count:
                return inf, ()
            chosen.extend(number for _, number in ready)
            start = max(start, ready[-1][0])
        return start, tuple(chosen)

    def _from(self, number: int, lasting_s: float, not_before: float) -> float:
        """When a bench is ready for so long: after its coming stays, or before one if there is time enough."""
        start = max(self._ready[number], not_before)
        for stay in self._coming[number]:
            if stay.ends_at + self._clean_up_s > start and stay.starts_at < start + lasting_s + self._clean_up_s:
                start = stay.ends_at + self._clean_up_s
        return start
