"""Sets of benches as integers: bit n stands for bench n. A thousand benches are met, joined or counted at once."""

from collections.abc import Iterable

_OFFSETS = tuple(tuple(bit for bit in range(8) if byte >> bit & 1) for byte in range(256))


def members(mask: int) -> list[int]:
    """The numbers in the set, ascending."""
    packed = mask.to_bytes((mask.bit_length() + 7) // 8, "little")
    return [8 * index + offset for index, byte in enumerate(packed) if byte for offset in _OFFSETS[byte]]


def union(numbers: Iterable[int], size: int) -> int:
    """The set of these numbers, all below ``size``."""
    packed = bytearray(size // 8 + 1)
    for number in numbers:
        packed[number >> 3] |= 1 << (number & 7)
    return int.from_bytes(packed, "little")
