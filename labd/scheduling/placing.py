"""All benches of a wish at once, or none: an exact matching of seats to benches.

A wish takes a seat for each bench it asks for. When a seat finds only benches that earlier wishes of the same pass were
about to get, those move to others that suit them as well (an augmenting path), so that a wish goes without only if it
cannot be served together with all that were served before it. Nothing has been handed out while this goes on, and
nothing is held while waiting for the rest: no deadlock can come of it.
"""

from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

from labd.scheduling.bits import members
from labd.scheduling.matching import Preference


@dataclass(frozen=True, eq=False, slots=True)
class Seat:
    """One bench to be found for a wish."""

    wish: str
    slot: int
    mask: int
    """The benches that will do."""
    liked: int
    """Those that its selector matches: the preference among them is known."""
    affinity: str | None = None


class Placing:
    """Seats on free benches. ``free`` is the set of those without a seat."""

    def __init__(self, free: int, preference: Preference) -> None:
        self.free = free
        self._preference = preference
        self._settled = 0
        self._at: dict[int, Seat] = {}
        self._taken: dict[int, int] = {}
        """For each mask the benches on which seats with this mask are."""

    def settle(self, benches: int) -> None:
        """No seat moves to these benches any more; new ones may still take them."""
        self._settled |= benches

    def take(self, benches: int) -> None:
        """These are spoken for. Raises ValueError when one of them is not free."""
        if benches & ~self.free:
            raise ValueError("a bench is not free")
        self.free &= ~benches

    def place(self, seats: Sequence[Seat]) -> bool:
        """A bench for every seat, or no change."""
        if any(not seat.mask & self.free for seat in seats) and not self.free & ~self._settled:
            return False
        if len(seats) == 1:
            return self._seat(seats[0])
        before = (self.free, dict(self._at), dict(self._taken))
        for seat in seats:
            if not self._seat(seat):
                self.free, self._at, self._taken = before
                return False
        return True

    def place_together(self, seats: Sequence[Seat], sites: Sequence[int]) -> bool:
        """A bench for every seat, all at one site, where what they take is needed least; or no change."""
        best: tuple[float, list[Seat]] | None = None
        before = (self.free, self._at, self._taken)
        for site in sites:
            local = [replace(seat, mask=seat.mask & site) for seat in seats]
            self._at, self._taken = dict(before[1]), dict(before[2])
            if self.place(local):
                need = sum(self._preference.need(number) for number in members(before[0] & ~self.free))
                if best is None or need < best[0]:
                    best = (need, local)
            self.free, self._at, self._taken = before
        return best is not None and self.place(best[1])

    def benches(self) -> dict[str, list[int]]:
        """What each wish got, in the order of its slots."""
        found: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for number, seat in self._at.items():
            found[seat.wish].append((seat.slot, number))
        return {wish: [number for _, number in sorted(slots)] for wish, slots in found.items()}

    def _seat(self, seat: Seat) -> bool:
        if seat.mask & self.free:
            self._sit(seat, self._best(seat, seat.mask & self.free))
            return True
        targets = self.free & ~self._settled
        came_from = {seat.mask: seat.mask}
        line = deque(came_from)
        while targets and line:
            mask = line.popleft()
            for other, benches in self._taken.items():
                if benches & mask & ~self._settled and other not in came_from:
                    came_from[other] = mask
                    if other & targets:
                        self._sit(seat, self._vacate(seat.mask, other, came_from))
                        return True
                    line.append(other)
        return False

    def _vacate(self, wanted: int, last: int, came_from: dict[int, int]) -> int:
        """Moves a seat of each mask along the path, the last first; the bench in ``wanted`` that becomes empty."""
        targets = last & self.free & ~self._settled
        while True:
            sources = self._taken[last] & came_from[last] & ~self._settled
            source = (sources & -sources).bit_length() - 1
            seat = self._at.pop(source)
            self._taken[last] ^= 1 << source
            self._sit(seat, self._best(seat, targets))
            if came_from[last] == wanted:
                return source
            targets = 1 << source
            last = came_from[last]

    def _sit(self, seat: Seat, number: int) -> None:
        self._at[number] = seat
        self._taken[seat.mask] = self._taken.get(seat.mask, 0) | 1 << number
        self.free &= ~(1 << number)

    def _best(self, seat: Seat, candidates: int) -> int:
        return self._preference.best(candidates, seat.liked, seat.affinity)
