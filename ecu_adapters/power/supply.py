"""What every power supply can do, and how it fails."""

from abc import ABC, abstractmethod
from dataclasses import dataclass


class PowerError(Exception):
    """A supply cannot be reached or refuses; names the supply and the reason. Its channels' state is then unknown."""


class NonsenseError(PowerError):
    """A supply answered what its protocol does not know; the message quotes it."""


class UnsupportedError(PowerError):
    """The supply has no such function: a relay sets no voltage. Nothing was tried."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a channel delivers; None is what the supply does not measure."""

    voltage: float | None
    """V at the output."""
    current: float | None
    """A through it."""


class Supply(ABC):
    """One device with one or several channels.

    Methods block, for a bounded time, raise PowerError, and are called by one thread at a time. A connection that has
    failed is closed; the next call opens it anew.
    """

    settable = False
    """Whether `set` works."""
    step_s = 0.01
    """Shortest time between two voltages that the device can follow (s)."""

    @abstractmethod
    def switch(self, channel: str, on: bool) -> None:
        """Connects a channel to its load, or disconnects it."""

    def set(self, channel: str, *, voltage: float | None = None, current: float | None = None) -> None:
        """Sets voltage (V) and current limit (A); None leaves one as it is."""
        raise UnsupportedError(f"the supply of channel {channel} sets neither voltage nor current")

    def measure(self, channel: str) -> Reading:
        """What the channel delivers now."""
        raise UnsupportedError(f"the supply of channel {channel} does not measure")

    def is_on(self, channel: str) -> bool | None:
        """Whether the channel is on, asked from the device; None when it cannot tell."""
        return None

    def close(self) -> None:  # noqa: B027 - most have something to close, a command has not
        """Ends the connection. The channels stay as they are."""
