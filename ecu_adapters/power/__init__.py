"""Power supplies of a bench: one interface, a driver each for SCPI supplies, relay boards and commands."""

from ecu_adapters.power.config import (
    ChannelConfig,
    CommandConfig,
    RelayConfig,
    ScpiConfig,
    SupplyConfig,
)
from ecu_adapters.power.supply import NonsenseError, PowerError, Reading, Supply, UnsupportedError

__all__ = [
    "ChannelConfig",
    "CommandConfig",
    "NonsenseError",
    "PowerError",
    "Reading",
    "RelayConfig",
    "ScpiConfig",
    "Supply",
    "SupplyConfig",
    "UnsupportedError",
    "open_supply",
]


def open_supply(config: SupplyConfig) -> Supply:
    """The driver for ``config``. It connects with its first use."""
    from ecu_adapters.power.command import CommandSupply
    from ecu_adapters.power.relay import RelaySupply
    from ecu_adapters.power.scpi import ScpiSupply

    match config:
        case ScpiConfig():
            return ScpiSupply(config)
        case RelayConfig():
            return RelaySupply(config)
        case CommandConfig():
            return CommandSupply(config)
