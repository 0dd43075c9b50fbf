"""The power input of a simulated ECU: battery (KL30) and ignition (KL15), brown-out with hysteresis. Pure."""

from collections.abc import Callable, Mapping
from typing import Literal

from ecu_adapters.simulation import Power

Channel = Literal["kl30", "kl15"]
"""Terminals of DIN 72552: battery and ignition."""


class PowerSwitch:
    """Turns voltages into on and off. An ECU whose battery was never set is powered, as is its ignition."""

    def __init__(
        self,
        settings: Power,
        on_power: Callable[[bool], None],
        on_ignition: Callable[[bool], None],
        volts: Mapping[Channel, float] | None = None,
    ) -> None:
        """``on_power`` and ``on_ignition`` are told of changes; ``volts`` is what is there at first."""
        self.volts: dict[Channel, float | None] = {"kl30": None, "kl15": None}
        """As last set; None when nothing was."""
        self.on_battery: Callable[[float], None] | None = None
        """Told the voltage of the battery, whenever it is set."""
        self.volts.update(volts or {})
        battery, ignition = self.volts["kl30"], self.volts["kl15"]
        self.powered = battery is None or battery >= settings.on_v
        self.ignition = ignition is None or ignition >= settings.ignition_v
        self._settings = settings
        self._on_power = on_power
        self._on_ignition = on_ignition

    def set_voltage(self, channel: Channel, volts: float) -> None:
        """Between ``brown_out_v`` and ``on_v`` the ECU stays as it was."""
        self.volts[channel] = volts
        if channel == "kl15":
            self._ignite(volts >= self._settings.ignition_v)
            return
        if self.on_battery is not None:
            self.on_battery(volts)
        if self.powered and volts < self._settings.brown_out_v:
            self.powered = False
            self._on_power(False)
        elif not self.powered and volts >= self._settings.on_v:
            self.powered = True
            self._on_power(True)

    def _ignite(self, on: bool) -> None:
        if on != self.ignition:
            self.ignition = on
            self._on_ignition(on)
