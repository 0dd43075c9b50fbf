"""Sets of benches as integers: bit n stands for bench n. A thousand benches are met, joined or counted at once."""

from collections.abc import Iterable

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


def union(numbers: Iterable[int], size: int) -> int:
    """The set of these numbers, all below ``size``."""
    packed = bytearray(size // 8 + 1)
    for number in numbers:
        packed[number >> 3] |= 1 << (number & 7)
    return int.from_bytes(packed, "little")
