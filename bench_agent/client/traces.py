"""The traces of the lease: what there is, and files of it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import grpc

from bench_agent.client.connection import Connection
from bench_agent.client.errors import BenchError, from_rpc
from bench_agent.protocol import trace_pb2, trace_pb2_grpc

FORMATS = {".blf": "blf", ".log": "candump", ".asc": "asc"}
"""Formats by the suffix of a file."""
_PART_S = 600.0
"""How long a whole fetch may take, beyond the connection's timeout: an hour of a full bus at a slow link."""


@dataclass(frozen=True, slots=True)
class TraceInfo:
    """The trace of one bus, up to now. Times in ns since the Unix epoch, 0 when there is no frame."""

    bus: str
    first_ns: int
    last_ns: int
    frames: int
    bytes: int
    formats: tuple[str, ...]
    """In which it is stored; it can be fetched in any."""
    dropped: int
    """Frames that came faster than the disk took them."""
    beyond_limit: int
    """Frames that came after the trace had reached its bounds."""
    overwritten: int
    """Frames that made room for newer ones."""
    failed: int
    """Frames that the disk refused."""
    fault: str
    """Why frames are not being written at present; empty when they are."""


@dataclass(frozen=True, slots=True)
class FetchedTrace:
    """What a fetch has brought."""

    frames: int
    bytes: int


class _Sink(Protocol):
    def seek(self, offset: int, /) -> int: ...
    def write(self, data: bytes, /) -> int: ...


class TracesClient:
    """Traces of a leased bench. A token opens those of its own lease only, and only while the lease lasts."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._stub = trace_pb2_grpc.TracesStub(connection.channel)

    def list(self) -> list[TraceInfo]:
        """One for each bus. Raises a BenchError."""
        reply = self._connection.ask(self._stub.List, trace_pb2.ListTracesRequest())
        return [_info(trace) for trace in reply.traces]

    def fetch(self, bus: str, path: Path, *, file_format: str = "", from_ns: int = 0, to_ns: int = 0) -> FetchedTrace:
        """Writes the trace of ``bus`` to ``path``; only frames from ``from_ns`` to ``to_ns`` if given.

        ``file_format`` is blf, candump or asc; empty: by the suffix of ``path`` (.blf, .log, .asc). Raises ValueError
        for a suffix that means no format, a BenchError, and OSError; the file holds what came until then.
        """
        wanted = file_format or FORMATS.get(path.suffix.lower(), "")
        if not wanted:
            raise ValueError(
                f"{path.name}: its suffix means no format; name it {', '.join(FORMATS)}, or give the format"
            )
        with path.open("wb") as file:
            try:
                return self.fetch_into(file, bus, wanted, from_ns=from_ns, to_ns=to_ns)
            except BenchError:
                if not file.tell():
                    path.unlink()
                raise

    def fetch_into(self, sink: _Sink, bus: str, file_format: str, *, from_ns: int = 0, to_ns: int = 0) -> FetchedTrace:
        """Writes the trace into an open file that can seek. Otherwise as `fetch`."""
        request = trace_pb2.FetchTraceRequest(bus=bus, format=file_format, from_ns=from_ns, to_ns=to_ns)
        connection = self._connection
        call = self._stub.Fetch(request, timeout=connection.timeout_s + _PART_S, metadata=connection.metadata)
        count = size = at = 0
        try:
            for part in call:
                if part.offset != at:
                    sink.seek(part.offset)
                sink.write(part.data)
                at = part.offset + len(part.data)
                count, size = part.frames, max(size, at)
        except grpc.RpcError as error:
            raise from_rpc(error, connection.target) from None
        finally:
            call.cancel()
        return FetchedTrace(count, size)


def _info(trace: trace_pb2.TraceDescription) -> TraceInfo:
    return TraceInfo(
        bus=trace.bus,
        first_ns=trace.first_ns,
        last_ns=trace.last_ns,
        frames=trace.frames,
        bytes=trace.bytes,
        formats=tuple(trace.formats),
        dropped=trace.dropped,
        beyond_limit=trace.beyond_limit,
        overwritten=trace.overwritten,
        failed=trace.failed,
        fault=trace.fault,
    )
