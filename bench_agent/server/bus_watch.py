"""Follows a bus while it is open: tells what happens on it, and brings its controller back from bus-off."""

import asyncio
import contextlib
import operator
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import astuple, dataclass
from functools import partial

import structlog

from bench_agent.server.errors import bus_fault, invalid
from bench_agent.server.frame_queue import FrameQueue
from ecu_adapters.bus import BusError, BusHub, Subscription
from ecu_adapters.bus_load import LoadMeter
from ecu_adapters.bus_off import BusOffPolicy, Restarts
from ecu_adapters.bus_state import BusEvent, ErrorSeen, RestartTried, StateChange, StaysOff
from ecu_adapters.error_frames import BusState
from ecu_adapters.inbox import Inbox

_BACK_S = 1.0
"""How long a controller that was restarted may take to say so."""
_CHANGE_S = 0.1
"""Changes within this time are told of together: a loose wire makes many."""
_EVENTS = 1024
"""Events that wait for one stream."""

_log = structlog.get_logger()


class EventStream:
    """Events for one reader, bounded: it loses its own newest ones, counted."""

    def __init__(self, on_drop: Callable[[], None] = lambda: None) -> None:
        self.dropped = 0
        self._on_drop = on_drop
        self._events: deque[BusEvent] = deque()
        self._ready = asyncio.Event()

    def put(self, event: BusEvent) -> None:
        """Runs on the loop."""
        # A flood of errors must not hide that the bus went off.
        if len(self._events) >= (_EVENTS if isinstance(event, ErrorSeen) else 2 * _EVENTS):
            self.dropped += 1
            self._on_drop()
        else:
            self._events.append(event)
            self._ready.set()

    async def take(self) -> BusEvent:
        """The next event."""
        while not self._events:
            self._ready.clear()
            await self._ready.wait()
        return self._events.popleft()


