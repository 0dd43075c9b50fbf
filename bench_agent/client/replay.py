"""Playing a log on a bus of the bench."""

import itertools
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc

from bench_agent.client.connection import Connection
from bench_agent.client.errors import BenchError, BenchUnavailable, from_rpc
from bench_agent.client.frame_stream import FrameFilter
from bench_agent.client.log_file import read_log
from bench_agent.protocol import frames, replay_pb2, replay_pb2_grpc
from bench_agent.protocol.candump import LoggedFrame
from bench_agent.protocol.frames import Frame

_BATCH = 512


@dataclass(frozen=True, slots=True)
class ReplayProgress:
    """How far a replay has come."""

    sent: int
    failed: int
    """Frames that the bus did not take; ``error`` tells why the last one was not."""
    error: str
    position_s: float
    """In the log, since its first frame."""
    late_ms: float
    """The most that a frame was sent after its time."""
    starved: int
    """Times that the agent had no frame at hand: the network or the disk here was too slow."""
    done: bool


OnProgress = Callable[[ReplayProgress], None]


def log_frames(path: Path, *, channel: str | None = None, loop: int = 1) -> Iterator[Frame]:
    """The frames of a log, ``loop`` times one after the other; of one ``channel`` of the log, if given.

    Raises LogError and OSError.
    """
    offset_ns = 0
    for _ in range(loop):
        first_ns = last_ns = None
        for logged in _of_channel(read_log(path), channel):
            frame = logged.frame
            first_ns = frame.timestamp_ns if first_ns is None else first_ns
            last_ns = frame.timestamp_ns
            yield frame._replace(timestamp_ns=last_ns - first_ns + offset_ns)
        if first_ns is not None and last_ns is not None:
            offset_ns += last_ns - first_ns


class Playing:
    """Frames played at their times, by whoever calls `run`. Raises nothing by itself."""

    def __init__(
        self, connection: Connection, bus: str, listed: Iterable[Frame], speed: float, filters: Sequence[FrameFilter]
    ) -> None:
        self._target = connection.target
        self._source = _Source(listed if not filters else (frame for frame in listed if _passes(frame, filters)))
        stub = replay_pb2_grpc.ReplayStub(connection.channel)
        opening = replay_pb2.ReplayRequest(open=replay_pb2.ReplayOpen(bus=bus, speed=speed))
        self._call = stub.Play(itertools.chain([opening], self._source.requests()), metadata=connection.metadata)
        self._source.on_failure = self._call.cancel

    def run(self, on_progress: OnProgress | None) -> ReplayProgress:
        """Returns at the end. Raises a BenchError, also what the frames' source raises."""
        progress = None
        try:
            for event in self._call:
                progress = _progress(event)
                if on_progress is not None:
                    on_progress(progress)
        except grpc.RpcError as error:
            raise self._source.failure or from_rpc(error, self._target) from None
        finally:
            self.cancel()
        if self._source.failure is not None:
            raise self._source.failure
        if progress is None or not progress.done:
            raise BenchUnavailable(f"{self._target} has ended the replay")
        return progress

    def cancel(self) -> None:
        """Ends it, from any thread."""
        self._call.cancel()
        self._source.stop()


class ReplayClient:
    """A replay beside whatever else its caller does. It ends with its bench's connection at the latest."""

    def __init__(self, playing: Playing, timeout_s: float) -> None:
        """Returns when the agent plays. Raises a BenchError when it refuses, or does not begin within ``timeout_s``."""
        self._playing = playing
        self._changed = threading.Condition()
        self._progress: ReplayProgress | None = None
        self._failure: Exception | None = None
        self._stopped = self._ended = False
        self._thread = threading.Thread(target=self._run, name="replay", daemon=True)
        self._thread.start()
        with self._changed:
            self._changed.wait_for(lambda: self._progress or self._ended, timeout_s)
        try:
            self.state()
        except Exception:
            playing.cancel()
            raise

    def state(self) -> ReplayProgress:
        """As of a quarter of a second ago at most. Raises what ended the replay before its time."""
        with self._changed:
            if self._failure is not None and not self._stopped:
                raise self._failure
            if self._progress is None:
                raise BenchUnavailable("the agent did not begin to play in time")
            return self._progress

    def wait(self, timeout_s: float) -> ReplayProgress:
        """The state at the end of the replay, or after ``timeout_s`` if that is earlier. Raises as `state`."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended, timeout_s)
        return self.state()

    def stop(self) -> ReplayProgress:
        """Ends the replay: no frame follows the one that is being sent. Raises as `state`."""
        with self._changed:
            self._stopped = self._stopped or not self._ended
        self._playing.cancel()
        self._thread.join()
        return self.state()

    def _run(self) -> None:
        failure: Exception | None = None
        try:
            self._playing.run(self._take)
        except (BenchError, OSError) as error:
            failure = error
        with self._changed:
            self._failure, self._ended = failure, True
            self._changed.notify_all()

    def _take(self, progress: ReplayProgress) -> None:
        with self._changed:
            self._progress = progress
            self._changed.notify_all()


class _Source:
    """Frames as requests, for gRPC's thread; what goes wrong while they are read is kept for the caller's."""

    def __init__(self, listed: Iterable[Frame]) -> None:
        self._listed = iter(listed)
        self._stopped = threading.Event()
        self.failure: Exception | None = None
        self.on_failure: Callable[[], object] = self._stopped.set

    def requests(self) -> Iterator[replay_pb2.ReplayRequest]:
        try:
            while not self._stopped.is_set() and (part := list(itertools.islice(self._listed, _BATCH))):
                yield replay_pb2.ReplayRequest(frames=frames.batch(part))
        except (BenchError, OSError) as error:
            self.failure = error
            self.on_failure()

    def stop(self) -> None:
        self._stopped.set()


def _of_channel(listed: Iterator[LoggedFrame], channel: str | None) -> Iterator[LoggedFrame]:
    return listed if channel is None else (logged for logged in listed if logged.channel == channel)


def _passes(frame: Frame, filters: Sequence[FrameFilter]) -> bool:
    return any(frame.can_id & mask == can_id & mask for can_id, mask in filters)


def _progress(event: replay_pb2.ReplayEvent) -> ReplayProgress:
    return ReplayProgress(
        sent=event.sent,
        failed=event.failed,
        error=event.error,
        position_s=event.position_ns / 1e9,
        late_ms=event.late_us / 1000,
        starved=event.starved,
        done=event.done,
    )
