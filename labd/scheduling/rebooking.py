"""Bookings whose benches cannot be used any more are placed anew.

If there is no bench for one, others that have not begun make room, as few as possible: what a booking was promised is
what it asked for, not the bench that was found first. Whoever needs one bench and no other says so in the selector.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import combinations, islice

from labd.scheduling.candidates import Candidates
from labd.scheduling.decisions import Move
from labd.scheduling.lab import Lab
from labd.scheduling.matching import Fleet
from labd.scheduling.timeline import Timeline
from labd.scheduling.wish import Wish

TRIALS = 32
"""Sets of bookings that one pass tries to move out of the way."""
_MOST = 2
"""So many others move for one booking."""

Find = Callable[[Wish], tuple[str, ...] | None]
"""Benches for a booking that are free for the whole of it, or for what is left of it."""


class Rebooking:
    """Where the bookings of a lab are from now on."""

    def __init__(self, lab: Lab, fleet: Fleet, timeline: Timeline, candidates: Candidates, find: Find) -> None:
        self._now = lab.now
        self._fleet = fleet
        self._timeline = timeline
        self._candidates = candidates
        self._find = find
        self._trials = TRIALS
        coming = [wish for wish in lab.bookings if wish.ends_at is not None and wish.ends_at > lab.now]
        self._bookings = sorted(coming, key=lambda wish: (wish.starts_at, wish.seq))
        self._benches = {wish.id: wish.booked for wish in self._bookings}

    def rebook(self) -> tuple[list[Move], list[str]]:
        """What moves, and the bookings for which there are no benches as yet."""
        stranded = []
        for wish in [wish for wish in self._bookings if not self._is_well(wish)]:
            self._take_out(wish)
            benches = self._find(wish)
            if benches is not None:
                self._put(wish, benches)
            elif not self._make_room(wish):
                self._put(wish, wish.booked)
                stranded.append(wish.id)
        moves = [
            Move(wish.id, self._benches[wish.id])
            for wish in self._bookings
            if self._benches[wish.id] != wish.booked and wish.id not in stranded
        ]
        return moves, stranded

    def _is_well(self, wish: Wish) -> bool:
        benches = self._fleet.named(self._benches[wish.id]) & self._fleet.usable
        return benches.bit_count() == len(wish.slots)

    def _make_room(self, wish: Wish) -> bool:
        """Places the wish, and elsewhere those that are in its way; or changes nothing."""
        for moving in islice(self._in_the_way(wish), self._trials):
            self._trials -= 1
            before = {other.id: self._benches[other.id] for other in moving}
            for other in moving:
                self._take_out(other)
            if self._place_all((wish, *moving)):
                return True
            for other in moving:
                self._put(other, before[other.id])
        return False

    def _place_all(self, wishes: Sequence[Wish]) -> bool:
        for placed, wish in enumerate(wishes):
            benches = self._find(wish)
            if benches is None:
                for other in wishes[:placed]:
                    self._take_out(other)
                return False
            self._put(wish, benches)
        return True

    def _in_the_way(self, wish: Wish) -> Iterator[tuple[Wish, ...]]:
        """Sets of bookings without which there may be benches for the wish, the smallest first."""
        wanted = self._candidates.wanted(wish)
        rivals = [
            other
            for other in reversed(self._bookings)
            if other.id != wish.id
            and other.starts_at is not None
            and other.starts_at > self._now
            and self._timeline.meet(wish, other)
            and self._fleet.named(self._benches[other.id]) & wanted
            and self._is_well(other)
        ]
        for count in range(1, _MOST + 1):
            yield from combinations(rivals, count)

    def _take_out(self, wish: Wish) -> None:
        self._timeline.remove(self._benches[wish.id], wish.id)

    def _put(self, wish: Wish, benches: tuple[str, ...]) -> None:
        self._benches[wish.id] = benches
        self._timeline.book(wish, benches)
