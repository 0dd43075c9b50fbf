"""Power supplies of a bench: one interface, a driver each for SCPI supplies, relay boards, commands and software."""

from typing import TYPE_CHECKING

from ecu_adapters.power.config import (
    ChannelConfig,
    CommandConfig,
    RelayConfig,
    ScpiConfig,
    SimulatedConfig,
    SupplyConfig,
)
from ecu_adapters.power.supply import NonsenseError, PowerError, Reading, Supply, UnsupportedError

if TYPE_CHECKING:
    from ecu_adapters.power.simulated import Loads

__all__ = [
    "ChannelConfig",
    "CommandConfig",
    "NonsenseError",
    "PowerError",
    "Reading",
    "RelayConfig",
    "ScpiConfig",
    "SimulatedConfig",
    "Supply",
    "SupplyConfig",
    "UnsupportedError",
    "open_supply",
]


def open_supply(config: SupplyConfig, loads: "Loads | None" = None) -> Supply:
    """The driver for ``config``. It connects with its first use; ``loads`` hang on a simulated one."""
    from ecu_adapters.power.command import CommandSupply
    from ecu_adapters.power.relay import RelaySupply
    from ecu_adapters.power.scpi import ScpiSupply
    from ecu_adapters.power.simulated import NoLoads, SimulatedSupply

    match config:
        case ScpiConfig():
            return ScpiSupply(config)
        case RelayConfig():
            return RelaySupply(config)
        case CommandConfig():
            return CommandSupply(config)
        case SimulatedConfig():
            return SimulatedSupply(config, loads or NoLoads())
