"""Frames of a bus as they pass, and frames to it, over one open stream."""

import contextlib
import queue
import threading
from collections.abc import Iterator, Sequence
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple, Protocol, overload

import grpc

from bench_agent.client.connection import Connection
from bench_agent.client.errors import BenchError, BenchUnavailable, BusFault, InvalidRequest, from_rpc
from bench_agent.protocol import bench_pb2, frames
from bench_agent.protocol.frames import Frame

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_REQUESTS = 64
"""Requests that wait for gRPC; then `send` blocks."""
_WINDOW = 65_536
"""Frames that the agent may send ahead of the caller. Beyond, it holds them back, and then drops."""
_PART = 4096
"""Frames in one request at most."""


class _CanCall(Protocol):
    def __iter__(self) -> Iterator[bench_pb2.CanEvent]: ...
    def cancel(self) -> bool: ...


class FrameFilter(NamedTuple):
    """Matches when (arbitration ID & mask) == (can_id & mask), both in SocketCAN form (bit 31: 29 bits)."""

    can_id: int
    mask: int = 0xFFFF_FFFF


class FrameBlock(Sequence[Frame]):
    """Some frames in a row, decoded when they are looked at one by one; `array` shows them without."""

    def __init__(self, batch: bench_pb2.FrameBatch) -> None:
        """Raises ValueError when the batch is none."""
        frames.check_records(batch.records, batch.record_size)
        self.records: bytes = batch.records
        """Packed; see `bench_agent.protocol.frames`."""
        self.record_size: int = batch.record_size
        """Bytes of each record, 24 or 80."""
        self.sequence: int = batch.sequence
        """Of the first frame; counts all that passed the filters, dropped ones too."""
        self.dropped: int = batch.dropped
        """Frames dropped on this stream so far, because they were not read fast enough."""

    @cached_property
    def frames(self) -> list[Frame]:
        """All of them."""
        return list(frames.iter_records(self.records, self.record_size))

    def array(self) -> "npt.NDArray[np.void]":
        """The records as a structured array of numpy, which shares their memory.

        Fields: ``stamp`` (ns since the Unix epoch), ``id`` and ``flags`` (as in `Frame`), ``length``, ``data``.
        """
        return frames.array(self.records, self.record_size)

    def __len__(self) -> int:
        return len(self.records) // self.record_size if self.record_size else 0

    @overload
    def __getitem__(self, index: int) -> Frame: ...
    @overload
    def __getitem__(self, index: slice) -> list[Frame]: ...
    def __getitem__(self, index: int | slice) -> Frame | list[Frame]:
        return self.frames[index]

    def __iter__(self) -> Iterator[Frame]:
        return iter(self.frames)


