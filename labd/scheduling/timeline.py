"""When each bench is taken: by leases until their hard end, by bookings, by what is held for those who waited longest.

Every stay is followed by ``clean_up_s`` in which nobody has the bench. So a lease may run before a booking exactly if
its hard end, and the clean-up after it, come before the booking's start (backfill).
"""

from bisect import insort
from collections.abc import Iterable
from heapq import heappop, heappush
from itertools import groupby
from math import inf
from typing import NamedTuple

from labd.scheduling.bits import members, union
from labd.scheduling.candidates import Candidates
from labd.scheduling.lab import Lab
from labd.scheduling.matching import Fleet
from labd.scheduling.rules import Rules
from labd.scheduling.wish import Wish


class Stay(NamedTuple):
    """A time in which a bench is taken."""

    starts_at: float
    ends_at: float
    """Without the clean-up."""
    by: str
    """The lease, the booking or the wish."""


class Timeline:
    """The stays on every bench from now on."""

    def __init__(self, lab: Lab, fleet: Fleet, rules: Rules) -> None:
        self._now = lab.now
        self._fleet = fleet
        self._clean_up_s = rules.clean_up_s
        self._present: dict[int, Stay] = {}
        self._busy_until = [lab.now] * len(fleet.benches)
        """With the clean-up."""
        self._coming: dict[int, list[Stay]] = {}
        self._gaps: dict[int, list[tuple[float, float]]] = {}
        self._allowed: dict[float, int] = {}
        for held in lab.held:
            gone_at = lab.now if held.ending else max(held.gone_at, lab.now)
            for number in self._numbers(held.benches):
                self._present[number] = Stay(held.granted_at, gone_at, held.id)
                self._busy_until[number] = gone_at + rules.clean_up_s
        for number, bench in enumerate(fleet.benches):
            if not bench.clean and number not in self._present:
                self._busy_until[number] = lab.now + rules.clean_up_s
        for wish in lab.bookings:
            if (
                wish.ends_at is not None and wish.ends_at > lab.now
            ):  # otherwise it has lapsed, and leaves nothing behind
                self.book(wish, wish.booked)

    def book(self, wish: Wish, benches: Iterable[str]) -> None:
        """The benches are the booking's, for its time."""
        if wish.starts_at is not None and wish.ends_at is not None:
            self.add(benches, Stay(wish.starts_at, wish.ends_at, wish.id))

    def add(self, benches: Iterable[str], stay: Stay) -> None:
        """These benches are taken then; those that do not exist any more are left out."""
        for number in self._numbers(benches):
            insort(self._coming.setdefault(number, []), stay)
            self._gaps.pop(number, None)
            for ends_at, allowed in self._allowed.items():
                if self._clash(stay, self._now, ends_at):
                    self._allowed[ends_at] = allowed & ~(1 << number)

    def occupy(self, number: int, stay: Stay) -> None:
        """This bench, which nobody had, is taken from now on."""
        self._present[number] = stay
        self._busy_until[number] = stay.ends_at + self._clean_up_s
        self._gaps.pop(number, None)

    def remove(self, benches: Iterable[str], by: str) -> None:
        """Takes the coming stays of this one off these benches."""
        for number in self._numbers(benches):
            self._coming[number] = [stay for stay in self._coming.get(number, ()) if stay.by != by]
            self._gaps.pop(number, None)
        self._allowed.clear()

    def meet(self, one: Wish, other: Wish) -> bool:
        """Whether two bookings cannot be on the same bench."""
        if one.starts_at is None or one.ends_at is None or other.starts_at is None or other.ends_at is None:
            return False
        return self._clash(Stay(one.starts_at, one.ends_at, one.id), other.starts_at, other.ends_at)

    def stays(self, bench: str) -> list[Stay]:
        """The present lease of a bench, if there is one, and what follows, in order."""
        present = self._present.get(self._fleet.numbers[bench])
        return ([] if present is None else [present]) + self.coming(bench)

    def coming(self, bench: str) -> list[Stay]:
        """What follows the present lease of a bench, in order."""
        return list(self._coming.get(self._fleet.numbers[bench], ()))

    def allowed(self, ends_at: float) -> int:
        """The benches on which who starts now and ends then is in nobody's way later. Present leases do not count."""
        allowed = self._allowed.get(ends_at)
        if allowed is None:
            allowed = self._allowed[ends_at] = self._fleet.everything & ~self._claimed(self._now, ends_at)
        return allowed

    def unclaimed(self, ends_at: float, besides: str) -> int:
        """As ``allowed``, but the stays of ``besides`` do not count either."""
        return self._fleet.everything & ~self._claimed(self._now, ends_at, besides)

    def free(self, starts_at: float, ends_at: float) -> int:
        """The benches that nobody has in this time."""
        present = self._fleet.where(until > starts_at for until in self._busy_until)
        return self._fleet.everything & ~present & ~self._claimed(starts_at, ends_at)

    def earliest(self, wish: Wish, candidates: Candidates, not_before: float) -> tuple[float, int] | None:
        """The first time from which enough benches are free together for the wish's duration, and those free then.

        None if that never comes, as things are.
        """
        masks = candidates.masks(wish)
        wanted = 0
        for mask in masks:
            wanted |= mask
        lasting_s = wish.duration_s + self._clean_up_s
        fitting = []
        for number in members(wanted):
            for opens_at, closes_at in self._gaps_of(number):
                start = opens_at if opens_at > not_before else not_before
                if start + lasting_s <= closes_at:
                    fitting.append((start, closes_at - lasting_s, number))
        fitting.sort()
        closing: list[tuple[float, int]] = []
        free = 0
        for start, gaps in groupby(fitting, key=lambda gap: gap[0]):
            while closing and closing[0][0] < start:
                free &= ~(1 << heappop(closing)[1])
            for _, last_start, number in gaps:
                free |= 1 << number
                heappush(closing, (last_start, number))
            if self._enough(wish, masks, free) and candidates.fit(wish, free):
                return start, free
        return None

    @staticmethod
    def _enough(wish: Wish, masks: tuple[int, ...], free: int) -> bool:
        return all((mask & free).bit_count() >= part.count for part, mask in zip(wish.parts, masks, strict=True))

    def _claimed(self, starts_at: float, ends_at: float, besides: str | None = None) -> int:
        return union(
            (
                number
                for number, stays in self._coming.items()
                if any(stay.by != besides and self._clash(stay, starts_at, ends_at) for stay in stays)
            ),
            len(self._fleet.benches),
        )

    def _clash(self, stay: Stay, starts_at: float, ends_at: float) -> bool:
        return stay.starts_at < ends_at + self._clean_up_s and stay.ends_at + self._clean_up_s > starts_at

    def _numbers(self, benches: Iterable[str]) -> list[int]:
        return [self._fleet.numbers[name] for name in benches if name in self._fleet.numbers]

    def _gaps_of(self, number: int) -> list[tuple[float, float]]:
        """From when until when a bench is free, from now on."""
        gaps = self._gaps.get(number)
        if gaps is None:
            gaps = self._gaps[number] = []
            since = self._busy_until[number]
            for stay in self._coming.get(number, ()):
                if stay.starts_at > since:
                    gaps.append((since, stay.starts_at))
                since = max(since, stay.ends_at + self._clean_up_s)
            gaps.append((since, inf))
        return gaps
