"""A node that shares a bus with others, such as a simulated ECU."""

import threading
from collections.abc import Collection
from typing import TYPE_CHECKING

import can

from ecu_adapters.bus_port import BusError, Listener, Subscription, Taken, Tap, place
from ecu_adapters.can_config import CanConfig
from ecu_adapters.frame_records import NONE, Records

if TYPE_CHECKING:
    from ecu_adapters.bus import BusHub


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

    def attach(self, hub: "BusHub") -> None:
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
        return BusError(f"{place(self.name, self.config)} did not take the frame: {self._away}")

    def _add(self, subscription: Subscription) -> Subscription:
        with self._lock:
            self._subscriptions = (*self._subscriptions, subscription)
            if self._hub is not None:
                self._hub.add(subscription)
        return subscription
