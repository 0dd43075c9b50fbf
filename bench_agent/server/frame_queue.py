"""From a bus' threads to one subscriber's stream: packed, paced and bounded.

Frames are packed where they arrive. The stream takes all that wait at once, sends the first frame after a pause
immediately and then at most every few milliseconds: a lone frame is not delayed, a busy bus costs few messages.
A subscriber that does not read fills its own bound and loses its own frames; each is counted.
"""

import asyncio
import threading
from collections.abc import Sequence

import can

from bench_agent.protocol import bench_pb2, frames
from bench_agent.server import convert

BOUND = 65_536
"""Frames that wait for one subscriber; about three seconds of a full bus."""
BATCH = 1024
"""Frames in one message at most."""
PACE_S = 0.002
"""Shortest time between two messages, unless more than BATCH frames wait."""
BUSY = 32
"""Frames within PACE_S that make a bus busy: 16,000 frames/s, more than most buses carry."""
BUSY_PACE_S = 0.01
"""PACE_S on a busy bus, where each message costs more than the frames in it."""


class FrameQueue:
    """`put` may be called from any thread, `take` from one task."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        filters: Sequence[tuple[int, int]] = (),
        *,
        own_frames: bool = False,
        bound: int = BOUND,
    ) -> None:
        """``filters`` are (id, mask) pairs in SocketCAN form; a frame passes if any matches, or if there are none."""
        self._loop = loop
        self._filters = tuple((wanted & mask, mask) for wanted, mask in filters)
        self._own_frames = own_frames
        self._bound = bound
        self._lock = threading.Lock()
        self._records: list[bytes] = []
        self._first = 0  # sequence number of the first record that waits
        self._sequence = 0  # of the next frame that passes the filters
        self._dropped = 0
        self._ready = asyncio.Event()
        self._next_take = 0.0  # not before, on the loop's clock

    @property
    def dropped(self) -> int:
        """Frames lost so far because they were not taken fast enough."""
        return self._dropped

    def put(self, messages: Sequence[can.Message]) -> None:
        """A tap of a bus hub."""
        if not self._own_frames:
            messages = [message for message in messages if message.is_rx]
        if self._filters:
            messages = [message for message in messages if self._passes(message)]
        records = [convert.pack(message) for message in messages]
        with self._lock:
            waiting = len(self._records)
            if not waiting:
                self._first = self._sequence
            # The newest go, so that what waits is one unbroken row with one sequence number.
            self._records += records[: self._bound - waiting]
            self._dropped += waiting + len(records) - len(self._records)
            self._sequence += len(records)
        if records and not waiting:
            try:
                self._loop.call_soon_threadsafe(self._ready.set)
            except RuntimeError:
                return  # the loop is closed, and with it the stream that these frames were for

    def _passes(self, message: can.Message) -> bool:
        identifier = convert.can_id(message)
        return any(identifier & mask == wanted for wanted, mask in self._filters)

    async def take(self) -> list[bench_pb2.FrameBatch]:
        """Waits for frames; all that wait, in order, in batches of at most BATCH."""
        await self._ready.wait()
        pause = self._next_take - self._loop.time()
        if pause > 0 and len(self._records) < BATCH:
            await asyncio.sleep(pause)
        with self._lock:
            records, self._records = self._records, []
            first, dropped = self._first, self._dropped
            self._ready.clear()
        self._next_take = self._loop.time() + (BUSY_PACE_S if len(records) >= BUSY else PACE_S)
        return [
            _batch(records[start : start + BATCH], first + start, dropped) for start in range(0, len(records), BATCH)
        ]


def _batch(records: list[bytes], sequence: int, dropped: int) -> bench_pb2.FrameBatch:
    size = max(map(len, records))
    packed = b"".join(records)
    if len(packed) != size * len(records):  # classic and FD frames in one batch
        packed = b"".join(record if len(record) == size else frames.widen(record) for record in records)
    return bench_pb2.FrameBatch(records=packed, record_size=size, sequence=sequence, dropped=dropped)
