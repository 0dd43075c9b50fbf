"""Addresses and sizes in requests: addressAndLengthFormatIdentifier and what follows it (ISO 14229-1, annex H)."""

from dataclasses import dataclass

from ecu_adapters.memory_map import MemoryMap
from ecu_adapters.simulator.memory import Range


@dataclass(frozen=True, slots=True)
class Format:
    """How many bytes an address and a size take."""

    address_bytes: int
    size_bytes: int

    @property
    def length(self) -> int:
        """Bytes of both together."""
        return self.address_bytes + self.size_bytes

    def range_at(self, pdu: bytes, at: int) -> Range:
        """The range that starts at byte ``at`` of a request."""
        middle = at + self.address_bytes
        size = pdu[middle : middle + self.size_bytes]
        return Range(int.from_bytes(pdu[at:middle], "big"), int.from_bytes(size, "big"))


def format_of(identifier: int, layout: MemoryMap) -> Format | None:
    """What an addressAndLengthFormatIdentifier says; None when the ECU does not take it."""
    found = Format(identifier & 0xF, identifier >> 4)
    if layout.formats is not None:
        return found if identifier in layout.formats else None
    return found if 1 <= found.address_bytes <= 5 and 1 <= found.size_bytes <= 4 else None
