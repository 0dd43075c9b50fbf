"""The data identifiers of a simulated ECU: stored, under control of a tester, or put together at run time."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ecu_adapters.description import EcuDescription
from ecu_adapters.dids import Access, Did
from ecu_adapters.simulator.memory import Memory, Range

DYNAMIC = range(0xF200, 0xF400)
"""Data identifiers that a tester may define (ISO 14229-1, annex C.1)."""


@dataclass(frozen=True, slots=True)
class Part:
    """Some bytes of another data identifier, from ``position`` (the first is 1)."""

    did: int
    position: int
    size: int


Source = Part | Range
"""What a dynamic data identifier is made of: parts of others, or memory."""


class DataIdentifiers:
    """Reading and writing by number."""

    def __init__(self, ecu: EcuDescription, memory: Memory) -> None:
        self.models: dict[int, Did] = {did.did: did for did in ecu.dids.values()}
        self.on_change: Callable[[int], None] | None = None
        """Told the number when the value that would be read has changed."""
        self.dynamic: dict[int, list[Source]] = {}
        self._names = {name: did.did for name, did in ecu.dids.items()}
        self._memory = memory
        self._stored = {number: did.encode(did.value) for number, did in self.models.items()}
        self._controlled: dict[int, bytes] = {}

    def __contains__(self, number: int) -> bool:
        return number in self.models or number in self.dynamic

    def accesses(self, number: int) -> list[Access] | None:
        """What reading it needs; None when it cannot be read at all."""
        did = self.models.get(number)
        if did is not None:
            return None if did.read is False else [did.read]
        if number not in self.dynamic:
            return None
        found: list[Access] = []
        for source in self.dynamic[number]:
            needed = self.source_accesses(source)
            if needed is None:
                return None
            found += needed
        return found

    def source_accesses(self, source: Source) -> list[Access] | None:
        """The same for a part of a dynamic one; None also when there is no such part."""
        if isinstance(source, Range):
            region = self._memory.region(source)
            return None if region is None or region.read is False else [region.read]
        did = self.models.get(source.did)
        if did is None or source.position < 1 or source.size < 1 or source.position - 1 + source.size > did.length:
            return None
        return self.accesses(source.did)

    def read(self, number: int) -> bytes:
        """The present value. Raises KeyError for an unknown number."""
        if number in self.dynamic:
            return b"".join(map(self._part, self.dynamic[number]))
        return self._controlled.get(number, self._stored[number])

    def length(self, number: int) -> int:
        """Bytes of the value."""
        if number in self.dynamic:
            return sum(source.size for source in self.dynamic[number])
        return self.models[number].length

    def write(self, number: int, data: bytes) -> None:
        """Stores a value; a controlled one goes on to be read as controlled."""
        before = self.read(number)
        self._stored[number] = data
        self._tell(number, before)

    def control(self, number: int, data: bytes) -> None:
        """Takes the value out of the ECU's hands."""
        before = self.read(number)
        self._controlled[number] = data
        self._tell(number, before)

    def release(self, number: int) -> None:
        """Gives it back to the ECU."""
        before = self.read(number)
        self._controlled.pop(number, None)
        self._tell(number, before)

    def release_all(self) -> None:
        """Every one of them."""
        for number in list(self._controlled):
            self.release(number)

    @property
    def controlled(self) -> dict[int, bytes]:
        """Values under a tester's control."""
        return dict(self._controlled)

    def initial(self, number: int) -> bytes:
        """The value that the description gives."""
        did = self.models[number]
        return did.encode(did.value)

    def capture(self, names: Iterable[str]) -> dict[int, bytes]:
        """Present values by number, for a snapshot."""
        return {self._names[name]: self.read(self._names[name]) for name in names}

    def dump(self) -> dict[str, str]:
        """Stored values that differ from the description's, in what JSON knows."""
        return {str(number): data.hex() for number, data in self._stored.items() if data != self.initial(number)}

    def restore(self, kept: dict[str, str]) -> None:
        """What `dump` gave, as far as the description still has identifiers of that length."""
        for text, value in kept.items():
            number, data = int(text), bytes.fromhex(value)
            if number in self.models and self.models[number].length == len(data):
                self._stored[number] = data

    def _part(self, source: Source) -> bytes:
        if isinstance(source, Range):
            return self._memory.read(source)
        return self.read(source.did)[source.position - 1 : source.position - 1 + source.size]

    def _tell(self, number: int, before: bytes) -> None:
        if self.on_change is not None and self.read(number) != before:
            self.on_change(number)
