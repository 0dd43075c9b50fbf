"""A CAN bus of a bench: opened, watched, and opened again when it fails."""

import asyncio
import random
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import can
import structlog

from bench_agent.server.bus_watch import BusWatch
from bench_agent.server.config import BusConfig
from bench_agent.server.errors import invalid, unavailable
from ecu_adapters.bus import BusError, BusHub
from ecu_adapters.bus_port import Taken
from ecu_adapters.dbc import Database, DatabaseError
from ecu_adapters.frame_records import Records

_FIRST_RETRY_S = 1.0
_LAST_RETRY_S = 30.0
_STEADY_S = 10.0
"""A bus that fails sooner after it was opened is not opened again at once. An interface that is down, for example,
opens well and fails at the first read."""

T = TypeVar("T")

_log = structlog.get_logger()


@dataclass(slots=True)
class Sent:
    """How far a row of frames came."""

    taken: list[can.Message]
    """The frames that the driver took, with their timestamps."""
    before_ns: int = 0
    """Just before the last frame was handed to the driver (ns since the Unix epoch): every answer to it is newer."""
    error: BusError | None = None
    """Why the next frame failed; those after it were not tried."""


class AgentBus:
    """One bus with its database. `run` keeps it open; whoever needs it asks for `require`."""

    def __init__(
        self,
        bench: str,
        config: BusConfig,
        on_up: Callable[["AgentBus"], Awaitable[None]],
        on_down: Callable[["AgentBus"], Awaitable[None]],
        on_state: Callable[[], None] = lambda: None,
    ) -> None:
        """``on_state`` is called when the state of the open bus has changed."""
        self.config = config
        self.name = config.name
        self.hub: BusHub | None = None
        self.fault: str | None = f"CAN bus {config.name!r} is not open yet"
        """Why the bus is not open; None when it is."""
        self.database: Database | None = None
        self.database_fault: str | None = None
        """Why the database did not load; None when it did or there is none."""
        self.closed = asyncio.Event()
        """Set when the hub that is open now is not any more; each hub has its own event."""
        self.tried = asyncio.Event()
        """Set after the first attempt to open the bus."""
        self._title = f"{bench}/{config.name}"
        self.watch = BusWatch(self._title, config.bus_off, on_state)
        """What happens on the bus besides its frames."""
        self._on_up = on_up
        self._on_down = on_down
        # A bus that blocks its senders must not hold up the other buses.
        self._sender = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"send-{self._title}")

    def load_database(self) -> None:
        """Reads the database file, if one is configured."""
        if self.config.dbc is None:
            return
        try:
            self.database = Database.load(self.config.dbc)
        except DatabaseError as error:
            self.database_fault = str(error)

    def require(self) -> BusHub:
        """The open bus. Raises CallError (UNAVAILABLE) with the reason when it is down."""
        if self.hub is None:
            raise unavailable(self.fault or f"CAN bus {self.name!r} is down")
        return self.hub

    def require_to_send(self) -> BusHub:
        """The open bus, for what sends by itself. Raises CallError when it is down, or only listened to."""
        if self.config.listen_only:
            raise invalid(f"CAN bus {self.name!r} is only listened to (listen_only): nothing is sent on it")
        return self.require()

    async def run(self) -> None:
        """Keeps the bus open until cancelled; retries for ever, with growing pauses."""
        pause = _FIRST_RETRY_S
        try:
            while True:
                opened = time.monotonic()
                try:
                    hub = await self._open()
                except BusError as error:
                    if self.fault != str(error):
                        _log.warning("bus cannot be opened", bus=self._title, reason=str(error))
                    self.fault = str(error)
                    await self._on_down(self)
                    self.tried.set()
                else:
                    await self._use(hub)
                    if time.monotonic() - opened >= _STEADY_S:
                        pause = _FIRST_RETRY_S
                        continue
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - spreads retries, no secret
                pause = min(pause * 2, _LAST_RETRY_S)
        finally:
            self._sender.shutdown(wait=False, cancel_futures=True)

    async def send(self, messages: Sequence[can.Message]) -> Sent:
        """Puts frames on the bus in order; stops at the first that fails. Raises CallError when the bus is down.

        When cancelled, no further frame is sent; it waits for the one that the driver has in hand.
        """
        hub = self.require()
        return await self._hand_over(lambda stop: _send_all(hub, messages, stop))

    async def send_records(self, records: Records) -> Taken:
        """The same for packed frames, many at a time."""
        hub = self.require()
        return await self._hand_over(lambda stop: hub.send_records(records, stop=stop.is_set))

    async def _hand_over(self, work: Callable[[threading.Event], T]) -> T:
        stop = threading.Event()
        sending = asyncio.get_running_loop().run_in_executor(self._sender, work, stop)
        try:
            return await asyncio.shield(sending)
        except asyncio.CancelledError:
            stop.set()
            await asyncio.wait([sending], timeout=2.0)
            raise

    async def _open(self) -> BusHub:
        opening = asyncio.create_task(asyncio.to_thread(BusHub.open, self._title, self.config))
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_close_late)
            raise

    async def _use(self, hub: BusHub) -> None:
        """Serves with an open bus until its reader ends."""
        loop = asyncio.get_running_loop()
        failed = asyncio.Event()
        hub.on_error = lambda _reason: _set_threadsafe(loop, failed)
        if hub.error is not None:
            failed.set()
        self.hub, self.fault, self.closed = hub, None, asyncio.Event()
        self.watch.attach(hub)
        try:
            await self._on_up(self)
            self.tried.set()
            await failed.wait()
            self.fault = hub.error or f"CAN bus {self.name!r} failed"
        finally:
            self.hub = None
            if self.fault is None:
                self.fault = f"CAN bus {self.name!r} is closed"
            self.closed.set()
            try:
                await self.watch.detach()
                await self._on_down(self)
            finally:
                await asyncio.to_thread(hub.close)


def _send_all(hub: BusHub, messages: Sequence[can.Message], stop: threading.Event) -> Sent:
    sent = Sent([])
    for message in messages:
        if stop.is_set():
            break
        before = time.time_ns()
        try:
            message.timestamp = hub.send(message)
            message.is_rx = False
        except BusError as error:
            sent.error = error
            break
        sent.taken.append(message)
        sent.before_ns = before
    return sent


def _close_late(opening: "asyncio.Task[BusHub]") -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()


def _set_threadsafe(loop: asyncio.AbstractEventLoop, event: asyncio.Event) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(event.set)
