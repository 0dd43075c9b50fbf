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
from typing import Self

import can
import structlog

from ecu_adapters import can_link, error_frames, raw_socket
from ecu_adapters import frame_records as packed
from ecu_adapters.broadcast import BroadcastJob
from ecu_adapters.burst import Burst
from ecu_adapters.bus_node import BusNode
from ecu_adapters.bus_port import BusError, BusPort, FrameError, Listener, Owner, Subscription, Taken, Tap, place
from ecu_adapters.bus_routes import Delivery, Routes, parted
from ecu_adapters.bus_state import BusMonitor, FramesLost
from ecu_adapters.can_config import CanConfig
from ecu_adapters.can_driver import Driver, PythonCan, error_code, reason_of
from ecu_adapters.can_open import open_driver
from ecu_adapters.error_frames import BusState
from ecu_adapters.frame_records import EXTENDED as EXTENDED_FLAG
from ecu_adapters.frame_records import FD_LENGTHS, Records
from ecu_adapters.turns import Turns

__all__ = [
    "EXTENDED_FLAG", "FD_LENGTHS", "BusError", "BusHub", "BusNode", "BusPort", "CanConfig", "FrameError", "HubStats",
    "Subscription",
]  # fmt: skip

_RECV_TIMEOUT_S = 0.1
"""How long a closing hub may wait for its reader."""
_RESTART_S = 5.0
"""How long a restart waits for those who are sending."""
_RETRY_S = 0.0005
"""Pause before a frame is offered again to a driver whose queue was full (ENOBUFS)."""
_SET_UP_S = 0.1
"""How long other senders may keep the kernel from being told what to send."""
_FULL = frozenset({errno.ENOBUFS, errno.EAGAIN})
"""What a driver says whose queue is full."""

_log = structlog.get_logger()


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
        self._routes = Routes({})
        self._turns: Turns[Delivery] = Turns(self._deliver)
        self._closing = threading.Event()
        self._reader = threading.Thread(target=self._read, name=f"can-{name}", daemon=True)
        self._reader.start()

    @classmethod
    def open(cls, name: str, config: CanConfig, *, remember: int = 4096) -> "BusHub":
        """Opens the bus and starts its reader; ``remember`` frames are kept for `recent`. Raises BusError."""
        try:
            link = can_link.prepare(config) if config.interface == "socketcan" else None
            driver = open_driver(config)
        except Exception as error:
            # Drivers raise what they like, from OSError to NameError; each means that there is no bus.
            raise BusError(f"{place(name, config)} cannot be opened: {reason_of(error)}") from error
        hub = cls(name, driver, config, remember=remember)
        if link is not None:
            hub.link = link
            if link.state is not None:
                hub.monitor.begin(link.state, link.tx_errors, link.rx_errors)
        return hub

    def node(self, name: str) -> BusNode:
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

    def send_from(self, sender: Owner, message: can.Message, timeout_s: float) -> float:
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
        self, sender: Owner, records: Records, timeout_s: float, stop: Callable[[], bool] = lambda: False
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
                raise self._failed(reason_of(error)) from error

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
            raise BusError(f"{place(self.name, self.config)} cannot be restarted: {reason_of(error)}") from error

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
            _log.warning("bus did not close cleanly", bus=self.name, reason=reason_of(error))

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
                    self._fail(reason_of(error))
                return
            if driver.lost != self.stats.lost:
                self._count_lost(driver.lost)
            if burst is not None:
                for part in parted(burst):
                    if part.own:
                        self.stats.sent += len(part)
                    else:
                        self.stats.received += len(part)
                    self._turns.add(Delivery(part, self if part.own else None))
                # Waiting its turn, the reader cannot flood a sender that happens to deliver.
                self._turns.run(wait=True)

    def _deliver(self, delivery: Delivery) -> None:
        burst, sender = delivery.burst, delivery.sender
        seen = burst.seen(own=sender is self)
        self._recent.append(seen)
        self._remembered += len(seen)
        while self._remembered - len(self._recent[0]) >= self._remember:
            self._remembered -= len(self._recent.popleft())
        routes = self._routes  # of now: who subscribes once a tap has shown a frame is not to get it as a new one
        for subscription in self._taps:
            if subscription.tap is not None:
                try:
                    subscription.tap(burst.seen(own=sender is subscription.port))
                except Exception as error:
                    self._blame(subscription, error)
        errors, hits = routes.sift(burst)
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

    def _sent(self, burst: Burst, sender: Owner) -> None:
        # While others cannot send, so that the order is that of the bus.
        self.stats.sent += len(burst)
        self._turns.add(Delivery(burst, sender))

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
        self.error = f"{place(self.name, self.config)} failed: {reason}"
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
                if error_code(error) in _FULL and left > _RETRY_S:
                    self.stats.send_retries += 1
                    time.sleep(_RETRY_S)
                    continue
                raise self._failed(reason_of(error)) from error

    def _failed(self, reason: str) -> BusError:
        self.stats.send_failed += 1
        where = place(self.name, self.config)
        return BusError(reason if reason.startswith(where) else f"{where} did not take the frame: {reason}")

    def _silent(self) -> str:
        return f"{place(self.name, self.config)} is only listened to (listen_only): nothing is sent on it"

    def _check(self, message: can.Message) -> None:
        if self.config.listen_only:
            raise FrameError(self._silent())
        limit = 0x1FFF_FFFF if message.is_extended_id else 0x7FF
        identifier, length = message.arbitration_id, len(message.data)
        if not 0 <= identifier <= limit:
            raise FrameError(f"arbitration ID 0x{identifier:X} is above 0x{limit:X}")
        if message.is_fd:
            if not self.config.fd:
                raise FrameError(f"{place(self.name, self.config)} is classic CAN; the frame is CAN FD")
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
        self._routes = Routes(by_id)
