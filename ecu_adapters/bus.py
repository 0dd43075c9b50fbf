"""One CAN bus, one reader thread, many listeners.

python-can hands each received frame to whoever calls ``recv`` first. A hub owns the bus, is the only one to call it,
and shares every frame out, so that ISO-TP, recorders and streams do not steal from each other. A listener that raises
is counted and logged; a driver that fails ends the reader with a reason that can be read and is called back. Nothing
dies silently.

Besides the hub itself, other *nodes* may share it (`BusHub.node`), such as simulated ECUs: what one sends, the others
receive, as with the local loopback of Linux. Every listener hears all frames in the same order.
"""

import errno
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from copy import copy
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self

import can
import structlog
from can.interfaces.virtual import VirtualBus
from pydantic import BaseModel, ConfigDict, Field

EXTENDED_FLAG = 0x8000_0000
"""Bit of a SocketCAN arbitration ID: 29-bit identifier (CAN_EFF_FLAG)."""
FD_LENGTHS = frozenset((0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 20, 24, 32, 48, 64))
"""Data lengths in bytes that a CAN FD frame can have (ISO 11898-1, DLC table)."""

Listener = Callable[[can.Message], None]
Tap = Callable[[Sequence[can.Message]], None]

_RECV_TIMEOUT_S = 0.1
"""How long a closing hub may wait for its reader."""
_RETRY_S = 0.0005
"""Pause before a frame is offered again to a driver whose queue was full (ENOBUFS)."""
_ECHO_S = 1.0
"""How long an own frame is awaited back on interfaces that echo."""
_ECHOING = frozenset({"udp_multicast"})
"""Interfaces that hand a node its own frames back and cannot be told not to."""
_EPOCH_S = 1_000_000_000.0
"""Smaller timestamps are not seconds since the Unix epoch but since the driver's start."""
_BURST = 256
"""Frames that are read before they are shared out, if so many wait."""
_VIRTUAL_QUEUE = 100_000
"""Frames that wait for a reader on python-can's virtual bus, which has no bound of its own."""

_WAKE_UP = can.Message()
"""Ends a reader's wait on a bus that closes; it was never on the bus."""

_log = structlog.get_logger()


class CanConfig(BaseModel):
    """Which bus to open, in python-can's terms."""

    model_config = ConfigDict(extra="forbid")

    interface: str = Field(min_length=1, description="virtual, socketcan, udp_multicast, socketcand, vector, ...")
    channel: str = Field(min_length=1)
    bitrate: int | None = Field(default=None, gt=0, le=8_000_000, description="bit/s; null: as the interface is set up")
    fd: bool = False
    data_bitrate: int | None = Field(default=None, gt=0, le=16_000_000, description="bit/s of the FD data phase")
    options: dict[str, Any] = Field(default={}, description="further arguments of python-can's bus class")


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
    error_frames: int = 0
    listener_errors: int = 0


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

    def subscribe(self, listener: Listener, *, ids: Collection[int]) -> "Subscription":
        """As `BusHub.subscribe`."""


class _Owner(Protocol):
    def unsubscribe(self, subscription: "Subscription") -> None: ...


