"""One CAN bus, one reader thread, many listeners.

python-can hands each received frame to whoever calls ``recv`` first. A hub owns the bus, is the only one to call it,
and shares every frame out, so that ISO-TP, recorders and streams do not steal from each other. A listener that raises
is counted and logged; a driver that fails ends the reader with a reason that can be read and is called back. Nothing
dies silently.

Besides the hub itself, other *nodes* may share it (`BusHub.node`), such as simulated ECUs: what one sends, the others
receive, as with the local loopback of Linux. Every listener hears all frames in the same order.
"""

import errno
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self

import can
import numpy as np
import structlog

from ecu_adapters import can_link, error_frames, raw_socket
from ecu_adapters import frame_records as packed
from ecu_adapters.broadcast import BroadcastJob
from ecu_adapters.burst import Burst
from ecu_adapters.bus_state import BusMonitor, FramesLost
from ecu_adapters.can_config import SILENT_OPTIONS, CanConfig
from ecu_adapters.can_driver import Driver, PythonCan
from ecu_adapters.error_frames import BusState
from ecu_adapters.frame_records import EXTENDED as EXTENDED_FLAG
from ecu_adapters.frame_records import FD_LENGTHS, NONE, Records
from ecu_adapters.turns import Turns

__all__ = [
    "EXTENDED_FLAG", "FD_LENGTHS", "BusError", "BusHub", "BusNode", "BusPort", "CanConfig", "FrameError", "HubStats",
    "Subscription",
]  # fmt: skip

Listener = Callable[[can.Message], None]
Tap = Callable[[Burst], None]

_RECV_TIMEOUT_S = 0.1
"""How long a closing hub may wait for its reader."""
_RESTART_S = 5.0
"""How long a restart waits for those who are sending."""
_RETRY_S = 0.0005
"""Pause before a frame is offered again to a driver whose queue was full (ENOBUFS)."""
_SET_UP_S = 0.1
"""How long other senders may keep the kernel from being told what to send."""
_FEW = 128
"""Frames whose IDs are looked up one by one; more are first sifted as an array."""
_VIRTUAL_QUEUE = 100_000
"""Frames that wait for a reader on python-can's virtual bus, which has no bound of its own."""
_FULL = frozenset({errno.ENOBUFS, errno.EAGAIN})
"""What a driver says whose queue is full."""

_log = structlog.get_logger()


class BusError(Exception):
    """A bus cannot be opened, has failed, or did not take a frame. Names bus, interface, channel and reason."""


class FrameError(BusError):
    """A frame is not valid on this bus."""


@dataclass(slots=True)
class HubStats:
    """Counters since the hub was opened."""

    received: int = 0
    sent: int = 0
    send_failed: int = 0
    send_retries: int = 0
    """Offers that the driver's full queue refused (ENOBUFS)."""
    lost: int = 0
    """Frames that the kernel or the driver dropped before they reached the hub, as far as it says."""
    error_frames: int = 0
    listener_errors: int = 0
    late: int = 0
    """Frames that a protocol's side on this machine (ISO-TP, J1939) was too far behind to take."""


class BusPort(Protocol):
    """A node's access to a bus: a `BusHub`, or one of the nodes that share it. Usable from any thread."""

    @property
    def name(self) -> str:
        """Of the bus or the node, for messages."""

    @property
    def config(self) -> CanConfig:
        """The bus' settings."""

    def send(self, message: can.Message, timeout_s: float = 1.0) -> float:
        """As `BusHub.send`."""

    def send_records(self, records: Records, timeout_s: float = 1.0) -> "Taken":
        """As `BusHub.send_records`."""

    def subscribe(self, listener: Listener, *, ids: Collection[int]) -> "Subscription":
        """As `BusHub.subscribe`."""

    def note_late(self) -> None:
        """As `BusHub.note_late`."""


@dataclass(frozen=True, slots=True)
class Taken:
    """How far a row of frames came."""

    records: Records
    """The frames that the driver took, stamped and marked as own."""
    error: BusError | None = None
    """Why the next frame failed; those after it were not tried."""


class _Owner(Protocol):
    def unsubscribe(self, subscription: "Subscription") -> None: ...


