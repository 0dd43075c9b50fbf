"""Some bits of a payload, numbered as in a DBC."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bits:
    """Where a value lies. ``start`` is the DBC's start bit: of the lowest bit (Intel) or the highest (Motorola)."""

    start: int
    length: int
    big_endian: bool = False

    def places(self) -> list[tuple[int, int]]:
        """Byte and bit of each bit, the least significant first."""
        position, found = self.start, []
        for _ in range(self.length):
            found.append((position // 8, position % 8))
            # Motorola order runs from the top bit of one byte to the top bit of the next.
            step = 1 if not self.big_endian else (-1 if position % 8 else 15)
            position += step
        return found[::-1] if self.big_endian else found

    def put(self, data: bytearray, value: int) -> None:
        """Writes the low bits of ``value``. Raises ValueError when the payload is too short."""
        for index, (byte, bit) in enumerate(self.places()):
            if byte >= len(data):
                raise ValueError(f"bits {self.start} .. are outside the message's {len(data)} bytes")
            data[byte] = data[byte] & ~(1 << bit) | (value >> index & 1) << bit

    def bytes(self) -> frozenset[int]:
        """The bytes that it has bits in."""
        return frozenset(byte for byte, _ in self.places())