class Subscription:
    """A listener's or a tap's place at a bus, until closed."""

    def __init__(self, port: _Owner, hear: Tap, ids: frozenset[int] | None) -> None:
        self.port = port
        """Whose own frames are own to the listener."""
        self.hear = hear
        self.ids = ids
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

    def __init__(self, name: str, bus: can.BusABC, config: CanConfig, *, remember: int = 4096) -> None:
        """Takes over ``bus`` and starts reading; use `open` unless the bus exists already."""
        self.name = name
        self.config = config
        self.stats = HubStats()
        self.error: str | None = None
        """Why the reader ended; None while it runs."""
        self.on_error: Callable[[str], None] | None = None
        """Called once, on the reader's thread, when the reader ends by itself."""
        self._bus = bus
        self._lock = threading.Lock()
        self._send_lock = threading.Lock()
        self._recent: deque[can.Message] = deque(maxlen=remember)
        self._subscriptions: tuple[Subscription, ...] = ()
        # Snapshots that the reader uses without locking; replaced as a whole.
        self._taps: tuple[Subscription, ...] = ()
        self._for_id: dict[int, tuple[Subscription, ...]] = {}
        self._echoes = _Echoes() if config.interface in _ECHOING else None
        self._turns = _Turns(self._deliver)
        self._closing = threading.Event()
        self._reader = threading.Thread(target=self._read, name=f"can-{name}", daemon=True)
        self._reader.start()

    @classmethod
    def open(cls, name: str, config: CanConfig, *, remember: int = 4096) -> "BusHub":
        """Opens the bus and starts its reader; ``remember`` frames are kept for `recent`. Raises BusError."""
        options: dict[str, Any] = dict(config.options)
        if config.interface == "virtual":
            options.setdefault("rx_queue_size", _VIRTUAL_QUEUE)
        elif config.fd or config.interface == "udp_multicast":
            options.setdefault("fd", config.fd)
        for key in ("bitrate", "data_bitrate"):
            value = getattr(config, key)
            if value is not None and config.interface != "virtual":
                options.setdefault(key, value)
        try:
            bus = can.Bus(interface=config.interface, channel=config.channel, ignore_config=True, **options)
        except Exception as error:
            # Drivers raise what they like, from OSError to NameError; each means that there is no bus.
            raise BusError(f"{_place(name, config)} cannot be opened: {_reason(error)}") from error
        return cls(name, bus, config, remember=remember)

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
        return self.add(Subscription(self, _one_by_one(listener), frozenset(ids)))

    def tap(self, tap: Tap) -> Subscription:
        """Delivers everything from now on, error frames too, in bursts: what had arrived when the reader looked.

        Frames sent through this hub are delivered too, with ``is_rx`` False. A tap must not change the messages.
        """
        return self.add(Subscription(self, tap, None))

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
        deadline = time.monotonic() + timeout_s
        if not self._send_lock.acquire(timeout=max(timeout_s, 0)):
            raise self._failed(f"other senders kept the bus busy for {timeout_s:g} s")
        try:
            if self.error is not None or self._closing.is_set():
                raise self._failed(self.error or "the bus is closed")
            if self._echoes is not None:
                self._echoes.expect(message)
            taken = copy(message)
            taken.data = bytearray(message.data)
            taken.channel = self.config.channel
            taken.timestamp = self._offer(message, deadline)
            taken.is_rx = sender is not self
            self.stats.sent += 1
            self._turns.add(_Burst((taken,), sender))
        finally:
            self._send_lock.release()
        self._turns.run()
        return taken.timestamp

    def recent(self, since: float = 0.0) -> list[can.Message]:
        """The last frames in both directions, oldest first, with a timestamp after ``since`` (s, Unix epoch)."""
        # One call in C: no other thread can append meanwhile, and the reader needs no lock for each frame.
        frames = list(self._recent.copy())
        return [frame for frame in frames if frame.timestamp > since] if since else frames

    def close(self) -> None:
        """Ends the reader and closes the bus. Never raises; closing twice does nothing."""
        if self._closing.is_set():
            return
        self._closing.set()
        if threading.current_thread() is not self._reader:
            if isinstance(self._bus, VirtualBus):
                # Wakes the reader at once; other drivers are waited for until their read returns by itself.
                with suppress(queue.Full):
                    self._bus.queue.put_nowait(_WAKE_UP)
            self._reader.join(timeout=10 * _RECV_TIMEOUT_S)
        with self._lock:
            self._set_subscriptions(())
        try:
            self._bus.shutdown()
        except Exception as error:
            _log.warning("bus did not close cleanly", bus=self.name, reason=_reason(error))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _read(self) -> None:
        closing = self._closing.is_set
        while not closing():
            burst: list[can.Message] = []
            try:
                self._receive(burst)
            except Exception as error:
                # Whatever a driver raises: from here on nothing is received, and that must not go unnoticed.
                self._share(burst)
                if not closing():
                    self._fail(_reason(error))
                return
            self._share(burst)

    def _share(self, burst: list[can.Message]) -> None:
        if burst:
            self.stats.received += len(burst)
            # Waiting its turn, the reader cannot flood a sender that happens to deliver.
            self._turns.add(_Burst(burst, None))
            self._turns.run(wait=True)

    def _receive(self, burst: list[can.Message]) -> None:
        """Waits for a frame and puts it into ``burst``, with those that have come meanwhile."""
        receive, echoes = self._bus.recv, self._echoes
        message = receive(_RECV_TIMEOUT_S)
        while message is not None:
            if message is _WAKE_UP:
                return
            if echoes is None or not echoes.is_echo(message):
                if message.timestamp < _EPOCH_S:
                    message.timestamp = time.time()
                message.is_rx = True
                burst.append(message)
            message = receive(0) if len(burst) < _BURST else None

    def _deliver(self, burst: "_Burst") -> None:
        self._recent.extend(burst.seen_by(self))
        for tap in self._taps:
            self._tell(tap, burst.seen_by(tap.port))
        for position, message in enumerate(burst.frames):
            if message.is_error_frame:
                self.stats.error_frames += 1
                continue
            can_id = message.arbitration_id | EXTENDED_FLAG if message.is_extended_id else message.arbitration_id
            for subscription in self._for_id.get(can_id, ()):
                seen = burst.seen_by(subscription.port)
                self._tell(subscription, (seen[position],) if len(seen) > 1 else seen)

    def _tell(self, subscription: Subscription, frames: Sequence[can.Message]) -> None:
        try:
            subscription.hear(frames)
        except Exception as error:
            self._blame(subscription, error)

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

    def _offer(self, message: can.Message, deadline: float) -> float:
        """Returns the moment before the driver took it: whatever answers the frame is newer."""
        while True:
            left = deadline - time.monotonic()
            stamp = time.time()
            try:
                self._bus.send(message, timeout=max(left, 0.0))
                return stamp
            except can.CanError as error:
                if error.error_code == errno.ENOBUFS and left > _RETRY_S:
                    self.stats.send_retries += 1
                    time.sleep(_RETRY_S)
                    continue
                raise self._failed(_reason(error)) from error
            except Exception as error:
                raise self._failed(_reason(error)) from error

    def _failed(self, reason: str) -> BusError:
        self.stats.send_failed += 1
        place = _place(self.name, self.config)
        return BusError(reason if reason.startswith(place) else f"{place} did not take the frame: {reason}")

    def _check(self, message: can.Message) -> None:
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
            for can_id in subscription.ids or ():
                by_id[can_id] = (*by_id.get(can_id, ()), subscription)
        self._subscriptions = subscriptions
        self._taps = tuple(s for s in subscriptions if s.ids is None)
        self._for_id = by_id


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
            raise BusError(f"{_place(self.name, self.config)} did not take the frame: {self._away}")
        return hub.send_from(self, message, timeout_s)

    def subscribe(self, listener: Listener, *, ids: Collection[int]) -> Subscription:
        """As `BusHub.subscribe`; ``is_rx`` is False for what this node has sent."""
        return self._add(Subscription(self, _one_by_one(listener), frozenset(ids)))

    def tap(self, tap: Tap) -> Subscription:
        """As `BusHub.tap`; ``is_rx`` is False for what this node has sent."""
        return self._add(Subscription(self, tap, None))

    def unsubscribe(self, subscription: Subscription) -> None:
        """The same as `Subscription.close`."""
        with self._lock:
            self._subscriptions = tuple(s for s in self._subscriptions if s is not subscription)
            if self._hub is not None:
                self._hub.unsubscribe(subscription)

    def _add(self, subscription: Subscription) -> Subscription:
        with self._lock:
            self._subscriptions = (*self._subscriptions, subscription)
            if self._hub is not None:
                self._hub.add(subscription)
        return subscription


