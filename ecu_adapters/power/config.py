"""How a bench's power supplies are configured."""

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic_core import InitErrorDetails

from ecu_adapters.power.scpi_commands import DIALECTS, ScpiCommands
from ecu_adapters.serial_port import SerialConfig
from ecu_adapters.yaml_file import field_error, model_error, nearest

State = Literal["on", "off"]
CHANNEL_NAME = r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$"
_LIMIT_V = 1000.0
_LIMIT_A = 1000.0


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ChannelConfig(_Part):
    """One output. Without limits, they are the voltage and current that the channel starts with."""

    terminal: str = Field(
        default="", pattern=r"^(kl[0-9]{1,3}[a-z]?)?$", description="DIN 72552: kl30, kl15; default: the channel's name"
    )
    voltage: float | None = Field(default=None, ge=0, le=_LIMIT_V, description="V, set at the start of every lease")
    current_limit: float | None = Field(default=None, ge=0, le=_LIMIT_A, description="A, likewise")
    max_voltage: float | None = Field(default=None, ge=0, le=_LIMIT_V, description="V; nobody can ask for more")
    max_current: float | None = Field(default=None, ge=0, le=_LIMIT_A, description="A; nobody can ask for more")

    @model_validator(mode="after")
    def _within_limits(self) -> Self:
        errors: list[InitErrorDetails] = []
        if self.voltage is not None and self.max_voltage is not None and self.voltage > self.max_voltage:
            errors.append(field_error(("voltage",), f"{self.voltage:g} V is above max_voltage, {self.max_voltage:g} V"))
        if self.current_limit is not None and self.max_current is not None and self.current_limit > self.max_current:
            message = f"{self.current_limit:g} A is above max_current, {self.max_current:g} A"
            errors.append(field_error(("current_limit",), message))
        if errors:
            raise model_error("channel", errors)
        return self

    @property
    def highest_voltage(self) -> float | None:
        """V; None when no voltage was ever allowed."""
        return self.voltage if self.max_voltage is None else self.max_voltage

    @property
    def highest_current(self) -> float | None:
        """A; None when no current was ever allowed."""
        return self.current_limit if self.max_current is None else self.max_current


class ScpiChannel(ChannelConfig):
    """An output of a SCPI supply."""

    output: int = Field(default=1, ge=1, le=99, description="its number on the device")


def _bytes(value: str) -> str:
    if any(ord(character) > 0xFF for character in value):
        raise ValueError('write bytes as escapes in double quotes: "\\xA0\\x01\\x01\\xA2"')
    return value


Bytes = Annotated[str, AfterValidator(_bytes)]
"""A byte string: one character per byte."""


class RelayChannel(ChannelConfig):
    """A relay: what is sent to close and to open it."""

    on: Bytes = Field(min_length=1, description='bytes, as escapes in double quotes: "\\xA0\\x01\\x01\\xA2"')
    off: Bytes = Field(min_length=1)
    answer: Bytes = Field(default="", description="what the board answers to both; empty: nothing is awaited")


class _SupplyPart(_Part):
    name: str = Field(pattern=CHANNEL_NAME)
    safe_state: dict[str, State] = Field(default={}, description="of each channel between leases; default: off")
    poll_s: float = Field(default=5.0, ge=0.2, le=3600, description="between two measurements")
    timeout_s: float = Field(default=2.0, gt=0, le=60, description="how long the device may take to answer")

    def state_when_safe(self, channel: str) -> bool:
        """Whether the channel is on between leases."""
        return self.safe_state.get(channel, "off") == "on"


def _check_safe_state(supply: "SupplyConfig") -> None:
    errors = [
        field_error(("safe_state", name), f"unknown channel {name!r}; {nearest(name, supply.channels)}")
        for name in supply.safe_state
        if name not in supply.channels
    ]
    if errors:
        raise model_error("supply", errors)


