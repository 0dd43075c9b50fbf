"""From a bus' threads to one subscriber's stream: packed, paced, bounded, and only as fast as the subscriber allows.

The stream takes all that wait at once, sends the first frame after a pause immediately and then at most every few
milliseconds: a lone frame is not delayed, a busy bus costs few messages. What is sent is paid for with the credit that
the subscriber has granted. One that grants none, or does not read, fills its own bound and loses its own frames; each
is counted.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence

from bench_agent.protocol import bench_pb2
from ecu_adapters.burst import Burst
from ecu_adapters.frame_records import Records, join, matches

BOUND = 65_536
"""Frames that wait for one subscriber; about seven seconds of a full classic bus."""
BATCH = 4096
"""Frames in one message at most."""
BUSY_PER_S = 4_000
"""Frames/s that make a stream busy."""
MESSAGES_PER_S = 500
"""Messages that all busy streams together send, as long as that delays no frame for longer than PACES_S allow."""
PACES_S = (0.002, 0.016)
"""Shortest and longest time between two messages of a stream, unless BATCH frames wait."""


class Pacer:
    """Shares the agent's time for messages among its busy streams: each message costs more than the frames in it."""

    def __init__(self) -> None:
        self._busy: set[int] = set()

    def pause(self, stream: int, *, busy: bool) -> float:
        """How long a stream should wait before its next message, in s."""
        (self._busy.add if busy else self._busy.discard)(stream)
        shortest, longest = PACES_S
        return min(max(len(self._busy) / MESSAGES_PER_S, shortest), longest) if busy else shortest

    def forget(self, stream: int) -> None:
        """The stream has ended."""
        self._busy.discard(stream)


PACER = Pacer()
"""Of this process."""


class FrameQueue:
    """`put` may be called from any thread, the rest from one loop, `take` from one task."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        filters: Sequence[tuple[int, int]] = (),
        *,
        credit: int,
        own_frames: bool = False,
        bound: int = BOUND,
        on_drop: Callable[[int], None] = lambda _count: None,
    ) -> None:
        """``filters`` are (id, mask) pairs in SocketCAN form; a frame passes if any matches, or if there are none.

        ``credit`` is the number of frames that may be taken before more is granted. ``on_drop`` is called, from any
        thread, with the number of frames that were lost.
        """
        self._loop = loop
        self._filters = tuple(filters)
        self._own_frames = own_frames
        self._bound = bound
        self._credit = credit
        self._on_drop = on_drop
        self._lock = threading.Lock()
        self._parts: deque[tuple[int, Records]] = deque()  # sequence number of the first frame, frames in a row
        self._waiting = 0
        self._sequence = 0  # of the next frame that passes the filters
        self._dropped = 0
        self._idle = False
        self._ready = asyncio.Event()
        self._taken_at = 0.0  # on the loop's clock
        self._next_take = 0.0

    @property
    def dropped(self) -> int:
        """Frames lost so far because they were not taken fast enough."""
        return self._dropped

    @property
    def counts(self) -> tuple[int, int, int]:
        """Frames that were delivered, dropped, and wait."""
        with self._lock:
            return self._sequence - self._dropped - self._waiting, self._dropped, self._waiting

    def put(self, burst: Burst) -> None:
        """A tap of a bus hub."""
        if burst.own and not self._own_frames:
            return
        records = burst.records
        if self._filters:
            records = records[matches(records, self._filters)]
        count = len(records)
        if not count:
            return
        with self._lock:
            # The newest go: what waits keeps its order, and what is missing is one row.
            room = min(self._bound - self._waiting, count)
            if room:
                self._parts.append((self._sequence, records[:room]))
            self._waiting += room
            self._dropped += count - room
            self._sequence += count
            wake, self._idle = self._idle, False
        if count > room:
            self._on_drop(count - room)
        if wake:
            try:
                self._loop.call_soon_threadsafe(self._ready.set)
            except RuntimeError:
                return  # the loop is closed, and with it the stream that these frames were for

    def grant(self, credit: int) -> None:
        """The subscriber is ready for so many frames more."""
        with self._lock:
            self._credit += credit
            self._idle = False
        self._ready.set()

    def close(self) -> None:
        """The stream has ended."""
        PACER.forget(id(self))

    async def take(self) -> list[bench_pb2.FrameBatch]:
        """Waits for frames and credit; what wait and are paid for, in order, in batches of at most BATCH."""
        pause = self._next_take - self._loop.time()
        if pause > 0 and self._waiting < BATCH:
            await asyncio.sleep(pause)
        while True:
            with self._lock:
                parts = self._pick()
                dropped = self._dropped
                if not parts:
                    self._ready.clear()
                    self._idle = True
            if parts:
                break
            await self._ready.wait()
        now = self._loop.time()
        count = sum(len(part) for _, part in parts)
        busy = count >= BUSY_PER_S * (now - self._taken_at)
        self._taken_at = now
        self._next_take = now + PACER.pause(id(self), busy=busy and count > 1)
        return [_batch(sequence, row, dropped) for sequence, row in _rows(parts)]

    def _pick(self) -> list[tuple[int, Records]]:
        picked: list[tuple[int, Records]] = []
        while self._parts and self._credit:
            sequence, part = self._parts.popleft()
            if len(part) > self._credit:
                self._parts.appendleft((sequence + self._credit, part[self._credit :]))
                part = part[: self._credit]
            picked.append((sequence, part))
            self._credit -= len(part)
            self._waiting -= len(part)
        return picked


def _rows(parts: Sequence[tuple[int, Records]]) -> list[tuple[int, Records]]:
    """The same frames, parts that follow each other joined, in rows of at most BATCH."""
    rows: list[tuple[int, list[Records]]] = []
    following = -1
    for sequence, part in parts:
        if sequence == following:
            rows[-1][1].append(part)
        else:
            rows.append((sequence, [part]))
        following = sequence + len(part)
    return [
        (sequence + start, row[start : start + BATCH])
        for sequence, joined in rows
        for row in (join(joined),)
        for start in range(0, len(row), BATCH)
    ]


def _batch(sequence: int, row: Records, dropped: int) -> bench_pb2.FrameBatch:
    return bench_pb2.FrameBatch(
        records=row.tobytes(), record_size=row.dtype.itemsize, sequence=sequence, dropped=dropped
    )