class _Burst:
    """Frames on their way to the listeners, and who has sent them; None: somebody else on the bus."""

    def __init__(self, frames: Sequence[can.Message], sender: _Owner | None) -> None:
        self.frames = frames
        self._sender = sender
        self._is_rx = frames[0].is_rx
        self._other: Sequence[can.Message] | None = None

    def seen_by(self, port: _Owner) -> Sequence[can.Message]:
        """The same frames, with ``is_rx`` as ``port`` sees them."""
        is_rx = port is not self._sender
        if is_rx is self._is_rx:
            return self.frames
        if self._other is None:
            self._other = [copy(frame) for frame in self.frames]
            for frame in self._other:
                frame.is_rx = is_rx
        return self._other


class _Turns:
    """Puts bursts of several threads in one row, each delivered by the thread that finds nobody else doing so.

    A thread that adds while another delivers leaves its burst to that one and never waits, so that hubs whose
    listeners send on each other cannot lock up, and a listener that sends is not called from within itself.
    """

    def __init__(self, deliver: Callable[[_Burst], None]) -> None:
        self._deliver = deliver
        self._free = threading.Condition()
        self._busy = False
        self._row: deque[_Burst] = deque()

    def add(self, burst: _Burst) -> None:
        """Gives ``burst`` its place in the row; `run` must follow."""
        self._row.append(burst)

    def run(self, *, wait: bool = False) -> None:
        """Delivers what is in the row, unless another thread does; with ``wait``, returns when that one is done."""
        with self._free:
            if self._busy:
                if wait:
                    self._free.wait_for(lambda: not self._busy)
                return
            self._busy = True
        while True:
            while self._row:
                self._deliver(self._row.popleft())
            with self._free:
                if not self._row:
                    self._busy = False
                    self._free.notify_all()
                    return


class _Echoes:
    """Own frames that an echoing interface will hand back, so that each is dropped once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._awaited: deque[tuple[float, tuple[object, ...]]] = deque()

    def expect(self, message: can.Message) -> None:
        with self._lock:
            self._awaited.append((time.monotonic() + _ECHO_S, self._key(message)))

    def is_echo(self, message: can.Message) -> bool:
        key = self._key(message)
        now = time.monotonic()
        with self._lock:
            # UDP may lose an echo: forget it in time, or it would swallow somebody else's equal frame.
            while self._awaited and self._awaited[0][0] < now:
                self._awaited.popleft()
            for index, (_, awaited) in enumerate(self._awaited):
                if awaited == key:
                    del self._awaited[index]
                    return True
            return False

    @staticmethod
    def _key(message: can.Message) -> tuple[object, ...]:
        return (message.arbitration_id, message.is_extended_id, message.is_fd, message.dlc, bytes(message.data))


def _one_by_one(listener: Listener) -> Tap:
    def hear(frames: Sequence[can.Message]) -> None:
        listener(frames[0])

    return hear


def _place(name: str, config: CanConfig) -> str:
    return f"CAN bus {name!r} ({config.interface} {config.channel})"


def _reason(error: BaseException) -> str:
    """The driver's words, with the operating system's where they lie underneath."""
    text = str(error) or type(error).__name__
    if isinstance(error, KeyError | NameError | TypeError):
        text = f"{type(error).__name__}: {text}"
    cause = error.__cause__
    return f"{text} ({cause})" if cause is not None and str(cause) and str(cause) not in text else text
