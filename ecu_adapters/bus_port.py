"""A place at a CAN bus, as whoever sends and listens sees it: the hub itself, or a node that shares it."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

import can

from ecu_adapters.burst import Burst
from ecu_adapters.can_config import CanConfig
from ecu_adapters.frame_records import Records

Listener = Callable[[can.Message], None]
Tap = Callable[[Burst], None]


class BusError(Exception):
    """A bus cannot be opened, has failed, or did not take a frame. Names bus, interface, channel and reason."""


class FrameError(BusError):
    """A frame is not valid on this bus."""


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


class Owner(Protocol):
    """Who has subscriptions."""

    def unsubscribe(self, subscription: "Subscription") -> None:
        """Delivers nothing more to it."""


class Subscription:
    """A listener's (with ``ids``) or a tap's (without) place at a bus, until closed."""

    def __init__(
        self, port: Owner, *, tap: Tap | None = None, listener: Listener | None = None, ids: Collection[int] = ()
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


def place(name: str, config: CanConfig) -> str:
    """The bus or node of that name, for messages."""
    return f"CAN bus {name!r} ({config.interface} {config.channel})"
