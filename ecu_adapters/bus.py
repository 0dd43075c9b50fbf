"""One CAN bus, one reader thread, many listeners.

python-can hands each received frame to whoever calls ``recv`` first. A hub owns the bus, is the only one to call it,
and shares every frame out, so that ISO-TP, recorders and streams do not steal from each other. A listener that raises
is counted and logged; a driver that fails ends the reader with a reason that can be read and is called back. Nothing
dies silently.
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
from typing import Any, Self

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


class Subscription:
    """A listener's or a tap's place at a hub, until closed."""

    def __init__(self, hub: "BusHub", hear: Tap, ids: frozenset[int] | None) -> None:
        self._hub = hub
        self.hear = hear
        self.ids = ids
        self.errors = 0

    def close(self) -> None:
        """No further frame is delivered, save one that is on its way in another thread."""
        self._hub.unsubscribe(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


class BusHub:
    """A shared CAN bus. All methods may be called from any thread.

    Listeners run on the reader's thread, and for frames sent through this hub on the sender's; they must be quick.
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

    def subscribe(self, listener: Listener, *, ids: Collection[int]) -> Subscription:
        """Delivers every frame with one of ``ids`` from now on (as in SocketCAN: bit 31 marks a 29-bit one).

        Frames sent through this hub are delivered too, with ``is_rx`` False. Error frames have no ID and are not. A
        listener must not change the message: others get the same object.
        """

        def hear(frames: Sequence[can.Message]) -> None:
            listener(frames[0])

        return self._add(Subscription(self, hear, frozenset(ids)))

    def tap(self, tap: Tap) -> Subscription:
        """Delivers everything from now on, error frames too, in bursts: what had arrived when the reader looked.

        Frames sent through this hub are delivered too, with ``is_rx`` False. A tap must not change the messages.
        """
        return self._add(Subscription(self, tap, None))

    def unsubscribe(self, subscription: Subscription) -> None:
        """The same as `Subscription.close`."""
        with self._lock:
            self._set_subscriptions(tuple(s for s in self._subscriptions if s is not subscription))

    def _add(self, subscription: Subscription) -> Subscription:
        with self._lock:
            self._set_subscriptions((*self._subscriptions, subscription))
        return subscription

    def send(self, message: can.Message, timeout_s: float = 1.0) -> float:
        """Puts a frame on the bus and returns when: seconds since the Unix epoch.

        A full transmit queue (ENOBUFS) is retried until ``timeout_s``. Raises FrameError when the frame cannot exist
        on this bus, BusError when the driver did not take it.
        """
        self._check(message)
        deadline = time.monotonic() + timeout_s
        if not self._send_lock.acquire(timeout=max(timeout_s, 0)):
            raise self._failed(f"other senders kept the bus busy for {timeout_s:g} s")
        try:
            if self.error is not None or self._closing.is_set():
                raise self._failed(self.error or "the bus is closed")
            if self._echoes is not None:
                self._echoes.expect(message)
            self._offer(message, deadline)
            own = copy(message)
            own.data = bytearray(message.data)
            own.is_rx = False
            own.timestamp = time.time()
            own.channel = self.config.channel
            self.stats.sent += 1
        finally:
            self._send_lock.release()
        self._deliver((own,))
        return own.timestamp

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
                self._deliver(burst)
                if not closing():
                    self._fail(_reason(error))
                return
            self._deliver(burst)

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

    def _deliver(self, burst: Sequence[can.Message]) -> None:
        if not burst:
            return
        self._recent.extend(burst)
        if burst[0].is_rx:
            self.stats.received += len(burst)
        for tap in self._taps:
            self._tell(tap, burst)
        for message in burst:
            if message.is_error_frame:
                self.stats.error_frames += 1
                continue
            can_id = message.arbitration_id | EXTENDED_FLAG if message.is_extended_id else message.arbitration_id
            for subscription in self._for_id.get(can_id, ()):
                self._tell(subscription, (message,))

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

    def _offer(self, message: can.Message, deadline: float) -> None:
        while True:
            left = deadline - time.monotonic()
            try:
                self._bus.send(message, timeout=max(left, 0.0))
                return
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


def _place(name: str, config: CanConfig) -> str:
    return f"CAN bus {name!r} ({config.interface} {config.channel})"


def _reason(error: BaseException) -> str:
    """The driver's words, with the operating system's where they lie underneath."""
    text = str(error) or type(error).__name__
    if isinstance(error, KeyError | NameError | TypeError):
        text = f"{type(error).__name__}: {text}"
    cause = error.__cause__
    return f"{text} ({cause})" if cause is not None and str(cause) and str(cause) not in text else text
