"""All benches of a wish at once, or none: an exact matching of seats to benches.

A wish takes a seat for each bench it asks for. When a seat finds only benches that earlier wishes of the same pass were
about to get, those move to others that suit them as well (an augmenting path), so that a wish goes without only if it
cannot be served together with all that were served before it. Nothing has been handed out while this goes on, and
nothing is held while waiting for the rest: no deadlock can come of it.
"""

from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from labd.scheduling.bits import members
from labd.scheduling.matching import Preference

TRIALS = 32
"""Ways to spread earlier wishes over the sites that one pass tries in order to serve a later one."""


@dataclass(eq=False, slots=True)
class Seat:
    """One bench to be found for a wish. Never changed; not frozen, as a pass makes thousands."""

    wish: str
    slot: int
    mask: int
    """The benches that will do."""
    affinity: str | None = None


class Placing:
    """Seats on free benches. ``free`` is the set of those without a seat, of the set ``started_with``."""

    def __init__(self, free: int, preference: Preference, sites: Sequence[int] = ()) -> None:
        """``sites`` are the benches of each site: what ``together`` means."""
        self.free = free
        self.started_with = free
        self._preference = preference
        self._sites = sites
        self._settled = 0
        self._at: dict[int, Seat] = {}
        self._hopeless = 0
        """Benches all taken by seats that have no others: no path leads from these to a free bench."""
        self._together: list[Sequence[Seat]] = []
        """The seats of each wish that found its benches at one site, as if there were no sites."""
        self._trials = TRIALS

    def add(self, benches: int) -> None:
        """These are free as well."""
        self.free |= benches
        self.started_with |= benches
        self._hopeless = 0

    def settle(self) -> None:
        """Who has a seat so far keeps it where it is."""
        self._settled = self.started_with & ~self.free
        self._together.clear()

    def place(self, seats: Sequence[Seat], together: bool = False) -> bool:
        """A bench for every seat, all at one site if ``together``; or no change."""
        if not self.free:
            return False
        together = together and len(seats) > 1 and len(self._sites) > 1
        if self._place_at_best_site(seats) if together else self._place(seats):
            if together:
                self._together.append(seats)
            return True
        return self._place_elsewhere(seats, together)

    def _place(self, seats: Sequence[Seat]) -> bool:
        before = self._state() if len(seats) > 1 else None
        for number, seat in enumerate(seats):
            if not self._seat(seat, certain=number == 0):
                if before is not None:
                    self._restore(before)
                return False
        return True

    def _place_at_best_site(self, seats: Sequence[Seat]) -> bool:
        """At the site where what they take is needed least."""
        best: tuple[int, list[Seat]] | None = None
        before = self._state()
        for local in self._at_sites(seats):
            if self._place(local):
                need = sum(self._preference.need(number) for number in members(before[0] & ~self.free))
                if best is None or need < best[0]:
                    best = (need, local)
                self._restore(before)
                if not need:
                    break
        return best is not None and self._place(best[1])

    def _place_elsewhere(self, seats: Sequence[Seat], together: bool) -> bool:
        """Has earlier wishes go to other sites, if that makes room: tries all ways, as long as the trials last."""
        if not self._together or not self._trials:
            return False
        before = self._state()
        wishes = {group[0].wish for group in self._together}
        for number, seat in before[1].items():
            if seat.wish in wishes:
                del self._at[number]
                self.free |= 1 << number
        rest = [(seats, together), *((group, True) for group in self._together)]
        if self._arrange(rest):
            self._hopeless = 0
            if together:
                self._together.append(seats)
            return True
        self._restore(before)
        return False

    def _arrange(self, groups: Sequence[tuple[Sequence[Seat], bool]]) -> bool:
        if not groups:
            return True
        (seats, together), *rest = groups
        before = self._state()
        for local in self._at_sites(seats) if together else (seats,):
            if not self._trials:
                return False
            self._trials -= 1
            if self._place(local) and self._arrange(rest):
                return True
            self._restore(before)
        return False

    def _at_sites(self, seats: Sequence[Seat]) -> Iterator[list[Seat]]:
        for site in self._sites:
            if all(seat.mask & site for seat in seats):
                yield [Seat(seat.wish, seat.slot, seat.mask & site, seat.affinity) for seat in seats]

    def _state(self) -> tuple[int, dict[int, Seat]]:
        return self.free, dict(self._at)

    def _restore(self, state: tuple[int, dict[int, Seat]]) -> None:
        self.free, self._at = state[0], dict(state[1])

    def unsettled(self) -> list[tuple[int, Seat]]:
        """The seats that may still move, with their benches."""
        return [(number, self._at[number]) for number in members(self.started_with & ~self.free & ~self._settled)]

    def benches(self) -> dict[str, list[int]]:
        """What each wish got, in the order of its slots."""
        found: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for number, seat in self._at.items():
            found[seat.wish].append((seat.slot, number))
        return {wish: [number for _, number in sorted(slots)] for wish, slots in found.items()}

    def _seat(self, seat: Seat, certain: bool) -> bool:
        """A bench for this seat, if need be by moving others. ``certain``: nothing that is placed may be undone."""
        if seat.mask & self.free:
            self._sit(seat, self._best(seat, seat.mask & self.free))
            return True
        targets = self.free
        if not targets or not seat.mask & ~self._hopeless:
            return False
        path: dict[int, tuple[int, int]] = {seat.mask: (0, 0)}
        line = deque(path)
        reached = self._hopeless
        movable = self.started_with & ~self.free & ~self._settled
        while line:
            mask = line.popleft()
            new = mask & ~reached
            reached |= mask
            for number in members(new & movable):
                other = self._at[number].mask
                if other not in path:
                    path[other] = (mask, number)
                    if other & targets:
                        self._sit(seat, self._vacate(other, path, targets))
                        return True
                    line.append(other)
        if certain:
            self._hopeless = reached
        return False

    def _vacate(self, last: int, path: dict[int, tuple[int, int]], targets: int) -> int:
        """Moves a seat of each mask on the path, the last first; the bench that becomes empty at its beginning."""
        while True:
            mask, number = path[last]
            seat = self._at.pop(number)
            self._sit(seat, self._best(seat, last & targets))
            if not path[mask][0]:
                return number
            targets = 1 << number
            last = mask

    def _sit(self, seat: Seat, number: int) -> None:
        self._at[number] = seat
        self.free &= ~(1 << number)

    def _best(self, seat: Seat, candidates: int) -> int:
        return self._preference.best(candidates, seat.affinity)
