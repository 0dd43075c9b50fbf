"""Traces over gRPC: what the lease has recorded so far, and files made from it."""

import asyncio
import io
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import can

from bench_agent.protocol import frames, trace_pb2, trace_pb2_grpc
from bench_agent.server import convert, trace_store
from bench_agent.server.bench import Bench
from bench_agent.server.door import Context
from bench_agent.server.errors import invalid, not_found, unavailable
from bench_agent.server.leased import Leased
from bench_agent.server.recorder import Recorder
from bench_agent.server.trace_formats import FORMATS, Chunk, Format, Totals
from ecu_adapters.frame_records import Records

_SYNC_S = 5.0
"""How long a caller waits for a slow disk."""
_PART = 256 * 1024
"""Bytes in one message at least, unless it is the last."""
_AHEAD = 4
"""Parts read ahead of the caller."""
_FETCHED = (*FORMATS, "asc")


class TraceServicer(Leased, trace_pb2_grpc.TracesServicer):
    """Methods as in trace.proto."""

    async def List(self, request: trace_pb2.ListTracesRequest, context: Context) -> trace_pb2.ListTracesReply:
        """The traces of this lease."""
        bench = self.bench()
        recorders = bench.held().recorders
        await asyncio.gather(*(asyncio.to_thread(recorder.sync, _SYNC_S) for recorder in recorders.values()))
        described = [asyncio.to_thread(_describe, bench, name, recorders.get(name)) for name in bench.buses]
        return trace_pb2.ListTracesReply(traces=await asyncio.gather(*described))

    async def Fetch(  # type: ignore[override]  # grpc.aio also takes coroutines that write to the context
        self, request: trace_pb2.FetchTraceRequest, context: Context
    ) -> None:
        """One trace as a file. Raises CallError."""
        bench = self.bench()
        bench.bus(request.bus)
        if request.format not in _FETCHED:
            raise invalid(f"format is {request.format!r}; it must be one of {', '.join(_FETCHED)}")
        to_ns = request.to_ns or sys.maxsize
        if request.from_ns > to_ns:
            raise invalid(f"from_ns {request.from_ns} is after to_ns {request.to_ns}")
        tenancy = bench.held()
        recorder = tenancy.recorders.get(request.bus)
        if recorder is not None and not await asyncio.to_thread(recorder.sync, _SYNC_S):
            raise unavailable(f"the disk is too slow for the trace of bus {request.bus}")
        if tenancy.traces is None or not trace_store.stored_formats(tenancy.traces, request.bus):
            why = f": {tenancy.traces_fault}" if tenancy.traces_fault else " yet: no frame was on it"
            raise not_found(f"bus {request.bus} has no trace{why}")
        parts = _parts(tenancy.traces, request.bus, request.format, request.from_ns, to_ns)
        await _pump(parts, context)


def _describe(bench: Bench, bus: str, recorder: Recorder | None) -> trace_pb2.TraceDescription:
    tenancy = bench.held()
    described = trace_pb2.TraceDescription(bus=bus, fault=tenancy.traces_fault or "")
    if tenancy.traces is None:
        return described
    described.formats.extend(trace_store.stored_formats(tenancy.traces, bus))
    kind = FORMATS[described.formats[0]] if described.formats else None
    for _, path in trace_store.segments(tenancy.traces, bus):
        chunks = trace_store.chunks(path)
        described.bytes += sum(chunk.size for chunk in chunks)
        if not chunks or kind is None or path.suffix != kind.suffix:
            continue
        described.frames += sum(chunk.frames for chunk in chunks)
        first, last = min(chunk.first_ns for chunk in chunks), max(chunk.last_ns for chunk in chunks)
        described.first_ns = min(described.first_ns or first, first)
        described.last_ns = max(described.last_ns, last)
    if recorder is not None:
        counts = recorder.counts
        described.dropped, described.beyond_limit = counts.dropped, counts.beyond_limit
        described.overwritten, described.failed = counts.overwritten, counts.failed
        described.fault = recorder.fault or ""
    return described


