"""Which benches a wish may have, and which of them suits best.

The best fit is the bench that the others who wait need least; then, with an affinity, the one that wishes of this key
always prefer; then the one with the most common labels, so that a rich bench stays free for who will need it.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b
from operator import attrgetter

from labd.model.selector import NAME_LABEL, Operator, Selector, parse
from labd.scheduling.bits import least, members, number_at, planes_of, sums, union
from labd.scheduling.lab import SITE_LABEL, Bench

_SELECTORS = 4096
"""So many selectors are remembered."""
_FEW = 64
"""Among so many the one that a key prefers is looked for; of more, the order is remembered."""
NEED = 1 << 12
"""What a waiting wish needs a bench, shared out among those that match it: counted in whole numbers."""


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
    """What selectors match among benches with these names and labels, as sets (see ``bits``)."""

    def __init__(self, names: Sequence[str], labels: Sequence[Mapping[str, str]]) -> None:
        """``labels`` are those of each bench, in the order of the names."""
        self.names = names
        self.labels = labels
        self.numbers = {name: number for number, name in enumerate(names)}
        self.digests = [_digest(name) for name in names]
        """What ``rendezvous`` makes of the names."""
        self._size = len(names)
        found: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
        for number, own in enumerate(labels):
            for key, value in own.items():
                found[key][value].append(number)
        self._values = {
            key: {value: self._set(numbers) for value, numbers in values.items()} for key, values in found.items()
        }
        self._matching: dict[str, int] = {}
        self.sites = self._sites()
        """The benches of each site."""
        rarity = {
            (key, value): 1.0 / len(numbers)
            for key, values in found.items()
            if key != NAME_LABEL
            for value, numbers in values.items()
        }
        richness = [sum(rarity.get(label, 0.0) for label in sorted(own.items())) for own in labels]
        """How special each bench is: for each of its labels the rarer it is the more, 1 where no other has it."""
        ranks = {value: rank for rank, value in enumerate(sorted(set(richness)))}
        self.richness = planes_of([ranks[value] for value in richness])
        """The planes (see ``bits``) of the rank of each bench by how special it is."""

    def matching(self, selector: str) -> int:
        """The set of the benches that match. Raises SelectorError."""
        mask = self._matching.get(selector)
        if mask is None:
            if len(self._matching) >= _SELECTORS:
                self._matching.clear()
            mask = self._matching[selector] = self._match(parse(selector))
        return mask

    def _sites(self) -> list[int]:
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


_latest = [Index((), ())]


def _index(names: Sequence[str], labels: Sequence[Mapping[str, str]]) -> Index:
    """The one of the decision before, as long as nobody changes a label: then all it has matched is known."""
    index = _latest[0]
    if index.names != names or index.labels != labels:
        index = _latest[0] = Index(names, labels)
    return index


class Fleet:
    """The benches by number, in the order of their names."""

    def __init__(self, benches: Iterable[Bench]) -> None:
        self.benches = sorted(benches, key=attrgetter("name"))
        self.everything = (1 << len(self.benches)) - 1
        self.usable = self.where(bench.usable for bench in self.benches)
        self.index = _index([bench.name for bench in self.benches], [bench.labels for bench in self.benches])
        self.names = self.index.names
        self.numbers = self.index.numbers
        self.matching = self.index.matching
        """The set of the benches that match a selector, usable or not. Raises SelectorError."""
        self.sites = self.index.sites

    def where(self, flags: Iterable[bool]) -> int:
        """The set of the benches whose flag, in their order, is set."""
        return union((number for number, flag in enumerate(flags) if flag), len(self.benches))

    def named(self, names: Iterable[str]) -> int:
        """The set of those of the names that are benches."""
        numbers = self.numbers
        if isinstance(names, tuple) and len(names) == 1:
            return 1 << numbers[names[0]] if names[0] in numbers else 0
        return union((numbers[name] for name in names if name in numbers), len(numbers))


class Preference:
    """Which bench suits a wish best: the one needed least by those who wait."""

    def __init__(self, fleet: Fleet, demand: Mapping[str, int], free: int) -> None:
        """Of the benches that are free now; of the others only their labels tell.

        ``demand`` is how many benches those who wait ask for, by selector.
        """
        self._index = fleet.index
        self._need = _needs(fleet, demand, free)
        self._by_key: dict[str, list[int]] = {}

    def need(self, number: int) -> int:
        """How many waiting wishes would miss the bench, times ``NEED``."""
        return number_at(number, self._need)

    def best(self, candidates: int, affinity: str | None) -> int:
        """The most suitable of the candidates."""
        if candidates & (candidates - 1):
            candidates = least(candidates, self._need)
        if candidates & (candidates - 1) and affinity is not None:
            return self._of_key(candidates, affinity)
        if candidates & (candidates - 1):
            candidates = least(candidates, self._index.richness)
        return (candidates & -candidates).bit_length() - 1

    def _of_key(self, candidates: int, affinity: str) -> int:
        key, digests = _digest(affinity), self._index.digests
        if candidates.bit_count() <= _FEW:
            return max((_weight(key, digests[number]), number) for number in members(candidates))[1]
        order = self._by_key.get(affinity)
        if order is None:
            order = self._by_key[affinity] = sorted(
                range(len(digests)), key=lambda number: (_weight(key, digests[number]), number), reverse=True
            )
        return next(number for number in order if candidates >> number & 1)


class Indifference(Preference):
    """Any bench is as good as another: for questions whether there is one at all."""

    def __init__(self) -> None:
        """Knows nothing of benches."""

    def need(self, number: int) -> int:
        """Nobody."""
        return 0

    def best(self, candidates: int, affinity: str | None) -> int:
        """The first."""
        return (candidates & -candidates).bit_length() - 1


def _needs(fleet: Fleet, demand: Mapping[str, int], free: int) -> list[int]:
    """The planes of what each bench is needed."""
    if free & (free - 1) == 0:  # there is nothing to choose
        return []
    shares: dict[int, int] = defaultdict(int)
    for selector, count in demand.items():
        matching = fleet.matching(selector) & fleet.usable
        if matching & free and matching != fleet.usable:  # what any bench can do makes no difference between them
            shares[matching & free] += count * NEED // matching.bit_count() or 1
    return sums(shares)
