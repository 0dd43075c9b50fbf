"""Frames of a bus as they pass, and frames to it, over one open stream."""

import contextlib
import queue
import threading
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import NamedTuple, Protocol

import grpc

from bench_agent.client.connection import Connection
from bench_agent.client.errors import BenchError, BenchUnavailable, BusFault, from_rpc
from bench_agent.protocol import bench_pb2, frames
from bench_agent.protocol.frames import Frame

_BLOCKS = 64
"""Batches read ahead of the caller. When they are full, reading stops, and the agent holds back and then drops."""


class _CanCall(Protocol):
    def __iter__(self) -> Iterator[bench_pb2.CanEvent]: ...
    def cancel(self) -> bool: ...


class FrameFilter(NamedTuple):
    """Matches when (arbitration ID & mask) == (can_id & mask), both in SocketCAN form (bit 31: 29 bits)."""

    can_id: int
    mask: int = 0xFFFF_FFFF


class FrameBlock(NamedTuple):
    """Some frames in a row."""

    frames: list[Frame]
    sequence: int
    """Of the first frame; counts all that passed the filters, dropped ones too."""
    dropped: int
    """Frames dropped on this stream so far, because they were not read fast enough."""


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
            filters=[bench_pb2.CanFilter(id=f.can_id, mask=f.mask) for f in filters],
            own_frames=own_frames,
        )
        self._requests: queue.Queue[bench_pb2.CanRequest | None] = queue.Queue(_BLOCKS)
        self._blocks: queue.Queue[FrameBlock | BenchError | None] = queue.Queue(_BLOCKS)
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
            yield from block.frames

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
        for start in range(0, len(listed), 1024):
            part = listed[start : start + 1024]
            if self._ended is not None:
                raise self._ended
            try:
                self._requests.put(bench_pb2.CanRequest(frames=frames.batch(part)), timeout=self._connection.timeout_s)
            except queue.Full:
                raise BenchUnavailable(f"{self._connection.target} takes no more frames") from None
            with self._changed:
                self._taken += len(part)

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

    def close(self) -> None:
        """Ends the subscription. May be called twice."""
        self._closing = True
        if self._call is not None:
            self._call.cancel()
        with contextlib.suppress(queue.Full):  # a full queue means that nobody waits in it
            self._requests.put_nowait(None)
        if self._reader is not None:
            self._reader.join(self._connection.timeout_s)

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
        self._deliver(failure)

    def _take(self, event: bench_pb2.CanEvent) -> None:
        match event.WhichOneof("event"):
            case "frames":
                batch = event.frames
                self._deliver(FrameBlock(list(frames.unbatch(batch)), batch.sequence, batch.dropped))
            case "sent":
                with self._changed:
                    self._sent = event.sent
                    self._changed.notify_all()
            case "opened":
                with self._changed:
                    self._opened = True
                    self._changed.notify_all()

    def _deliver(self, block: FrameBlock | BenchError | None) -> None:
        while not self._closing:
            try:
                self._blocks.put(block, timeout=0.2)
            except queue.Full:
                continue
            return

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
