"""The formats in which traces are stored, seen alike: a header, and chunks that each can be read by itself."""

from collections.abc import Iterable
from typing import NamedTuple, Protocol

from bench_agent.protocol import candump
from bench_agent.protocol.frames import Frame
from bench_agent.server import blf, candump_lines
from ecu_adapters.frame_records import Records

MOST_RECORDS = blf.MOST_RECORDS
"""Frames in one chunk."""


class Chunk(NamedTuple):
    """An entry of an index."""

    first_ns: int
    last_ns: int
    offset: int
    size: int
    frames: int
    uncompressed: int


class Totals(NamedTuple):
    """Of several chunks."""

    frames: int = 0
    uncompressed: int = 0
    last_ns: int = 0

    def with_(self, chunk: Chunk) -> "Totals":
        """One chunk more."""
        return Totals(
            self.frames + chunk.frames, self.uncompressed + chunk.uncompressed, max(self.last_ns, chunk.last_ns)
        )


class Format(Protocol):
    """How frames are stored."""

    suffix: str

    def header(self, totals: Totals, size: int) -> bytes:
        """What stands before the chunks in a file of ``size`` bytes; always equally long."""
        ...

    def encode(self, records: Records) -> tuple[bytes, int]:
        """A chunk, and its size before compression."""
        ...

    def decode(self, chunk: bytes) -> Iterable[Frame]:
        """The frames of a chunk. Raises ValueError."""
        ...


class Blf:
    """Vector's Binary Logging File."""

    suffix = ".blf"

    def __init__(self, bus: str, start_ns: int) -> None:
        self._start_ns = start_ns

    def header(self, totals: Totals, size: int) -> bytes:
        """See Format."""
        return blf.header(
            self._start_ns,
            max(totals.last_ns, self._start_ns),
            file_size=size,
            uncompressed=totals.uncompressed,
            objects=totals.frames,
        )

    def encode(self, records: Records) -> tuple[bytes, int]:
        """See Format."""
        return blf.container(records, self._start_ns)

    def decode(self, chunk: bytes) -> Iterable[Frame]:
        """See Format."""
        return blf.read(chunk, self._start_ns)


class Candump:
    """candump's log."""

    suffix = ".log"

    def __init__(self, bus: str, start_ns: int) -> None:
        self._bus = bus

    def header(self, totals: Totals, size: int) -> bytes:
        """See Format."""
        return b""

    def encode(self, records: Records) -> tuple[bytes, int]:
        """See Format."""
        lines = candump_lines.encode(records, self._bus)
        return lines, len(lines)

    def decode(self, chunk: bytes) -> Iterable[Frame]:
        """See Format."""
        return candump.decode(chunk)


FORMATS: dict[str, type[Blf] | type[Candump]] = {"blf": Blf, "candump": Candump}
"""By the name that the configuration uses."""
