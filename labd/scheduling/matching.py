"""Which benches a wish may have, and which of them suits best.

The best fit is the bench that the others who wait need least; then, with an affinity, the one that wishes of this key
always prefer; then the one with the most common labels, so that a rich bench stays free for who will need it.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import lru_cache
from hashlib import blake2b

from labd.model.selector import NAME_LABEL, Operator, Selector, parse
from labd.scheduling.bits import members, union
from labd.scheduling.lab import SITE_LABEL, Bench
from labd.scheduling.wish import Wish

_GROUP = 24

_parse = lru_cache(maxsize=4096)(parse)


def rendezvous(affinity: str, bench: str) -> int:
    """The weight of a bench for a key: the highest wins (highest random weight hashing).

    A bench that comes or goes changes only the preference of the keys that it wins.
    """
    return _mix(_digest(affinity) ^ _digest(bench))


@lru_cache(maxsize=16384)
def _digest(word: str) -> int:
    return int.from_bytes(blake2b(word.encode(), digest_size=8).digest(), "little")


def _mix(number: int) -> int:
    number = ((number ^ number >> 30) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    number = ((number ^ number >> 27) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
    return number ^ number >> 31


class Fleet:
    """The benches by number, in the order of their names, and what selectors match, as sets (see ``bits``)."""

    def __init__(self, benches: Iterable[Bench]) -> None:
        self.benches = sorted(benches, key=lambda bench: bench.name)
        self.names = [bench.name for bench in self.benches]
        self.numbers = {name: number for number, name in enumerate(self.names)}
        self.everything = (1 << len(self.benches)) - 1
        self.usable = self.where(bench.usable for bench in self.benches)
        found: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
        for number, bench in enumerate(self.benches):
            for key, value in bench.labels.items():
                found[key][value].append(number)
        size = len(self.benches)
        self._values = {
            key: {value: union(numbers, size) for value, numbers in values.items()} for key, values in found.items()
        }
        self._matching: dict[str, int] = {}
        self._common = self._commonness()

    def where(self, flags: Iterable[bool]) -> int:
        """The set of the benches whose flag, in their order, is set."""
        return union((number for number, flag in enumerate(flags) if flag), len(self.benches))

    def named(self, names: Iterable[str]) -> int:
        """The set of those of the names that are benches."""
        return union((self.numbers[name] for name in names if name in self.numbers), len(self.benches))

    def matching(self, selector: str) -> int:
        """The set of the benches that match, usable or not. Raises SelectorError."""
        mask = self._matching.get(selector)
        if mask is None:
            mask = self._matching[selector] = self._match(_parse(selector))
        return mask

    def sites(self) -> list[int]:
        """The benches of each site."""
        values = self._values.get(SITE_LABEL, {})
        labelled = 0
        for mask in values.values():
            labelled |= mask
        rest = self.everything & ~labelled
        return [values[value] for value in sorted(values)] + ([rest] if rest else [])

    def commonness(self, number: int) -> float:
        """How ordinary a bench is: 0 without labels, down to -1 more for each label that no other has."""
        return self._common[number]

    def _match(self, selector: Selector) -> int:
        mask = self.everything
        for term in selector.terms:
            values = self._values.get(term.key, {})
            if term.operator in (Operator.IN, Operator.NOT_IN):
                chosen = [values[value] for value in term.values if value in values]
            else:
                chosen = list(values.values())
            named = 0
            for members_of_value in chosen:
                named |= members_of_value
            mask &= named if term.operator in (Operator.IN, Operator.EXISTS) else ~named
        return mask

    def _commonness(self) -> list[float]:
        shares = {
            (key, value): 1.0 / mask.bit_count()
            for key, values in self._values.items()
            if key != NAME_LABEL
            for value, mask in values.items()
        }
        return [
            -sum(shares[label] for label in bench.labels.items() if label[0] != NAME_LABEL) for bench in self.benches
        ]


class Preference:
    """Which benches are needed least by those who wait, and in which order a wish likes them."""

    def __init__(self, fleet: Fleet, wishes: Iterable[Wish]) -> None:
        self._fleet = fleet
        self._need = _needs(fleet, wishes)
        self._ranked: dict[tuple[int, str | None], list[tuple[int, Sequence[int]]]] = {}

    def need(self, number: int) -> float:
        """How many waiting wishes would miss the bench, each shared out among the benches that match it."""
        return self._need[number]

    def best(self, candidates: int, mask: int, affinity: str | None) -> int:
        """The most suitable of the candidates, some of those in ``mask``: the benches that the selector matches."""
        if candidates & (candidates - 1) == 0:
            return candidates.bit_length() - 1
        for group, numbers in self._ranking(mask, affinity):
            if group & candidates:
                return next(number for number in numbers if candidates >> number & 1)
        raise ValueError("the candidates are not in the mask")

    def _ranking(self, mask: int, affinity: str | None) -> list[tuple[int, Sequence[int]]]:
        """The members of the mask, the most suitable first, in groups that can be skipped as a whole."""
        ranked = self._ranked.get((mask, affinity))
        if ranked is None:
            need, common, names = self._need, self._fleet.commonness, self._fleet.names
            if affinity is None:
                order = sorted(members(mask), key=lambda number: (need[number], -common(number), number))
            else:
                order = sorted(
                    members(mask), key=lambda number: (need[number], -rendezvous(affinity, names[number]), number)
                )
            groups = [order[start : start + _GROUP] for start in range(0, len(order), _GROUP)]
            ranked = [(union(group, len(names)), group) for group in groups]
            self._ranked[mask, affinity] = ranked
        return ranked


def _needs(fleet: Fleet, wishes: Iterable[Wish]) -> list[float]:
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
            for number in members(mask):
                needs[number] += share
    return needs
