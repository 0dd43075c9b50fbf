"""Traces on disk: segments in one or two formats, each with an index by time.

    traces/LEASE/BUS-0001.blf        frames
    traces/LEASE/BUS-0001.blf.idx    where in it which time stands
    traces/LEASE/BUS.json            when the trace began, and the counts

A segment grows by chunks. A chunk can be read without those before it; its index entry is written after it, so that
what the index names is complete even when the agent was killed. All segments of a trace count from the same start.
"""

import json
import os
import re
import shutil
import struct
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import structlog

from bench_agent.server import convert
from bench_agent.server.trace_formats import FORMATS, Chunk, Format, Totals
from ecu_adapters.frame_records import Records

_ENTRY = struct.Struct("<qqQIII")

_log = structlog.get_logger()


class Segment:
    """A file of a trace that is being written."""

    def __init__(self, path: Path, kind: Format) -> None:
        """Makes the file. Raises OSError."""
        self.path = path
        self._kind = kind
        self.totals = Totals()
        self._first_ns = 0
        self._chunks = 0
        self._file = path.open("xb", buffering=0)
        try:
            self._index = index_path(path).open("xb", buffering=0)
            self.size = len(kind.header(self.totals, 0))
            _write(self._file.fileno(), kind.header(self.totals, self.size), 0)
        except OSError:
            self._file.close()
            delete(path)
            raise

    def write(self, records: Records) -> None:
        """Adds a chunk: all of it, or none. Raises OSError."""
        data, uncompressed = self._kind.encode(records)
        times = records["stamp"]
        chunk = Chunk(int(times.min()), int(times.max()), self.size, len(data), len(records), uncompressed)
        entry = self._chunks * _ENTRY.size
        totals = self.totals.with_(chunk)
        try:
            _write(self._file.fileno(), data, chunk.offset)
            _write(self._file.fileno(), self._kind.header(totals, self.size + len(data)), 0)
            _write(self._index.fileno(), _ENTRY.pack(*chunk), entry)
        except OSError:
            # Half a chunk would keep every tool from reading the rest. Cutting off needs no space.
            os.ftruncate(self._file.fileno(), self.size)
            os.ftruncate(self._index.fileno(), entry)
            raise
        self._first_ns = chunk.first_ns if not self._chunks else min(self._first_ns, chunk.first_ns)
        self._chunks += 1
        self.totals = totals
        self.size += len(data)

    @property
    def span_ns(self) -> int:
        """From its first frame to its last."""
        return self.totals.last_ns - self._first_ns if self._chunks else 0

    def close(self) -> None:
        """Everything is written already. A segment without frames is deleted."""
        self._file.close()
        self._index.close()
        if not self._chunks:
            delete(self.path)


def index_path(segment: Path) -> Path:
    """The index of a segment."""
    return segment.with_name(segment.name + ".idx")


def segments(place: Path, bus: str) -> list[tuple[int, Path]]:
    """The files of a bus' trace with their numbers, oldest first."""
    pattern = re.compile(re.escape(bus) + r"-(\d{4,})\.(blf|log)")
    found = []
    for path in place.iterdir() if place.is_dir() else ():
        match = pattern.fullmatch(path.name)
        if match:
            found.append((int(match[1]), path))
    return sorted(found)


def chunks(segment: Path) -> list[Chunk]:
    """What the index names; an entry that a crash has cut off is none. A segment that is gone has none."""
    try:
        index, size = index_path(segment).read_bytes(), segment.stat().st_size
    except FileNotFoundError:
        return []
    whole = len(index) // _ENTRY.size * _ENTRY.size
    listed = (Chunk(*entry) for entry in _ENTRY.iter_unpack(index[:whole]))
    return [chunk for chunk in listed if chunk.offset + chunk.size <= size]


def stored_formats(place: Path, bus: str) -> list[str]:
    """The formats in which a bus' trace is there."""
    suffixes = {path.suffix for _, path in segments(place, bus)}
    return [name for name, kind in FORMATS.items() if kind.suffix in suffixes]


def begin_ns(place: Path, bus: str) -> int | None:
    """The start that a trace's timestamps count from; None when there is no such trace. Raises OSError."""
    try:
        return int(json.loads(meta_path(place, bus).read_text())["begin_ns"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        _log.warning("the start of a trace cannot be read", trace=str(meta_path(place, bus)))
        return None


def meta_path(place: Path, bus: str) -> Path:
    """What stands beside the segments of a bus."""
    return place / f"{bus}.json"


def delete(segment: Path) -> int:
    """Removes a segment; returns how many bytes that frees. Raises OSError."""
    freed = 0
    for path in (segment, index_path(segment)):
        try:
            freed += path.stat().st_size
            path.unlink()
        except FileNotFoundError:
            continue
    return freed


class Piece(NamedTuple):
    """A chunk with its bytes."""

    chunk: Chunk
    data: bytes


def pieces(place: Path, bus: str, kind: Format, from_ns: int, to_ns: int) -> Iterator[Piece]:
    """The chunks that have frames from ``from_ns`` to ``to_ns``, in the order of recording. Raises OSError."""
    for _, path in segments(place, bus):
        if path.suffix != kind.suffix:
            continue
        wanted = [chunk for chunk in chunks(path) if chunk.last_ns >= from_ns and chunk.first_ns <= to_ns]
        if not wanted:
            continue
        try:
            file = path.open("rb")
        except FileNotFoundError:
            continue  # a bounded trace has let go of its oldest part meanwhile
        with file:
            for chunk in wanted:
                file.seek(chunk.offset)
                yield Piece(chunk, file.read(chunk.size))


def select(piece: Piece, kind: Format, from_ns: int, to_ns: int) -> Records:
    """The packed records of a chunk between two times. Raises ValueError when it is damaged."""
    return convert.packed(frame for frame in kind.decode(piece.data) if from_ns <= frame.timestamp_ns <= to_ns)


def folder(traces: Path, lease: str) -> Path:
    """Where a lease's traces are. A lease's name is labd's choice, not ours: it cannot leave ``traces``."""
    safe = re.sub(r"[^A-Za-z0-9_-]", "_", lease)[:100] or "_"
    return traces / safe


def prune(traces: Path, max_bytes: int, keep: Iterable[Path], *, max_age_s: float | None = None) -> None:
    """Deletes the traces of leases that ended too long ago, and of the oldest until the rest fits in ``max_bytes``.

    Raises OSError.
    """
    if not traces.is_dir():
        return
    kept, eldest = set(keep), time.time() - max_age_s if max_age_s is not None else None
    folders = sorted((path for path in traces.iterdir() if path.is_dir()), key=touched)
    sizes = {path: sum(file.stat().st_size for file in path.iterdir() if file.is_file()) for path in folders}
    total = sum(sizes.values())
    for path in folders:
        if path in kept:
            continue
        if total > max_bytes or (eldest is not None and touched(path) < eldest):
            shutil.rmtree(path)
            total -= sizes[path]
            _log.info("oldest traces deleted", folder=str(path), bytes=sizes[path])


def touched(place: Path) -> float:
    """When something was last written there; the folder's own time is that of its last new file."""
    with os.scandir(place) as files:
        written = [file.stat().st_mtime for file in files if file.name.endswith(".json")]
    return max(written, default=place.stat().st_mtime)


def _write(file: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        done = os.pwrite(file, view, offset)
        view, offset = view[done:], offset + done