class Subscription:
    """A listener's (with ``ids``) or a tap's (without) place at a bus, until closed."""

    def __init__(
        self, port: _Owner, *, tap: Tap | None = None, listener: Listener | None = None, ids: Collection[int] = ()
    ) -> None:
        self.port = port
        """Whose own frames are own to the listener."""
        self.tap = tap
        self.listener = listener
        self.ids = frozenset(ids)
        self.errors = 0

    def close(self) -> None:
        """No further frame is delivered, save one that is on its way in another thread."""
        self.port.unsubscribe(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


class BusHub:
    """A shared CAN bus. All methods may be called from any thread.

    Listeners run on the reader's thread, or on that of somebody who sends through this hub; they must be quick. One
    that sends is not called from within itself: what it sends is delivered once it has returned.
    """

    def __init__(self, name: str, bus: can.BusABC | Driver, config: CanConfig, *, remember: int = 4096) -> None:
        """Takes over ``bus`` and starts reading; use `open` unless the bus exists already."""
        self.name = name
        self.config = config
        self.stats = HubStats()
        self.monitor = BusMonitor()
        """The controller's state, and its errors."""
        self.link: can_link.Link | None = None
        """SocketCAN's interface as it was when the bus was opened."""
        self.error: str | None = None
        """Why the reader ended; None while it runs."""
        self.on_error: Callable[[str], None] | None = None
        """Called once, on the reader's thread, when the reader ends by itself."""
        self._driver: Driver = PythonCan(bus, config.interface) if isinstance(bus, can.BusABC) else bus
        self._lock = threading.Lock()
        self._send_lock = threading.Lock()
        self._recent: deque[Burst] = deque()
        self._remember = remember
        self._remembered = 0
        self._subscriptions: tuple[Subscription, ...] = ()
        # Snapshots that the reader uses without locking; replaced as a whole.
        self._taps: tuple[Subscription, ...] = ()
        self._routes = _Routes({})
        self._turns: Turns[_Delivery] = Turns(self._deliver)
        self._closing = threading.Event()
        self._reader = threading.Thread(target=self._read, name=f"can-{name}", daemon=True)
        self._reader.start()

    @classmethod
    def open(cls, name: str, config: CanConfig, *, remember: int = 4096) -> "BusHub":
        """Opens the bus and starts its reader; ``remember`` frames are kept for `recent`. Raises BusError."""
        try:
            link = can_link.prepare(config) if config.interface == "socketcan" else None
            driver = _open(config)
        except Exception as error:
            # Drivers raise what they like, from OSError to NameError; each means that there is no bus.
            raise BusError(f"{_place(name, config)} cannot be opened: {_reason(error)}") from error
        hub = cls(name, driver, config, remember=remember)
        if link is not None:
            hub.link = link
            if link.state is not None:
                hub.monitor.begin(link.state, link.tx_errors, link.rx_errors)
        return hub

    def node(self, name: str) -> "BusNode":
        """Another node on this bus, with no connection of its own: its frames are received ones to all others."""
        node = BusNode(name, self.config)
        node.attach(self)
        return node

    def subscribe(self, listener: Listener, *, ids: Collection[int]) -> Subscription:
        """Delivers every frame with one of ``ids`` from now on (as in SocketCAN: bit 31 marks a 29-bit one).

        Frames sent through this hub are delivered too, with ``is_rx`` False. Error frames have no ID and are not. A
        listener must not change the message: others get the same object.
        """
        return self.add(Subscription(self, listener=listener, ids=ids))

    def tap(self, tap: Tap) -> Subscription:
        """Delivers everything from now on, error frames too, in bursts: what had arrived when the reader looked.

        Frames sent through this hub are delivered too, with ``is_rx`` False. A tap must not change the messages.
        """
        return self.add(Subscription(self, tap=tap))

    def note_late(self) -> None:
        """A listener here was too far behind to take a frame. Any thread."""
        with self._lock:
            self.stats.late += 1

    def add(self, subscription: Subscription) -> Subscription:
        """Adds the subscription of a node; `subscribe` and `tap` make those of the hub itself."""
        with self._lock:
            self._set_subscriptions((*self._subscriptions, subscription))
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """The same as `Subscription.close`."""
        with self._lock:
            self._set_subscriptions(tuple(s for s in self._subscriptions if s is not subscription))

    def send(self, message: can.Message, timeout_s: float = 1.0) -> float:
        """Puts a frame on the bus and returns when: seconds since the Unix epoch.

        A full transmit queue (ENOBUFS) is retried until ``timeout_s``. Raises FrameError when the frame cannot exist
        on this bus, BusError when the driver did not take it.
        """
        return self.send_from(self, message, timeout_s)

    def send_from(self, sender: _Owner, message: can.Message, timeout_s: float) -> float:
        """The same, for a node: only to ``sender`` the frame is an own one."""
        self._check(message)
        taken = copy(message)
        taken.data = bytearray(message.data)
        taken.channel = self.config.channel
        taken.is_rx = False
        with self._sending(timeout_s):
            taken.timestamp, _ = self._offer(Burst.of(taken), 0, time.monotonic() + timeout_s)
            self._sent(Burst.of(taken), sender)
        self._turns.run()
        return taken.timestamp

    def send_records(
        self, records: Records, timeout_s: float = 1.0, *, stop: Callable[[], bool] = lambda: False
    ) -> Taken:
        """Puts frames on the bus, in order and many at a time, until ``stop`` says so or one fails.

        A full transmit queue is retried until it has taken nothing for ``timeout_s``. Never raises.
        """
        return self.send_records_from(self, records, timeout_s, stop)

    def send_records_from(
        self, sender: _Owner, records: Records, timeout_s: float, stop: Callable[[], bool] = lambda: False
    ) -> Taken:
        """The same, for a node: only to ``sender`` the frames are own ones."""
        wrong = (0, self._silent()) if self.config.listen_only else packed.fault(records, fd=self.config.fd)
        most = wrong[0] if wrong is not None else len(records)
        own = records[:most].copy()
        own["flags"] |= packed.OWN
        done = 0
        error: BusError | None = FrameError(wrong[1]) if wrong is not None else None
        try:
            with self._sending(timeout_s):
                burst = Burst(records=own, own=True, channel=self.config.channel)
                while done < most and not stop():
                    stamp, count = self._offer(burst, done, time.monotonic() + timeout_s)
                    own["stamp"][done : done + count] = packed.to_ns(stamp)
                    self._sent(Burst(records=own[done : done + count], own=True, channel=self.config.channel), sender)
                    done += count
        except BusError as failure:
            error = failure
        self._turns.run()
        return Taken(own[:done], error)

    def broadcast(self, frames: Sequence[can.Message], period_s: float) -> BroadcastJob | None:
        """Has the kernel send frames of one ID in turn, with a period (s): own frames, as if they were sent here.

        None where it cannot: only Linux can, on a SocketCAN interface. Raises BusError.
        """
        if not isinstance(self._driver, raw_socket.RawSocket):
            return None
        for frame in frames:
            self._check(frame)
        with self._sending(_SET_UP_S):
            try:
                return self._driver.broadcast(frames, period_s)
            except OSError as error:
                raise self._failed(_reason(error)) from error

    def recent(self, since: float = 0.0) -> list[can.Message]:
        """The last frames in both directions, oldest first, with a timestamp after ``since`` (s, Unix epoch)."""
        # One call in C: no other thread can append meanwhile, and the reader needs no lock for each frame.
        frames = [frame for burst in self._recent.copy() for frame in burst][-self._remember :]
        return [frame for frame in frames if frame.timestamp > since] if since else frames

    @property
    def bitrates(self) -> tuple[int | None, int | None]:
        """Of the arbitration phase and of the FD data phase, in bit/s; None where unknown."""
        nominal, data = self.config.bitrate, self.config.data_bitrate
        if self.link is not None:
            nominal, data = nominal or self.link.bitrate, data or self.link.data_bitrate
        return nominal, data

    def restart(self) -> None:
        """Brings a controller back that is bus-off; SocketCAN tells with an event when it is. Raises BusError.

        What somebody has in hand to send is waited for; takes some seconds at most.
        """
        try:
            with self._sending(_RESTART_S):
                if self._driver.restart():
                    self.monitor.enter(time.time_ns(), BusState.ERROR_ACTIVE)
        except BusError:
            raise
        except Exception as error:
            raise BusError(f"{_place(self.name, self.config)} cannot be restarted: {_reason(error)}") from error

    def close(self) -> None:
        """Ends the reader and closes the bus. Never raises; closing twice does nothing."""
        if self._closing.is_set():
            return
        self._closing.set()
        if threading.current_thread() is not self._reader:
            self._driver.wake()
            self._reader.join(timeout=10 * _RECV_TIMEOUT_S)
        with self._lock:
            self._set_subscriptions(())
        try:
            self._driver.close()
        except Exception as error:
            _log.warning("bus did not close cleanly", bus=self.name, reason=_reason(error))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _read(self) -> None:
        closing, driver = self._closing.is_set, self._driver
        while not closing():
            try:
                burst = driver.receive(_RECV_TIMEOUT_S)
            except Exception as error:
                # Whatever a driver raises: from here on nothing is received, and that must not go unnoticed.
                if not closing():
                    self._fail(_reason(error))
                return
            if driver.lost != self.stats.lost:
                self._count_lost(driver.lost)
            if burst is not None:
                for part in _parted(burst):
                    if part.own:
                        self.stats.sent += len(part)
                    else:
                        self.stats.received += len(part)
                    self._turns.add(_Delivery(part, self if part.own else None))
                # Waiting its turn, the reader cannot flood a sender that happens to deliver.
                self._turns.run(wait=True)

    def _deliver(self, delivery: "_Delivery") -> None:
        burst, sender = delivery.burst, delivery.sender
        seen = burst.seen(own=sender is self)
        self._recent.append(seen)
        self._remembered += len(seen)
        while self._remembered - len(self._recent[0]) >= self._remember:
            self._remembered -= len(self._recent.popleft())
        for subscription in self._taps:
            if subscription.tap is not None:
                try:
                    subscription.tap(burst.seen(own=sender is subscription.port))
                except Exception as error:
                    self._blame(subscription, error)
        errors, hits = self._routes.sift(burst)
        if errors:
            self._note_errors(burst, errors)
        for position, subscriptions in hits:
            for subscription in subscriptions:
                if subscription.listener is not None:
                    try:
                        subscription.listener(burst.seen(own=sender is subscription.port)[position])
                    except Exception as error:
                        self._blame(subscription, error)

    def _note_errors(self, burst: Burst, positions: list[int]) -> None:
        self.stats.error_frames += len(positions)
        for position in positions:
            record = burst.records[position]
            data = record["data"].tobytes()[: record["length"]]
            report = error_frames.decode(int(record["id"]), data, self.config.interface)
            try:
                self.monitor.error(int(record["stamp"]), report)
            except Exception as error:
                _log.error("on_event of a bus failed", bus=self.name, exc_info=error)

    def _count_lost(self, total: int) -> None:
        lost, self.stats.lost = total - self.stats.lost, total
        self.monitor.tell(FramesLost(time.time_ns(), lost, total))

    def _sent(self, burst: Burst, sender: _Owner) -> None:
        # While others cannot send, so that the order is that of the bus.
        self.stats.sent += len(burst)
        self._turns.add(_Delivery(burst, sender))

    @contextmanager
    def _sending(self, timeout_s: float) -> Iterator[None]:
        if not self._send_lock.acquire(timeout=max(timeout_s, 0)):
            raise self._failed(f"other senders kept the bus busy for {timeout_s:g} s")
        try:
            if self.error is not None or self._closing.is_set():
                raise self._failed(self.error or "the bus is closed")
            yield
        finally:
            self._send_lock.release()

    def _blame(self, subscription: Subscription, error: Exception) -> None:
        subscription.errors += 1
        self.stats.listener_errors += 1
        # A listener that fails for every frame must not fill the log: the 1st, 2nd, 4th, 8th, ... time is enough.
        if subscription.errors & (subscription.errors - 1) == 0:
            _log.error("bus listener failed", bus=self.name, times=subscription.errors, exc_info=error)

    def _fail(self, reason: str) -> None:
        self.error = f"{_place(self.name, self.config)} failed: {reason}"
        _log.error("bus reader ended", bus=self.name, reason=self.error)
        if self.on_error is not None:
            try:
                self.on_error(self.error)
            except Exception as error:
                _log.error("on_error of a bus failed", bus=self.name, exc_info=error)

    def _offer(self, frames: Burst, start: int, deadline: float) -> tuple[float, int]:
        """How many frames the driver took, and a moment before (s since the Unix epoch): what answers them is newer."""
        while True:
            left = deadline - time.monotonic()
            stamp = time.time()
            try:
                return stamp, self._driver.send(frames, start, max(left, 0.0))
            except Exception as error:
                if _error_code(error) in _FULL and left > _RETRY_S:
                    self.stats.send_retries += 1
                    time.sleep(_RETRY_S)
                    continue
                raise self._failed(_reason(error)) from error

    def _failed(self, reason: str) -> BusError:
        self.stats.send_failed += 1
        place = _place(self.name, self.config)
        return BusError(reason if reason.startswith(place) else f"{place} did not take the frame: {reason}")

    def _silent(self) -> str:
        return f"{_place(self.name, self.config)} is only listened to (listen_only): nothing is sent on it"

    def _check(self, message: can.Message) -> None:
        if self.config.listen_only:
            raise FrameError(self._silent())
        limit = 0x1FFF_FFFF if message.is_extended_id else 0x7FF
        identifier, length = message.arbitration_id, len(message.data)
        if not 0 <= identifier <= limit:
            raise FrameError(f"arbitration ID 0x{identifier:X} is above 0x{limit:X}")
        if message.is_fd:
            if not self.config.fd:
                raise FrameError(f"{_place(self.name, self.config)} is classic CAN; the frame is CAN FD")
            if length not in FD_LENGTHS:
                raise FrameError(f"data has {length} bytes; CAN FD takes one of {sorted(FD_LENGTHS)}")
        elif length > 8:
            raise FrameError(f"data has {length} bytes; a classic CAN frame takes at most 8")

    def _set_subscriptions(self, subscriptions: tuple[Subscription, ...]) -> None:
        by_id: dict[int, tuple[Subscription, ...]] = {}
        for subscription in subscriptions:
            for can_id in subscription.ids:
                by_id[can_id] = (*by_id.get(can_id, ()), subscription)
        self._subscriptions = subscriptions
        self._taps = tuple(s for s in subscriptions if s.tap is not None)
        self._routes = _Routes(by_id)


@dataclass(frozen=True, slots=True)
class _Delivery:
    """Frames on their way to the listeners, and who has sent them; None: somebody else on the bus."""

    burst: Burst
    sender: _Owner | None


class _Routes:
    """Who wants which arbitration ID."""

    def __init__(self, by_id: dict[int, tuple[Subscription, ...]]) -> None:
        self._by_id = by_id
        self._wanted = np.fromiter(by_id, np.uint32, len(by_id))

    def sift(self, burst: Burst) -> tuple[list[int], list[tuple[int, tuple[Subscription, ...]]]]:
        """The numbers of the error frames, and those of the frames that somebody wants."""
        if burst.is_packed and (len(burst) > _FEW or not self._by_id):
            ids = burst.records["id"]
            any_bit = int(np.bitwise_or.reduce(ids))
            errors: list[int] = np.flatnonzero(ids & packed.ERROR).tolist() if any_bit & packed.ERROR else []
            if not self._by_id:
                return errors, []
            ids = ids & ~np.uint32(packed.REMOTE)
            numbers = np.flatnonzero(np.isin(ids, self._wanted))
            return errors, [(number, self._by_id[int(ids[number])]) for number in numbers.tolist()]
        errors, hits = [], []
        for number, can_id in enumerate(burst.ids()):
            if can_id & packed.ERROR:
                errors.append(number)
            elif subscriptions := self._by_id.get(can_id & ~packed.REMOTE):
                hits.append((number, subscriptions))
        return errors, hits


class BusNode:
    """A node that shares a hub. It outlives the hub: detached it is deaf and cannot send, attached anew it goes on."""

    def __init__(self, name: str, config: CanConfig) -> None:
        """``config`` is that of the buses it will be attached to."""
        self.name = name
        self.config = config
        self._lock = threading.Lock()
        self._hub: BusHub | None = None
        self._away = "it is not attached to a bus"
        self._subscriptions: tuple[Subscription, ...] = ()

    @classmethod
    def alone(cls, name: str) -> "BusNode":
        """A node of a device that is on no CAN bus."""
        return cls(name, CanConfig(interface="virtual", channel="no bus"))

    def attach(self, hub: BusHub) -> None:
        """Joins the bus, with all subscriptions, and leaves the one before."""
        self.detach("it joins another bus")
        with self._lock:
            self._hub = hub
            for subscription in self._subscriptions:
                hub.add(subscription)

    def detach(self, reason: str) -> None:
        """Leaves the bus; from now on sending fails with ``reason``."""
        with self._lock:
            hub, self._hub, self._away = self._hub, None, reason
            if hub is not None:
                for subscription in self._subscriptions:
                    hub.unsubscribe(subscription)

    def send(self, message: can.Message, timeout_s: float = 1.0) -> float:
        """As `BusHub.send`. Raises BusError when detached, too."""
        hub = self._hub
        if hub is None:
            raise self._refused()
        return hub.send_from(self, message, timeout_s)

    def send_records(self, records: Records, timeout_s: float = 1.0) -> Taken:
        """As `BusHub.send_records`."""
        hub = self._hub
        return hub.send_records_from(self, records, timeout_s) if hub is not None else Taken(NONE, self._refused())

    def subscribe(self, listener: Listener, *, ids: Collection[int]) -> Subscription:
        """As `BusHub.subscribe`; ``is_rx`` is False for what this node has sent."""
        return self._add(Subscription(self, listener=listener, ids=ids))

    def tap(self, tap: Tap) -> Subscription:
        """As `BusHub.tap`; ``is_rx`` is False for what this node has sent."""
        return self._add(Subscription(self, tap=tap))

    def note_late(self) -> None:
        """As `BusHub.note_late`."""
        hub = self._hub
        if hub is not None:
            hub.note_late()

    def unsubscribe(self, subscription: Subscription) -> None:
        """The same as `Subscription.close`."""
        with self._lock:
            self._subscriptions = tuple(s for s in self._subscriptions if s is not subscription)
            if self._hub is not None:
                self._hub.unsubscribe(subscription)

    def _refused(self) -> BusError:
        return BusError(f"{_place(self.name, self.config)} did not take the frame: {self._away}")

    def _add(self, subscription: Subscription) -> Subscription:
        with self._lock:
            self._subscriptions = (*self._subscriptions, subscription)
            if self._hub is not None:
                self._hub.add(subscription)
        return subscription


def _open(config: CanConfig) -> Driver:
    if config.interface == "socketcan" and raw_socket.SUPPORTED and not config.options:
        return raw_socket.open_socketcan(config.channel, fd=config.fd)
    if config.interface == "unix":
        return raw_socket.open_unix(config.channel, fd=config.fd)
    options: dict[str, Any] = dict(config.options)
    if config.listen_only:
        options = SILENT_OPTIONS.get(config.interface, {}) | options
    if config.interface == "virtual":
        options.setdefault("rx_queue_size", _VIRTUAL_QUEUE)
    elif config.fd or config.interface == "udp_multicast":
        options.setdefault("fd", config.fd)
    for key in ("bitrate", "data_bitrate"):
        value = getattr(config, key)
        if value is not None and config.interface != "virtual":
            options.setdefault(key, value)

    def open_bus() -> can.BusABC:
        return can.Bus(interface=config.interface, channel=config.channel, ignore_config=True, **options)

    return PythonCan(open_bus(), config.interface, open_bus)


def _parted(burst: Burst) -> Sequence[Burst]:
    """Received frames apart from own ones that the kernel has sent by itself, in order."""
    if not burst.is_packed:
        return (burst,)
    flags = burst.records["flags"]
    if not np.bitwise_or.reduce(flags) & packed.OWN:
        return (burst,)
    own = flags & packed.OWN
    rows = np.split(burst.records, np.flatnonzero(np.diff(own)) + 1)
    return [Burst(records=row, own=bool(row["flags"][0] & packed.OWN), channel=burst.channel) for row in rows]


def _error_code(error: Exception) -> int | None:
    return error.error_code if isinstance(error, can.CanError) else getattr(error, "errno", None)


def _place(name: str, config: CanConfig) -> str:
    return f"CAN bus {name!r} ({config.interface} {config.channel})"


def _reason(error: BaseException) -> str:
    """The driver's words, with the operating system's where they lie underneath."""
    text = str(error) or type(error).__name__
    if isinstance(error, KeyError | NameError | TypeError):
        text = f"{type(error).__name__}: {text}"
    cause = error.__cause__
    return f"{text} ({cause})" if cause is not None and str(cause) and str(cause) not in text else text
