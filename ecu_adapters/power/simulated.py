"""A supply that exists in software only: its loads are the simulated ECUs of the bench."""

from typing import Protocol

from ecu_adapters.power.config import SimulatedConfig
from ecu_adapters.power.supply import Reading, Supply


class Loads(Protocol):
    """What hangs on the channels. Called on the supply's thread; raises PowerError."""

    def feed(self, channel: str, volts: float) -> None:
        """The voltage is this from now on; returns when every load has taken it."""

    def current(self, channel: str) -> float:
        """A that all loads of the channel draw now."""


class NoLoads:
    """Nothing hangs on any channel."""

    def feed(self, channel: str, volts: float) -> None:
        """Goes nowhere."""

    def current(self, channel: str) -> float:
        """None flows."""
        return 0.0


class SimulatedSupply(Supply):
    """Follows at once. A channel that gives more than its current limit switches itself off (over-current protection).

    It looks at the current whenever the channel is switched, set or measured.
    """

    settable = True
    step_s = 0.005

    def __init__(self, config: SimulatedConfig, loads: Loads) -> None:
        self._loads = loads
        self._volts = {name: channel.voltage or 0.0 for name, channel in config.channels.items()}
        self._limits = {name: channel.current_limit for name, channel in config.channels.items()}
        self._on = dict.fromkeys(config.channels, False)

    def switch(self, channel: str, on: bool) -> None:
        """The loads have their voltage, or none, when this returns."""
        self._on[channel] = on
        self._deliver(channel)

    def set(self, channel: str, *, voltage: float | None = None, current: float | None = None) -> None:
        """Loads of a channel that is on have the new voltage when this returns."""
        if voltage is not None:
            self._volts[channel] = voltage
        if current is not None:
            self._limits[channel] = current
        self._deliver(channel)

    def measure(self, channel: str) -> Reading:
        """The voltage that is set, and what the loads draw in their present state."""
        amperes = self._protected(channel)
        return Reading(self._volts[channel] if self._on[channel] else 0.0, amperes)

    def is_on(self, channel: str) -> bool:
        """Always known."""
        return self._on[channel]

    def _deliver(self, channel: str) -> None:
        self._loads.feed(channel, self._volts[channel] if self._on[channel] else 0.0)
        self._protected(channel)

    def _protected(self, channel: str) -> float:
        """The current (A), after the channel was switched off if that was too much."""
        amperes, limit = self._loads.current(channel), self._limits[channel]
        if not self._on[channel] or limit is None or amperes <= limit:
            return amperes
        self._on[channel] = False
        self._loads.feed(channel, 0.0)
        return self._loads.current(channel)
