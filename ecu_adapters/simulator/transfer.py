"""A download or upload in work: RequestDownload or RequestUpload began it, TransferData moves it on."""

from dataclasses import dataclass, field
from typing import Protocol

from ecu_adapters.simulator.memory import Memory, Range


class Transfer(Protocol):
    """What TransferData and RequestTransferExit act on."""

    max_block: int
    """Bytes of the longest TransferData request (or answer, for uploads), its two header bytes included."""
    incoming: bool
    """Whether the tester sends the data."""
    counter: int
    """blockSequenceCounter of the block that was accepted last; 0 before the first."""

    @property
    def begun(self) -> bool:
        """Whether a block was accepted."""

    @property
    def left(self) -> int:
        """Bytes to come."""

    @property
    def moved(self) -> bytes:
        """What was transferred so far."""

    def accept(self, data: bytes) -> bytes:
        """Takes the next block, or gives the next one back. Raises MemoryFault when it cannot be written."""

    def repeated(self) -> bytes:
        """The answer to the last block once more."""


@dataclass(slots=True)
class MemoryTransfer:
    """To or from the memory."""

    memory: Memory
    where: Range
    max_block: int
    incoming: bool
    counter: int = 0
    begun: bool = False
    _done: int = field(default=0)
    _last: bytes = field(default=b"")

    @property
    def left(self) -> int:
        """Bytes to come."""
        return self.where.size - self._done

    @property
    def moved(self) -> bytes:
        """What was transferred so far, read back."""
        return self.memory.read(Range(self.where.address, self._done)) if self._done else b""

    def accept(self, data: bytes) -> bytes:
        """Writes ``data``, or reads the next block. Raises MemoryFault."""
        place = self.where.address + self._done
        if self.incoming:
            self.memory.write(place, data)
            self._done += len(data)
        else:
            self._last = self.memory.read(Range(place, min(self.left, self.max_block - 2)))
            self._done += len(self._last)
        self.begun = True
        self.counter = (self.counter + 1) & 0xFF
        return self._last

    def repeated(self) -> bytes:
        """The answer to the last block once more."""
        return self._last
