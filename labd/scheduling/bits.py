"""Sets of benches as integers: bit n stands for bench n. A thousand benches are met, joined or counted at once.

A number for each bench is a list of such sets, its *planes*: plane b holds the benches whose number has bit b.
"""

from collections.abc import Iterable, Mapping, Sequence

_OFFSETS = tuple(tuple(bit for bit in range(8) if byte >> bit & 1) for byte in range(256))

_SPARSE = 16
"""Up to so many, taking one after the other is faster than looking at every byte."""


def members(mask: int) -> list[int]:
    """The numbers in the set, ascending."""
    if mask.bit_count() <= _SPARSE:
        numbers = []
        while mask:
            lowest = mask & -mask
            numbers.append(lowest.bit_length() - 1)
            mask ^= lowest
        return numbers
    packed = mask.to_bytes((mask.bit_length() + 7) // 8, "little")
    return [8 * index + offset for index, byte in enumerate(packed) if byte for offset in _OFFSETS[byte]]


def sums(weights: Mapping[int, int]) -> list[int]:
    """The planes of the sum, for each bench, of the weights (of 1 or more) of the sets that it is in."""
    layers: list[list[int]] = []
    for mask, weight in weights.items():
        for bit in members(weight):
            while len(layers) <= bit:
                layers.append([])
            layers[bit].append(mask)
    planes = []
    for bit, layer in enumerate(layers):  # which grows while it is gone through
        carried: list[int] = []
        while len(layer) > 1:
            one, two, three = layer.pop(), layer.pop(), layer.pop() if layer else 0
            either = one ^ two
            layer.append(either ^ three)
            if carry := one & two | either & three:
                carried.append(carry)
        planes.append(layer[0] if layer else 0)
        if carried:
            if len(layers) == bit + 1:
                layers.append([])
            layers[bit + 1] += carried
    return planes


def planes_of(numbers: Sequence[int]) -> list[int]:
    """The planes of the numbers of bench 0, 1, and so on."""
    bits = max(numbers, default=0).bit_length()
    return [union((n for n, own in enumerate(numbers) if own >> bit & 1), len(numbers)) for bit in range(bits)]


def least(mask: int, planes: Sequence[int]) -> int:
    """Those of the set whose number is the lowest."""
    for plane in reversed(planes):
        mask = mask & ~plane or mask
    return mask


def number_at(bench: int, planes: Sequence[int]) -> int:
    """The number of one bench."""
    return sum((plane >> bench & 1) << bit for bit, plane in enumerate(planes))


def union(numbers: Iterable[int], size: int) -> int:
    """The set of these numbers, all below ``size``."""
    packed = bytearray(size // 8 + 1)
    for number in numbers:
        packed[number >> 3] |= 1 << (number & 7)
    return int.from_bytes(packed, "little")
