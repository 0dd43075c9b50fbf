"""Which benches a wish may have, and which of them suits best.

The best fit is the bench that the others who wait need least; then, with an affinity, the one that wishes of this key
always prefer; then the one with the most common labels, so that a rich bench stays free for who will need it.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import lru_cache
from hashlib import blake2b
from operator import attrgetter

from labd.model.selector import NAME_LABEL, Operator, Selector, parse
from labd.scheduling.bits import members, union
from labd.scheduling.lab import SITE_LABEL, Bench
from labd.scheduling.wish import Wish

Labels = tuple[tuple[str, str], ...]

_SELECTORS = 4096
"""So many selectors are remembered."""
_FEW = 64
"""Among so many the best is looked for; of more, the order is remembered."""


def rendezvous(affinity: str, bench: str) -> int:
    """The weight of a bench for a key: the highest wins (highest random weight hashing).

    A bench that comes or goes changes only the preference of the keys that it wins.
    """
    return _weight(_digest(affinity), _digest(bench))


@lru_cache(maxsize=16384)
def _digest(word: str) -> int:
    return int.from_bytes(blake2b(word.encode(), digest_size=8).digest(), "little")


def _weight(key: int, bench: int) -> int:
    return (key ^ bench) * 0xBF58476D1CE4E5B9 & 0xFFFFFFFFFFFFFFFF


class Index:
    """What selectors match among benches with these labels, as sets (see ``bits``)."""

    def __init__(self, labels: Sequence[Labels]) -> None:
        """``labels`` are those of each bench, in the order of the names."""
        self._size = len(labels)
        found: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
        for number, own in enumerate(labels):
            for key, value in own:
                found[key][value].append(number)
        self._values = {
            key: {value: self._set(numbers) for value, numbers in values.items()} for key, values in found.items()
        }
        self._matching: dict[str, int] = {}
        rarity = {
            (key, value): 1.0 / len(numbers)
            for key, values in found.items()
            if key != NAME_LABEL
            for value, numbers in values.items()
        }
        self.richness = [sum(rarity.get(label, 0.0) for label in own) for own in labels]
        """How special each bench is: for each of its labels the rarer it is the more, 1 where no other has it."""

    def matching(self, selector: str) -> int:
        """The set of the benches that match. Raises SelectorError."""
        mask = self._matching.get(selector)
        if mask is None:
            if len(self._matching) >= _SELECTORS:
                self._matching.clear()
            mask = self._matching[selector] = self._match(parse(selector))
        return mask

    def sites(self) -> list[int]:
        """The benches of each site."""
        values = self._values.get(SITE_LABEL, {})
        rest = (1 << self._size) - 1
        for mask in values.values():
            rest &= ~mask
        return [values[value] for value in sorted(values)] + ([rest] if rest else [])

    def _match(self, selector: Selector) -> int:
        mask = (1 << self._size) - 1
        for term in selector.terms:
            values = self._values.get(term.key, {})
            if term.operator in (Operator.IN, Operator.NOT_IN):
                chosen = [values[value] for value in term.values if value in values]
            else:
                chosen = list(values.values())
            named = 0
            for having in chosen:
                named |= having
            mask &= named if term.operator in (Operator.IN, Operator.EXISTS) else ~named
        return mask

    def _set(self, numbers: Sequence[int]) -> int:
        return union(numbers, self._size) if len(numbers) > 1 else 1 << numbers[0]


_index = lru_cache(maxsize=4)(Index)
"""Labels seldom change from one decision to the next."""


class Fleet:
    """The benches by number, in the order of their names."""

    def __init__(self, benches: Iterable[Bench]) -> None:
        self.benches = sorted(benches, key=attrgetter("name"))
        self.names = [bench.name for bench in self.benches]
        self.numbers = {name: number for number, name in enumerate(self.names)}
        self.everything = (1 << len(self.benches)) - 1
        self.usable = self.where(bench.usable for bench in self.benches)
        self.digests = [_digest(name) for name in self.names]
        """What ``rendezvous`` makes of the names."""
        index = _index(tuple(tuple(sorted(bench.labels.items())) for bench in self.benches))
        self.matching = index.matching
        """The set of the benches that match a selector, usable or not. Raises SelectorError."""
        self.richness = index.richness
        self.sites = index.sites()

    def where(self, flags: Iterable[bool]) -> int:
        """The set of the benches whose flag, in their order, is set."""
        return union((number for number, flag in enumerate(flags) if flag), len(self.benches))

    def named(self, names: Iterable[str]) -> int:
        """The set of those of the names that are benches."""
        mask = 0
        for name in names:
            if name in self.numbers:
                mask |= 1 << self.numbers[name]
        return mask


class Preference:
    """Which bench suits a wish best: the one needed least by those who wait."""

    def __init__(self, fleet: Fleet, wishes: Iterable[Wish], free: int) -> None:
        """Of the benches that are free now; of the others only their labels tell."""
        self._need = _needs(fleet, wishes, free)
        self._digests = fleet.digests
        self._rank = list(zip(self._need, fleet.richness, range(len(self._need)), strict=True))
        self._ranked: dict[tuple[int, str | None], list[int]] = {}

    def need(self, number: int) -> float:
        """How many waiting wishes would miss the bench, each shared out among the benches that match it."""
        return self._need[number]

    def best(self, candidates: int, liked: int, affinity: str | None) -> int:
        """The most suitable of the candidates, some of those in ``liked``: the benches that the selector matches."""
        if candidates & (candidates - 1) == 0:
            return candidates.bit_length() - 1
        if candidates.bit_count() <= _FEW:
            return self._best_of(members(candidates), affinity)
        ranked = self._ranked.get((liked, affinity))
        if ranked is None:
            ranked = self._ranked[liked, affinity] = self._in_order(members(liked), affinity)
        return next(number for number in ranked if candidates >> number & 1)

    def _best_of(self, numbers: list[int], affinity: str | None) -> int:
        if affinity is None:
            return min(numbers, key=self._rank.__getitem__)
        need, key, digests = self._need, _digest(affinity), self._digests
        least = min(map(need.__getitem__, numbers))
        return max((_weight(key, digests[number]), number) for number in numbers if need[number] == least)[1]

    def _in_order(self, numbers: list[int], affinity: str | None) -> list[int]:
        if affinity is None:
            return sorted(numbers, key=self._rank.__getitem__)
        need, key, digests = self._need, _digest(affinity), self._digests
        return sorted(numbers, key=lambda number: (need[number], -_weight(key, digests[number])))


class Indifference(Preference):
    """Any bench is as good as another: for questions whether there is one at all."""

    def __init__(self) -> None:
        """Knows nothing of benches."""

    def need(self, number: int) -> float:
        """Nobody."""
        return 0.0

    def best(self, candidates: int, liked: int, affinity: str | None) -> int:
        """The first."""
        return (candidates & -candidates).bit_length() - 1


def _needs(fleet: Fleet, wishes: Iterable[Wish], free: int) -> list[float]:
    asked: dict[str, int] = defaultdict(int)
    for wish in wishes:
        for part in wish.parts:
            asked[part.selector] += part.count
    weights: dict[int, float] = defaultdict(float)
    for selector, count in asked.items():
        weights[fleet.matching(selector) & fleet.usable] += count
    needs = [0.0] * len(fleet.benches)
    for mask, weight in weights.items():
        if mask and mask != fleet.usable:  # what any bench can do makes no difference between them
            share = weight / mask.bit_count()
            for number in members(mask & free):
                needs[number] += share
    return needs
