"""The memory of a simulated ECU: byte-exact, and flash that must be erased before it is written."""

from collections.abc import Iterator
from dataclasses import dataclass

from ecu_adapters.memory_map import MemoryMap, Region


class MemoryFault(Exception):
    """The memory cannot do what is asked: nothing there, read-only, or flash that is not erased."""


@dataclass(frozen=True, slots=True)
class Range:
    """Some addresses in a row."""

    address: int
    size: int

    @property
    def end(self) -> int:
        """The first address after it."""
        return self.address + self.size


class Memory:
    """All regions. A range that is read or written lies within one of them."""

    def __init__(self, layout: MemoryMap) -> None:
        self.layout = layout
        self._content: dict[str, bytearray] = {}
        self.changed: set[str] = set()
        """Regions that were written or erased since this was last emptied."""

    def region(self, where: Range) -> Region | None:
        """The region that holds the whole range; None when there is none, or the range is empty."""
        name = self.region_name(where)
        return self.layout.regions[name] if name is not None else None

    def region_name(self, where: Range) -> str | None:
        """Its name."""
        if where.size < 1:
            return None
        for name, region in self.layout.regions.items():
            if region.address <= where.address and where.end <= region.end:
                return name
        return None

    def read(self, where: Range) -> bytes:
        """Raises MemoryFault when the range does not lie within one region."""
        name, start = self._place(where)
        return bytes(self._bytes(name)[start : start + where.size])

    def is_erased(self, where: Range) -> bool:
        """Whether flash can be written there; other memory always can. Raises MemoryFault as `read`."""
        name, start = self._place(where)
        region = self.layout.regions[name]
        if region.kind != "flash":
            return True
        return self._bytes(name).count(region.erased, start, start + where.size) == where.size

    def write(self, address: int, data: bytes) -> None:
        """Raises MemoryFault outside the regions, and for flash that is not erased; nothing is written then."""
        where = Range(address, len(data))
        if not self.is_erased(where):
            raise MemoryFault(f"flash at 0x{address:X} is not erased")
        self._put(where, data)

    def poke(self, where: Range, data: bytes) -> None:
        """As `write`, flash that is not erased too."""
        self._put(where, data)

    def erase(self, where: Range) -> None:
        """Raises MemoryFault as `read`."""
        region = self.layout.regions[self._place(where)[0]]
        self._put(where, bytes((region.erased,)) * where.size)

    def forget_ram(self) -> None:
        """What a loss of power does: RAM is as the description says, the rest stays."""
        for name, region in self.layout.regions.items():
            if region.kind == "ram":
                self._content.pop(name, None)

    def lasting(self) -> Iterator[tuple[str, bytes]]:
        """What needs no power and was used, by region: flash and EEPROM."""
        for name, content in self._content.items():
            if self.layout.regions[name].kind != "ram":
                yield name, bytes(content)

    def restore(self, name: str, content: bytes) -> bool:
        """Brings a region back as `lasting` gave it; False when the description has none of that size now."""
        region = self.layout.regions.get(name)
        if region is None or region.kind == "ram" or region.size != len(content):
            return False
        self._content[name] = bytearray(content)
        return True

    def _put(self, where: Range, data: bytes) -> None:
        name, start = self._place(where)
        self._bytes(name)[start : start + where.size] = data
        self.changed.add(name)

    def _place(self, where: Range) -> tuple[str, int]:
        name = self.region_name(where)
        if name is None:
            raise MemoryFault(f"0x{where.address:X} .. 0x{where.end:X} lies in no region of the memory")
        return name, where.address - self.layout.regions[name].address

    def _bytes(self, name: str) -> bytearray:
        """Made when first used: most ECUs are never asked for their megabytes."""
        content = self._content.get(name)
        if content is None:
            region = self.layout.regions[name]
            fill = region.erased if region.fill is None else region.fill
            content = bytearray(bytes((fill,)) * region.size)
            content[: len(region.content)] = region.content
            self._content[name] = content
        return content
