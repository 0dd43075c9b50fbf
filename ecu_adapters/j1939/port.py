"""What a node sits on, and what it counts."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from ecu_adapters.burst import Burst
from ecu_adapters.bus import BusPort, Subscription


class Port(BusPort, Protocol):
    """A port at which all frames can be heard: a hub, or one of its nodes."""

    def tap(self, tap: Callable[[Burst], None]) -> Subscription:
        """As `BusHub.tap`."""


@dataclass(slots=True)
class NodeStats:
    """Counters since the node was made."""

    sent: int = 0
    received: int = 0
    send_errors: int = 0
    receive_errors: int = 0
    """Messages in several frames that had begun to come and were lost."""
    ignored: int = 0
    """Frames of the transport protocol that belong to no message."""
    dropped: int = 0
    """Frames lost because more waited than the node holds."""
    conflicts: int = 0
    """Frames that another node sent with this node's address."""