class FrameStream:
    """A subscription to a bus. Iterate over it for frames, or call `blocks` or `read`; `send` puts frames on the bus.

    Opens on entering the context: every frame from then on is delivered or counted in `dropped`.
    One thread may read, any may send.
    """

    def __init__(
        self, connection: Connection, bus: str, filters: Sequence[FrameFilter] = (), *, own_frames: bool = False
    ) -> None:
        self._connection = connection
        self._open = bench_pb2.CanOpen(
            bus=bus,
            filters=[_wired(number, wanted) for number, wanted in enumerate(filters)],
            own_frames=own_frames,
            credit=_WINDOW,
        )
        self._requests: queue.Queue[bench_pb2.CanRequest | None] = queue.Queue(_REQUESTS)
        # Bounded by the credit that the agent has.
        self._blocks: queue.SimpleQueue[FrameBlock | BenchError | None] = queue.SimpleQueue()
        self._consumed = 0  # frames that were read and are not granted anew yet
        self._changed = threading.Condition()
        self._opened = False
        self._closing = False
        self._ended: BenchError | None = None
        self._taken = 0  # frames handed to send() so far
        self._sent = bench_pb2.CanSent()
        self._call: _CanCall | None = None
        self._reader: threading.Thread | None = None
        self.dropped = 0
        """Frames lost so far because they were not read fast enough."""

    def __enter__(self) -> "FrameStream":
        """Raises a BenchError when the agent refuses, or does not open the stream in time."""
        self._requests.put(bench_pb2.CanRequest(open=self._open))
        requests = iter(self._requests.get, None)
        self._call = self._connection.stub.Can(requests, metadata=self._connection.metadata)
        self._reader = threading.Thread(target=self._read, args=(self._call,), name="can-stream", daemon=True)
        self._reader.start()
        with self._changed:
            self._changed.wait_for(lambda: self._opened or self._ended, self._connection.timeout_s)
            if self._opened:
                return self
        failure = self._ended
        self.close()
        raise failure or BenchUnavailable(f"{self._connection.target} did not open the stream in time")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def read(self, timeout_s: float) -> FrameBlock | None:
        """The next frames, or None when none came within ``timeout_s``. Raises the BenchError that ended the stream."""
        try:
            block = self._blocks.get(timeout=timeout_s)
        except queue.Empty:
            return None
        if isinstance(block, FrameBlock):
            self.dropped = block.dropped
            self._grant(len(block))
            return block
        self._blocks.put(block)  # so that the next call sees it too
        if block is None:
            return None
        raise block

    def blocks(self) -> Iterator[FrameBlock]:
        """Frames as they arrive, in blocks. Ends when the stream is closed; raises the BenchError that cut it."""
        while not self._closing:
            block = self.read(0.5)
            if block is not None:
                yield block

    def __iter__(self) -> Iterator[Frame]:
        for block in self.blocks():
            yield from block

    def send(self, listed: Sequence[Frame]) -> None:
        """Queues frames for the bus, in order. `flush` waits until they are on it.

        Blocks while the agent is slower than the caller; raises a BenchError for a bad frame, or when the stream has
        ended or takes nothing for the connection's timeout.
        """
        for frame in listed:
            try:
                frames.check(frame)
            except ValueError as error:
                raise BusFault(str(error)) from None
        for start in range(0, len(listed), _PART):
            self._send(frames.batch(listed[start : start + _PART]), len(listed[start : start + _PART]))

    def send_batch(self, records: "bytes | npt.NDArray[np.void]", record_size: int | None = None) -> None:
        """Queues packed frames for the bus, as `send` does: bytes of records, or an array such as `FrameBlock.array`.

        Raises BusFault when they are no records of ``record_size`` (24 or 80; an array knows its own).
        """
        if not isinstance(records, bytes):
            record_size, records = records.dtype.itemsize, records.tobytes()
        try:
            frames.check_records(records, record_size or 0)
        except ValueError as error:
            raise BusFault(str(error)) from None
        step = _PART * (record_size or 1)
        for start in range(0, len(records), step):
            part = records[start : start + step]
            batch = bench_pb2.FrameBatch(records=part, record_size=record_size or 0)
            self._send(batch, len(part) // batch.record_size)

    def flush(self, timeout_s: float) -> None:
        """Waits until every frame given to `send` is on the bus.

        Raises BusFault if the driver refused any, BenchUnavailable if it took too long, or the BenchError that ended
        the stream.
        """
        with self._changed:
            done = self._changed.wait_for(
                lambda: self._sent.sent + self._sent.failed >= self._taken or self._ended, timeout_s
            )
            if self._sent.failed:
                raise BusFault(f"{self._sent.failed} frames were not sent: {self._sent.error}")
            if self._ended is not None:
                raise self._ended
            if not done:
                raise BenchUnavailable(f"{self._sent.sent} of {self._taken} frames sent within {timeout_s:g} s")

    @property
    def progress(self) -> tuple[int, int]:
        """Frames given to `send` that the driver has taken so far, and those that it refused."""
        with self._changed:
            return self._sent.sent, self._sent.failed

    def close(self) -> None:
        """Ends the subscription. May be called twice."""
        self._closing = True
        if self._call is not None:
            self._call.cancel()
        with contextlib.suppress(queue.Full):  # a full queue means that nobody waits in it
            self._requests.put_nowait(None)
        if self._reader is not None:
            self._reader.join(self._connection.timeout_s)

    def _send(self, batch: bench_pb2.FrameBatch, count: int) -> None:
        if self._ended is not None:
            raise self._ended
        try:
            self._requests.put(bench_pb2.CanRequest(frames=batch), timeout=self._connection.timeout_s)
        except queue.Full:
            raise BenchUnavailable(f"{self._connection.target} takes no more frames") from None
        with self._changed:
            self._taken += count

    def _grant(self, count: int) -> None:
        self._consumed += count
        if self._consumed >= _WINDOW // 4:
            with contextlib.suppress(queue.Full):  # the agent is slow to take frames; the next block tries again
                self._requests.put_nowait(bench_pb2.CanRequest(credit=self._consumed))
                self._consumed = 0

    def _read(self, call: "_CanCall") -> None:
        failure: BenchError | None = None
        try:
            for event in call:
                self._take(event)
            failure = BenchUnavailable(f"{self._connection.target} has ended the stream")
        except grpc.RpcError as error:
            failure = None if self._closing else from_rpc(error, self._connection.target)
        except ValueError as error:
            call.cancel()
            failure = BenchUnavailable(f"{self._connection.target} sent a batch that cannot be read: {error}")
        with self._changed:
            self._ended = failure or BenchUnavailable(f"the stream of {self._connection.target} is closed")
            self._changed.notify_all()
        self._requests_end()
        self._blocks.put(failure)

    def _take(self, event: bench_pb2.CanEvent) -> None:
        match event.WhichOneof("event"):
            case "frames":
                self._blocks.put(FrameBlock(event.frames))
            case "sent":
                with self._changed:
                    self._sent = event.sent
                    self._changed.notify_all()
            case "opened":
                with self._changed:
                    self._opened = True
                    self._changed.notify_all()

    def _requests_end(self) -> None:
        """Lets gRPC's request thread end, which otherwise waits in the queue for ever."""
        while True:
            try:
                self._requests.put_nowait(None)
            except queue.Full:
                with contextlib.suppress(queue.Empty):
                    self._requests.get_nowait()
            else:
                return


def _wired(number: int, wanted: FrameFilter) -> bench_pb2.CanFilter:
    for field, value in (("id", wanted.can_id), ("mask", wanted.mask)):
        if not 0 <= value < 1 << 32:
            raise InvalidRequest(f"filters[{number}].{field} is {value:#X}; it must have 32 bits".replace("0X", "0x"))
    return bench_pb2.CanFilter(id=wanted.can_id, mask=wanted.mask)