class Drops:
    """Frames that somebody did not get, by cause. Threads share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()

    def add(self, cause: str, count: int) -> None:
        """So many more."""
        with self._lock:
            self._counts[cause] += count

    def take(self) -> dict[str, int]:
        """Since the last call."""
        with self._lock:
            counts, self._counts = dict(self._counts), Counter()
            return counts


@dataclass(frozen=True, slots=True)
class Totals:
    """What a bus has seen since the agent started."""

    received: int = 0
    sent: int = 0
    send_failed: int = 0
    lost: int = 0
    error_frames: int = 0
    bus_offs: int = 0
    late: int = 0

    def __add__(self, other: "Totals") -> "Totals":
        return Totals(*map(operator.add, astuple(self), astuple(other)))

    def __sub__(self, other: "Totals") -> "Totals":
        return Totals(*map(operator.sub, astuple(self), astuple(other)))


class BusWatch:
    """Of one bus of a bench, through all times that it is opened. Used on one asyncio loop."""

    def __init__(self, title: str, policy: BusOffPolicy, on_change: Callable[[], None]) -> None:
        """``on_change`` is called soon after `state` or `fault` have changed."""
        self.fault: str | None = None
        """Why a controller that is bus-off stays so; None while it is on the bus, or about to be restarted."""
        self.meter: LoadMeter | None = None
        """While the bus is open."""
        self.queues: list[FrameQueue] = []
        """Of the streams that take frames from the bus."""
        self.drops = Drops()
        self._former = Totals()
        """Of the times that the bus was open before."""
        self._title = title
        self._policy = policy
        self._on_change = on_change
        self._hub: BusHub | None = None
        self._inbox: Inbox[BusEvent] | None = None
        self._tap: Subscription | None = None
        self._was_off = False
        self._restarts = Restarts(policy)
        self._restarting: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()
        self._streams: set[EventStream] = set()
        self._dropped = 0
        self._changing: asyncio.TimerHandle | None = None

    @property
    def state(self) -> BusState:
        """The controller's; unknown while the bus is not open."""
        return self._hub.monitor.state if self._hub is not None else BusState.UNKNOWN

    @property
    def totals(self) -> Totals:
        """Of all times that the bus was open."""
        return self._former if self._hub is None else self._former + _totals(self._hub)

    def attach(self, hub: BusHub) -> None:
        """The bus is open."""
        self._hub, self._was_off, self._restarts = hub, False, Restarts(self._policy)
        self.meter = LoadMeter(hub.bitrates)
        self._tap = hub.tap(self.meter.put)
        self._inbox = Inbox(asyncio.get_running_loop(), self._take, bound=_EVENTS)
        self._dropped = 0
        hub.monitor.on_event = self._hear
        self._share(StateChange(time.time_ns(), hub.monitor.state, BusState.UNKNOWN))
        self._look()

    async def detach(self) -> None:
        """The bus is closed, or about to be."""
        self._former = self.totals
        hub, self._hub, self.meter, self.fault = self._hub, None, None, None
        if self._tap is not None:
            self._tap.close()
        if self._inbox is not None:
            self._inbox.close()
        if hub is not None:
            hub.monitor.on_event = None
            self._share(StateChange(time.time_ns(), BusState.UNKNOWN, hub.monitor.state))
        if self._changing is not None:
            self._changing.cancel()
            self._changing = None
        if self._restarting is not None:
            self._restarting.cancel()
            await asyncio.gather(self._restarting, return_exceptions=True)

    @contextlib.contextmanager
    def events(self) -> Iterator[EventStream]:
        """All events from now on."""
        stream = EventStream(partial(self.drops.add, "events", 1))
        self._streams.add(stream)
        try:
            yield stream
        finally:
            self._streams.discard(stream)

    async def expect(self, state: BusState, timeout_s: float) -> bool:
        """Waits until the bus is in ``state``, be it for a moment; whether that was so in time."""
        return await self._until(lambda now: now is state, timeout_s)

    async def recover(self) -> None:
        """Brings the controller back that is bus-off, if it is. Raises CallError when that does not work."""
        if self._hub is None or self.state is not BusState.BUS_OFF:
            return
        if self._policy.recover == "never":
            raise invalid(f"the controller of bus {self._title} is not restarted: {self._restarts.why_not()}")
        fault = await self._restart(self._hub)
        if fault is None and not await self._is_back(_BACK_S):
            fault = f"the controller of bus {self._title} did not come back within {_BACK_S:g} s"
        if fault is not None:
            raise bus_fault(fault)

    def _hear(self, event: BusEvent) -> None:
        """Runs on the bus' threads: a broken bus may tell of thousands of errors a second, which nobody may ask for."""
        if self._inbox is not None and (self._streams or not isinstance(event, ErrorSeen)):
            self._inbox.put(event)

    def _take(self, event: BusEvent) -> None:
        inbox = self._inbox
        if inbox is not None and inbox.dropped > self._dropped:
            for stream in self._streams:
                stream.dropped += inbox.dropped - self._dropped
                self.drops.add("events", inbox.dropped - self._dropped)
            self._dropped = inbox.dropped
        self._tell(event)
        self._look()

    def _share(self, event: BusEvent) -> None:
        for stream in self._streams:
            stream.put(event)

    def _tell(self, event: BusEvent) -> None:
        self._share(event)
        if isinstance(event, StateChange | StaysOff) and self._changing is None:
            self._changing = asyncio.get_running_loop().call_later(_CHANGE_S, self._changed)

    def _changed(self) -> None:
        self._changing = None
        _log.info("bus state", bus=self._title, state=self.state.value, fault=self.fault)
        self._on_change()

    def _look(self) -> None:
        """Acts on the state that the controller is in now; events may have been too many to be taken."""
        hub = self._hub
        if hub is None:
            return
        if self.state is not BusState.BUS_OFF:
            if self._was_off:
                self._was_off = False
                self._restarts.back(time.monotonic())
            self.fault = None
        elif not self._was_off:
            self._was_off = True
            self._restarts.bus_off(time.monotonic())
            if self._restarting is None or self._restarting.done():
                self._restarting = asyncio.create_task(self._bring_back(hub), name=f"bus-off-{self._title}")

    async def _bring_back(self, hub: BusHub) -> None:
        """Restarts the controller until it is back, as far as the policy goes."""
        last = ""
        while self._hub is hub and self.state is BusState.BUS_OFF:
            wait_s = self._restarts.due_s()
            if wait_s is None:
                why = self._restarts.why_not()
                self.fault = f"CAN bus {self._title} is bus-off: {why}" + (f"; the last: {last}" if last else "")
                _log.error("bus stays off", bus=self._title, reason=self.fault)
                self._tell(StaysOff(time.time_ns(), self.fault))
                return
            if await self._is_back(wait_s):
                continue
            last = await self._restart(hub) or "it was bus-off again"
            await self._is_back(_BACK_S)

    async def _restart(self, hub: BusHub) -> str | None:
        """Tries once; why it failed."""
        async with self._turn:
            if self.state is not BusState.BUS_OFF:
                return None
            attempt, fault = self._restarts.tried(), None
            try:
                await asyncio.to_thread(hub.restart)
            except BusError as error:
                fault = str(error)
            _log.warning("bus restarted after bus-off", bus=self._title, attempt=attempt, fault=fault)
            self._tell(RestartTried(time.time_ns(), attempt, fault))
            return fault

    async def _is_back(self, timeout_s: float) -> bool:
        return await self._until(lambda now: now is not BusState.BUS_OFF, timeout_s)

    async def _until(self, meets: Callable[[BusState], bool], timeout_s: float) -> bool:
        with self.events() as stream, contextlib.suppress(TimeoutError):
            if meets(self.state):
                return True
            async with asyncio.timeout(timeout_s):
                while True:
                    event = await stream.take()
                    if isinstance(event, StateChange) and meets(event.state):
                        return True
        return meets(self.state)  # events may have been too many to be taken


def _totals(hub: BusHub) -> Totals:
    stats = hub.stats
    return Totals(
        stats.received,
        stats.sent,
        stats.send_failed,
        stats.lost,
        stats.error_frames,
        hub.monitor.condition().bus_offs,
        stats.late,
    )
