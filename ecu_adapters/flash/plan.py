"""What goes where: the parts of an image, each within one region of the ECU's memory, and their blocks. No I/O."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ecu_adapters.flash.image import Segment
from ecu_adapters.memory_map import MemoryMap, Region


class PlanError(ValueError):
    """The image does not suit the ECU. Nothing was sent."""


@dataclass(frozen=True, slots=True)
class Part:
    """What one RequestDownload announces."""

    region: str
    address: int
    data: bytes

    @property
    def end(self) -> int:
        """The first address after it."""
        return self.address + len(self.data)

    def rest(self, address: int) -> "Part":
        """What is left of it from ``address`` on."""
        return Part(self.region, address, self.data[address - self.address :])


@dataclass(frozen=True, slots=True)
class Block:
    """What one TransferData request carries."""

    number: int
    """From 1; the counter on the wire is its lowest byte."""
    address: int
    data: bytes

    @property
    def counter(self) -> int:
        """The blockSequenceCounter: 01 .. FF, then 00 (ISO 14229-1, 14.5.2)."""
        return self.number & 0xFF


@dataclass(frozen=True, slots=True)
class Plan:
    """All parts, by address."""

    parts: tuple[Part, ...]

    @property
    def total(self) -> int:
        """Bytes in all."""
        return sum(len(part.data) for part in self.parts)

    def content(self, name: str, region: Region) -> bytes:
        """A whole region as it is when it was erased and then written."""
        content = bytearray([region.erased]) * region.size
        for part in self.parts:
            if part.region == name:
                content[part.address - region.address : part.end - region.address] = part.data
        return bytes(content)

    def after(self, address: int) -> tuple[Part, ...]:
        """What is left when everything below ``address`` was written. Raises PlanError when nothing is."""
        left = tuple(part.rest(max(address, part.address)) for part in self.parts if part.end > address)
        if not left:
            raise PlanError(f"nothing of the image is left from 0x{address:X} on")
        return left


def make(segments: Sequence[Segment], memory: MemoryMap, ecu: str) -> Plan:
    """The plan for an image. Raises PlanError when it does not lie within memory that can be written."""
    writable = {name: region for name, region in memory.regions.items() if region.write is not False}
    if not writable:
        raise PlanError(f"the description of {ecu} names no memory that can be written (memory.regions)")
    parts: list[Part] = []
    for segment in sorted(segments, key=lambda one: one.address):
        at = segment.address
        while at < segment.end:
            name = next((name for name, region in writable.items() if region.address <= at < region.end), None)
            if name is None:
                place = f"0x{at:X} .. 0x{segment.end - 1:X}"
                raise PlanError(f"{place} of the image is outside the memory of {ecu}: {_places(writable)}")
            end = min(segment.end, writable[name].end)
            data = segment.data[at - segment.address : end - segment.address]
            parts.append(Part(name, at, data))
            at = end
    for part in parts:
        try:
            memory.encode(part.address, len(part.data))
        except ValueError as error:
            raise PlanError(str(error)) from error
    return Plan(tuple(parts))


def blocks(part: Part, payload: int) -> Iterator[Block]:
    """The blocks of a part, ``payload`` bytes each, the last one maybe shorter."""
    for number, at in enumerate(range(0, len(part.data), payload), start=1):
        yield Block(number, part.address + at, part.data[at : at + payload])


def _places(regions: dict[str, Region]) -> str:
    return ", ".join(f"{name} 0x{region.address:X} .. 0x{region.end - 1:X}" for name, region in regions.items())