class ScpiConfig(_SupplyPart):
    """A supply that speaks SCPI over TCP or a serial line."""

    driver: Literal["scpi"]
    port: str = Field(min_length=1, description="socket://HOST:5025, or a serial device")
    baudrate: int = Field(default=9600, ge=50, le=20_000_000, description="bit/s, of a serial device")
    dialect: str = Field(default="scpi", description="how channels are addressed: scpi, nsel, channel-list, rigol")
    commands: ScpiCommands | None = Field(default=None, description="instead of a dialect")
    channels: dict[str, ScpiChannel] = Field(min_length=1)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.dialect not in DIALECTS:
            message = f"unknown dialect {self.dialect!r}; {nearest(self.dialect, DIALECTS)}"
            raise model_error("supply", [field_error(("dialect",), message)])
        _check_safe_state(self)
        return self

    @property
    def line(self) -> SerialConfig:
        """The port."""
        return SerialConfig(port=self.port, baudrate=self.baudrate, write_timeout_s=self.timeout_s)

    @property
    def spoken(self) -> ScpiCommands:
        """The commands that the device knows."""
        return self.commands or DIALECTS[self.dialect]


class RelayConfig(_SupplyPart):
    """A relay board on a serial line."""

    driver: Literal["relay"]
    port: str = Field(min_length=1, description="a serial device or a pyserial URL")
    baudrate: int = Field(default=9600, ge=50, le=20_000_000, description="bit/s")
    channels: dict[str, RelayChannel] = Field(min_length=1)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        _check_safe_state(self)
        return self

    @property
    def line(self) -> SerialConfig:
        """The port."""
        return SerialConfig(port=self.port, baudrate=self.baudrate, write_timeout_s=self.timeout_s)


class CommandConfig(_SupplyPart):
    """A command of the lab's own that switches, started without a shell."""

    driver: Literal["command"]
    switch: list[str] = Field(
        min_length=1, description="program and arguments; {channel} and {state} (on, off) are filled in"
    )
    set: list[str] | None = Field(default=None, description="likewise, with {channel}, {voltage} and {current}")
    measure: list[str] | None = Field(default=None, description="with {channel}; prints V and A, separated by a space")
    channels: dict[str, ChannelConfig] = Field(min_length=1)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        errors: list[InitErrorDetails] = []
        known: Mapping[str, set[str]] = {
            "switch": {"channel", "state"}, "set": {"channel", "voltage", "current"}, "measure": {"channel"},
        }  # fmt: skip
        for name, placeholders in known.items():
            for index, word in enumerate(getattr(self, name) or ()):
                try:
                    word.format(**dict.fromkeys(placeholders, ""))
                except (KeyError, ValueError, IndexError) as error:
                    listed = ", ".join(f"{{{one}}}" for one in sorted(placeholders))
                    message = f"{word!r} has an unknown placeholder ({error}); there are {listed}"
                    errors.append(field_error((name, index), message))
        if errors:
            raise model_error("supply", errors)
        _check_safe_state(self)
        return self


class SimulatedChannel(ChannelConfig):
    """An output that exists in software only: its defaults are those of a 12 V network, nothing can break."""

    voltage: float | None = Field(default=13.5, ge=0, le=_LIMIT_V, description="V, set at the start of every lease")
    current_limit: float | None = Field(default=20.0, ge=0, le=_LIMIT_A, description="A; more switches the channel off")
    max_voltage: float | None = Field(default=36.0, ge=0, le=_LIMIT_V, description="V; nobody can ask for more")
    max_current: float | None = Field(default=100.0, ge=0, le=_LIMIT_A, description="A; nobody can ask for more")


class SimulatedConfig(_SupplyPart):
    """A supply in software; simulated ECUs whose ``simulation.power`` names a channel hang on it."""

    driver: Literal["simulated"]
    channels: dict[str, SimulatedChannel] = Field(min_length=1)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        _check_safe_state(self)
        return self


SupplyConfig = ScpiConfig | RelayConfig | CommandConfig | SimulatedConfig
AnySupply = Annotated[SupplyConfig, Field(discriminator="driver")]