async def _pump(parts: Iterator[trace_pb2.TracePart], context: Context) -> None:
    """Sends what a thread of its own reads; reading and decoding must not hold up the loop. Raises CallError."""
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[trace_pb2.TracePart | Exception | None] = asyncio.Queue()
    room, gone = threading.Semaphore(_AHEAD), threading.Event()

    def read() -> None:
        end: Exception | None = None
        try:
            for part in parts:
                room.acquire()
                if gone.is_set():
                    return
                loop.call_soon_threadsafe(queue.put_nowait, part)
        except (OSError, ValueError) as error:
            end = error
        if not loop.is_closed():
            loop.call_soon_threadsafe(queue.put_nowait, end)

    reader = loop.run_in_executor(None, read)
    try:
        while True:
            part = await queue.get()
            if part is None:
                return
            if isinstance(part, Exception):
                raise unavailable(f"the trace cannot be read: {part}")
            await context.write(part)
            room.release()
    finally:
        gone.set()
        room.release()
        await asyncio.wait([reader], timeout=_SYNC_S)


def _parts(place: Path, bus: str, wanted: str, from_ns: int, to_ns: int) -> Iterator[trace_pb2.TracePart]:
    """The file, piece by piece. Raises OSError, ValueError."""
    stored = trace_store.stored_formats(place, bus)
    begin_ns = trace_store.begin_ns(place, bus) or 0
    source = FORMATS[wanted if wanted in stored else stored[0]](bus, begin_ns)
    target: _Target = _Asc() if wanted == "asc" else _Same(FORMATS[wanted](bus, begin_ns), source.suffix)
    ready, offset, count = [target.head()], 0, 0
    for piece in trace_store.pieces(place, bus, source, from_ns, to_ns):
        chunk = piece.chunk
        whole = from_ns <= chunk.first_ns and chunk.last_ns <= to_ns
        copied = target.copy(source, piece) if whole else None
        if copied is not None:
            ready.append(copied)
            count += chunk.frames
        else:
            records = trace_store.select(piece, source, from_ns, to_ns)
            count += len(records)
            if len(records):
                ready.append(target.add(records))
        if sum(map(len, ready)) >= _PART:
            data, ready = b"".join(ready), []
            yield trace_pb2.TracePart(data=data, offset=offset, frames=count)
            offset += len(data)
    ready.append(target.tail())
    data = b"".join(ready)
    yield trace_pb2.TracePart(data=data, offset=offset, frames=count)
    head = target.head(offset + len(data))
    if head:
        yield trace_pb2.TracePart(data=head, offset=0, frames=count)


class _Target(Protocol):
    """The format of a fetched file."""

    def head(self, size: int = 0) -> bytes:
        """What the file begins with; with the file's ``size``, the same again with all that is known now."""
        ...

    def copy(self, source: Format, piece: trace_store.Piece) -> bytes | None:
        """The chunk as it is stored, if that will do."""
        ...

    def add(self, records: Records) -> bytes: ...

    def tail(self) -> bytes: ...


class _Same:
    """One of the formats that can be stored."""

    def __init__(self, kind: Format, stored_suffix: str) -> None:
        self._kind = kind
        self._stored = kind.suffix == stored_suffix
        self._totals = Totals()

    def head(self, size: int = 0) -> bytes:
        return self._kind.header(self._totals, size)

    def copy(self, source: Format, piece: trace_store.Piece) -> bytes | None:
        if not self._stored:
            return None
        self._totals = self._totals.with_(piece.chunk)
        return piece.data

    def add(self, records: Records) -> bytes:
        data, uncompressed = self._kind.encode(records)
        last_ns = int(records["stamp"].max())
        self._totals = self._totals.with_(Chunk(0, last_ns, 0, len(data), len(records), uncompressed))
        return data

    def tail(self) -> bytes:
        return b""


class _Asc:
    """Vector's text log, by python-can."""

    def __init__(self) -> None:
        self._text = _Text()
        self._writer = can.ASCWriter(self._text)

    def head(self, size: int = 0) -> bytes:
        return b"" if size else self._text.take()

    def copy(self, source: Format, piece: trace_store.Piece) -> bytes | None:
        return None

    def add(self, records: Records) -> bytes:
        for frame in frames.iter_records(records.tobytes(), records.dtype.itemsize):
            self._writer.on_message_received(convert.logged(frame))
        return self._text.take()

    def tail(self) -> bytes:
        self._writer.stop()
        return self._text.take()


class _Text(io.StringIO):
    """Keeps its text when the writer closes it."""

    def close(self) -> None:
        pass

    def take(self) -> bytes:
        """What was written since the last call."""
        text = self.getvalue()
        self.seek(0)
        self.truncate()
        return text.encode()
