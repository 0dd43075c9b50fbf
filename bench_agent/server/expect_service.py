"""Waiting for frames, and measuring how regularly they come, beside the bus."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Iterable

import can

from bench_agent.protocol import bench_pb2, frames, traffic_pb2
from bench_agent.protocol.values import to_values
from bench_agent.server import convert, expectation
from bench_agent.server.agent_bus import AgentBus
from bench_agent.server.bench import Bench
from bench_agent.server.errors import invalid, unavailable
from bench_agent.server.expectation import Matcher
from bench_agent.server.rules import Intervals
from bench_agent.server.signals import database_of
from ecu_adapters.dbc import DatabaseError

LONGEST_WAIT_S = 86_400.0
_LATE_S = 0.02
"""How long after its timestamp a frame may reach us."""


async def expect(bench: Bench, request: bench_pb2.ExpectRequest) -> bench_pb2.ExpectReply:
    """Waits for a frame that meets all conditions. Raises CallError."""
    bus = bench.bus(request.bus)
    hub, closed = bus.require(), bus.closed
    if not request.timeout_ms or request.timeout_ms > LONGEST_WAIT_S * 1000:
        raise invalid(f"timeout_ms is {request.timeout_ms}; it must be 1 .. {LONGEST_WAIT_S * 1000:.0f}")
    try:
        matcher = expectation.build(request, bus.name, bus.database)
    except (ValueError, DatabaseError) as error:
        raise invalid(str(error)) from error
    wait = _Wait(asyncio.get_running_loop(), matcher)
    with hub.subscribe(wait.put, ids=[matcher.can_id]):
        wait.replay(bench.held().recent(hub, request.since_ns) if request.since_ns else [])
        try:
            async with asyncio.timeout(request.timeout_ms / 1000):
                await _either(wait.met, bus, closed)
        except TimeoutError:
            wait.end()
        finally:
            wait.stop()
    return bench_pb2.ExpectReply(
        met=matcher.met,
        frame=frames.batch([convert.to_frame(matcher.last)]) if matcher.last is not None else None,
        signals=to_values(matcher.signals),
        seen=matcher.seen,
        unmet=matcher.unmet,
        matched=matcher.matched,
    )


async def measure_cycle(bench: Bench, request: traffic_pb2.CycleRequest) -> traffic_pb2.CycleReply:
    """Listens for a while, to own frames too. Raises CallError."""
    bus = bench.bus(request.bus)
    hub, closed = bus.require(), bus.closed
    if not request.duration_ms or request.duration_ms > LONGEST_WAIT_S * 1000:
        raise invalid(f"duration_ms is {request.duration_ms}; it must be 1 .. {LONGEST_WAIT_S * 1000:.0f}")
    try:
        can_id = (
            request.frame.id
            if request.WhichOneof("what") == "frame"
            else database_of(bus, request.message).can_id(request.message)
        )
    except DatabaseError as error:
        raise invalid(str(error)) from error
    intervals = Intervals()

    def take(message: can.Message) -> None:
        intervals.take(convert.timestamp_ns(message))

    never: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    with hub.subscribe(take, ids=[can_id]), contextlib.suppress(TimeoutError):
        async with asyncio.timeout(request.duration_ms / 1000):
            await _either(never, bus, closed)
    return traffic_pb2.CycleReply(
        frames=intervals.frames,
        shortest_us=intervals.shortest_ns / 1000,
        mean_us=intervals.mean_ns / 1000,
        longest_us=intervals.longest_ns / 1000,
        first_ns=intervals.first_ns,
        last_ns=intervals.last_ns,
    )


async def watch(bus: AgentBus, closed: asyncio.Event) -> None:
    """Ends the stream, with the reason, when its bus fails."""
    await closed.wait()
    raise unavailable(bus.fault or f"CAN bus {bus.name!r} was closed")


async def _either(met: "asyncio.Future[None]", bus: AgentBus, closed: asyncio.Event) -> None:
    """Waits for ``met``. Raises CallError when the bus fails first."""
    watcher = asyncio.create_task(watch(bus, closed))
    try:
        await asyncio.wait([met, watcher], return_when=asyncio.FIRST_COMPLETED)
        if not met.done():
            watcher.result()
    finally:
        watcher.cancel()


class _Wait:
    """Brings remembered and live frames to a matcher: each once, and in order."""

    def __init__(self, loop: asyncio.AbstractEventLoop, matcher: Matcher) -> None:
        self.met: asyncio.Future[None] = loop.create_future()
        self._loop = loop
        self._matcher = matcher
        self._lock = threading.Lock()
        self._backlog: list[can.Message] | None = []
        self._known: dict[int, can.Message] = {}  # by id(): frames of the past that the bus may still deliver
        self._done = False
        self._wake_ns: int | None = None
        self._alarm: asyncio.TimerHandle | None = None

    def put(self, message: can.Message) -> None:
        """A listener of a bus hub. While the past is looked at, live frames wait (for milliseconds at most)."""
        with self._lock:
            if self._done:
                return
            if self._backlog is not None:
                self._backlog.append(message)
                return
            if self._known:
                if id(message) in self._known:
                    return
                if message.is_rx:
                    self._known = {}  # received frames come in order: from here on, all are new
            self._done = self._matcher.feed(message)
            if not self._done and self._matcher.wake_ns == self._wake_ns:
                return
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._finish if self._done else self._set_alarm)

    def replay(self, past: list[can.Message]) -> None:
        """Looks at the past, then at what came meanwhile, and lets live frames through."""
        # The bus remembers a burst before it delivers its frames: one may be both in the past and yet to come.
        self._known = known = {id(message): message for message in past}
        batch: Iterable[can.Message] = past
        while True:
            if any(self._matcher.feed(message) for message in batch):
                self.stop()
                self._finish()
                return
            with self._lock:
                backlog, self._backlog = self._backlog or [], []
                if not backlog:
                    self._backlog = None
                    break
            batch = [message for message in backlog if id(message) not in known]
        self._set_alarm()

    def stop(self) -> None:
        """No further frame changes the outcome."""
        with self._lock:
            self._done = True
            if self._alarm is not None:
                self._alarm.cancel()

    def end(self) -> None:
        """The time is over."""
        with self._lock:
            if not self._done:
                self._matcher.end(time.time_ns())
        self.stop()

    def _set_alarm(self) -> None:
        """Some rules decide when no frame comes: looks when the time has come."""
        with self._lock:
            if self._alarm is not None:
                self._alarm.cancel()
            self._wake_ns = self._matcher.wake_ns
            if self._wake_ns is not None and not self._done:
                # Frames with an earlier timestamp may still be on their way.
                delay_s = (self._wake_ns - time.time_ns()) / 1e9 + _LATE_S
                self._alarm = self._loop.call_later(max(delay_s, 0.0), self._look)

    def _look(self) -> None:
        with self._lock:
            if self._done or self._matcher.wake_ns != self._wake_ns or not self._matcher.end(time.time_ns()):
                return
            self._done = True
        self._finish()

    def _finish(self) -> None:
        if not self.met.done():
            self.met.set_result(None)
