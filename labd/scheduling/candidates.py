"""The benches that come into question for a wish at all, before it is asked which of them are free."""

from collections.abc import Container, Iterable, Sequence

from labd.scheduling.lab import Lab
from labd.scheduling.matching import Fleet, Indifference, Preference
from labd.scheduling.placing import Placing, Seat
from labd.scheduling.wish import Part, Wish


class Candidates:
    """For every part of a wish the set of usable benches that will do."""

    def __init__(self, lab: Lab, fleet: Fleet, entitled: Container[str]) -> None:
        """``entitled`` are the wishes whose promises count."""
        self._fleet = fleet
        self._sites = fleet.sites
        self._indifferent = Indifference()
        self._usable: dict[str, int] = {}
        self._avoiding: dict[tuple[tuple[Part, ...], bool, frozenset[str]], tuple[int, ...]] = {}
        self._promised: dict[str, int] = {}
        for number, bench in enumerate(fleet.benches):
            if bench.promised_to is not None and bench.promised_to in entitled:
                self._promised[bench.promised_to] = self._promised.get(bench.promised_to, 0) | 1 << number
        self._all_promised = sum(self._promised.values())

    def shape(self, wish: Wish) -> object:
        """Equal for wishes that could take each other's place: when one finds no benches, neither do the others."""
        if len(wish.parts) == 1:
            part = wish.parts[0]
            return (part.selector, part.count, wish.duration_s, wish.same_site, wish.avoid, self._promised.get(wish.id))
        return (wish.parts, wish.duration_s, wish.same_site, wish.avoid, self._promised.get(wish.id))

    def forget_promises(self) -> None:
        """From now on promised benches come into question for everybody."""
        self._promised.clear()
        self._all_promised = 0

    def in_reach(self, selectors: Iterable[str], benches: int) -> set[str]:
        """Those of the selectors that match one of these benches."""
        return {selector for selector in selectors if self._matching(selector) & benches}

    def masks(self, wish: Wish) -> tuple[int, ...]:
        """The set for each part, without the benches that are promised to others.

        Benches that failed the request before are left out as long as the usable others could serve it, be they busy.
        """
        masks = self._masks(wish)
        others = self._all_promised & ~self._promised.get(wish.id, 0) if self._all_promised else 0
        return tuple(mask & ~others for mask in masks) if others else masks

    def wanted(self, wish: Wish) -> int:
        """All benches that will do for some part of the wish."""
        wanted = 0
        for mask in self.masks(wish):
            wanted |= mask
        return wanted

    def placing(self, free: int, preference: Preference) -> Placing:
        """Where wishes can be placed on these benches."""
        return Placing(free, preference, self._sites)

    def fit(self, wish: Wish, allowed: int) -> bool:
        """Whether these benches, if they were all free, could serve the wish."""
        return self._fits(wish, self.masks(wish), allowed)

    def place(self, wish: Wish, placing: Placing, allowed: int) -> bool:
        """Finds all benches of the wish among the allowed ones, or changes nothing."""
        return self._place(wish, self.masks(wish), placing, allowed)

    def place_on(self, wish: Wish, placing: Placing, benches: Sequence[str]) -> bool:
        """Takes just these benches for the slots of the wish, or changes nothing when they are not all free."""
        masks = [self._fleet.named((bench,)) for bench in benches]
        return placing.place([Seat(wish.id, slot, mask) for slot, mask in enumerate(masks)])

    def _masks(self, wish: Wish) -> tuple[int, ...]:
        masks = tuple(self._matching(part.selector) for part in wish.parts)
        if not wish.avoid:
            return masks
        key = (wish.parts, wish.same_site, wish.avoid)
        if key not in self._avoiding:
            avoided = self._fleet.named(wish.avoid)
            others = tuple(mask & ~avoided for mask in masks)
            self._avoiding[key] = others if self._fits(wish, others, self._fleet.usable) else masks
        return self._avoiding[key]

    def _matching(self, selector: str) -> int:
        mask = self._usable.get(selector)
        if mask is None:
            mask = self._usable[selector] = self._fleet.matching(selector) & self._fleet.usable
        return mask

    def _fits(self, wish: Wish, masks: tuple[int, ...], allowed: int) -> bool:
        return self._place(wish, masks, self.placing(allowed, self._indifferent), allowed)

    def _place(self, wish: Wish, masks: tuple[int, ...], placing: Placing, allowed: int) -> bool:
        within = allowed & placing.started_with
        for mask in masks:
            if not mask & within:
                return False
        return placing.place(self._seats(wish, masks, allowed), wish.same_site)

    def _seats(self, wish: Wish, masks: tuple[int, ...], allowed: int) -> list[Seat]:
        return [Seat(wish.id, slot, masks[part] & allowed, wish.affinity) for slot, part in enumerate(wish.slots)]
