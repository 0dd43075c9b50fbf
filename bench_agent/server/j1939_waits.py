"""Messages of a J1939 node, awaited and streamed. On one asyncio loop with the node."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

from bench_agent.protocol import j1939_pb2
from bench_agent.server.conditions import Condition, Edge
from bench_agent.server.j1939_wire import to_lost, to_message
from bench_agent.server.lease_nodes import Heard, LeaseNode, Wanted
from ecu_adapters.dbc import SignalValue
from ecu_adapters.frame_records import to_ns
from ecu_adapters.j1939.message import Message
from ecu_adapters.j1939.transport import Lost

WAITING = 4096
"""Messages that wait for the reader of one stream."""
_BATCH = 256
_LOST = 16


class Expectation:
    """Waits for one message."""

    def __init__(
        self, node: LeaseNode, wanted: Wanted, data: bytes | None, conditions: Sequence[Condition | Edge]
    ) -> None:
        self._node = node
        self._wanted = wanted
        self._data = data
        self._conditions = conditions
        self._met: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self._last: Message | None = None
        self._signals: dict[str, SignalValue | None] = {}
        self._seen = 0
        self._unmet: list[str] = []
        self._lost: list[Lost] = []

    async def run(self, since_ns: int, timeout_s: float, closed: asyncio.Event) -> j1939_pb2.J1939ExpectReply:
        """Looks at the past after ``since_ns`` (0: not at all), then at what comes. Ends when the bus is closed."""
        watch: asyncio.Future[object] = asyncio.ensure_future(closed.wait())
        self._node.listen(self._take)
        try:
            for message in list(self._node.past) if since_ns else ():
                if to_ns(message.timestamp) > since_ns:
                    self._take(message)
            await asyncio.wait((self._met, watch), timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._node.unlisten(self._take)
            watch.cancel()
        return j1939_pb2.J1939ExpectReply(
            met=self._met.done(),
            message=to_message(self._node, self._last) if self._last is not None else None,
            seen=self._seen,
            unmet=self._unmet,
            lost=[to_lost(lost) for lost in self._lost],
        )

    def _take(self, heard: Heard) -> None:
        if self._met.done() or not self._wanted.passes(heard):
            return
        if isinstance(heard, Lost):
            self._lost = [*self._lost, heard][-_LOST:]
            return
        self._seen += 1
        self._last = heard
        before, (_, self._signals) = self._signals, self._node.decode(heard)
        self._unmet = []
        if self._data is not None and heard.data != self._data:
            self._unmet.append(f"data = {heard.data.hex().upper()}, expected {self._data.hex().upper()}")
        for condition in self._conditions:
            actual = self._signals.get(condition.signal)
            if actual is None:
                missing = "is not available" if condition.signal in self._signals else "is not in this message"
                self._unmet.append(f"{condition.signal} {missing}, expected {condition}")
            elif not condition.holds(actual, before.get(condition.signal)):
                shown = actual if isinstance(actual, str) else f"{actual:g}"
                self._unmet.append(f"{condition.signal} = {shown}, expected {condition}")
        if not self._unmet:
            self._met.set_result(None)


class Stream:
    """Messages for one caller, in a bounded buffer: when it is full, the newest are dropped and counted."""

    def __init__(
        self, wanted: Sequence[Wanted], bound: int = WAITING, on_drop: Callable[[], None] = lambda: None
    ) -> None:
        self.dropped = 0
        self._on_drop = on_drop
        self._wanted = wanted
        self._bound = bound
        self._waiting: deque[Heard] = deque()
        self._news = asyncio.Event()

    def put(self, heard: Heard) -> None:
        """An ear of the node."""
        if self._wanted and not any(wanted.passes(heard) for wanted in self._wanted):
            return
        if len(self._waiting) >= self._bound:
            self.dropped += 1
            self._on_drop()
        else:
            self._waiting.append(heard)
        self._news.set()

    async def take(self) -> list[Heard]:
        """What has come, in order, as soon as something has; some hundreds at most."""
        while not self._waiting:
            self._news.clear()
            await self._news.wait()
        return [self._waiting.popleft() for _ in range(min(len(self._waiting), _BATCH))]
