"""The power supplies of one bench."""

import asyncio
from collections.abc import Callable, Sequence

import structlog

from bench_agent.protocol import bench_pb2
from bench_agent.server.agent_supply import AgentSupply, Channel
from bench_agent.server.errors import CallError, CleanUpError, not_found
from ecu_adapters.power import SupplyConfig, open_supply
from ecu_adapters.power.simulated import Loads
from ecu_adapters.yaml_file import nearest

SAFE_STATE_S = 60.0
"""Longest time that the way to the safe state may take."""

_log = structlog.get_logger()


class Power:
    """Used on one asyncio loop."""

    def __init__(
        self, bench: str, configs: Sequence[SupplyConfig], loads: Loads, on_change: Callable[[], None]
    ) -> None:
        """``loads`` hang on the simulated supplies."""
        self._bench = bench
        self._supplies = [AgentSupply(bench, config, open_supply(config, loads), on_change) for config in configs]
        self.channels = {name: one for supply in self._supplies for name, one in supply.channels.items()}
        """By name."""
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begins to measure."""
        self._tasks = [
            asyncio.create_task(supply.poll(), name=f"power-{self._bench}/{supply.name}") for supply in self._supplies
        ]

    async def stop(self) -> None:
        """Ends the connections; the channels stay as they are."""
        for task in self._tasks:
            task.cancel()
        for outcome in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(outcome, Exception):
                _log.error("supply was not watched to the end", bench=self._bench, exc_info=outcome)
        await asyncio.gather(*(supply.close() for supply in self._supplies))

    def channel(self, name: str) -> Channel:
        """By its name, or by its terminal. Raises CallError (NOT_FOUND) with the nearest names."""
        found = self.channels.get(name)
        if found is None:
            found = next((one for one in self.channels.values() if one.terminal == name.lower()), None)
        if found is None:
            raise not_found(f"bench {self._bench} has no power channel {name!r}; {nearest(name, self.channels)}")
        return found

    @property
    def simulated_channels(self) -> set[str]:
        """Names of those that exist in software only."""
        return {name for name, one in self.channels.items() if one.supply.config.driver == "simulated"}

    @property
    def faults(self) -> list[str]:
        """Of the supplies that do not do what they should."""
        return [supply.fault for supply in self._supplies if supply.fault]

    def describe(self) -> list[bench_pb2.PowerChannelDescription]:
        """For the wire."""
        return [_describe(channel) for channel in self.channels.values()]

    def new_lease(self) -> None:
        """What was measured before is none of the new lease's business."""
        for supply in self._supplies:
            supply.new_lease()

    async def to_safe_state(self) -> None:
        """Every channel as the configuration declares. Raises CleanUpError, with all supplies tried, if one is not."""
        outcomes = await asyncio.gather(*(supply.to_safe_state() for supply in self._supplies), return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException) and not isinstance(outcome, CallError):
                raise outcome
        faults = [str(outcome) for outcome in outcomes if outcome is not None]
        if faults:
            raise CleanUpError("; ".join(faults))


def _describe(channel: Channel) -> bench_pb2.PowerChannelDescription:
    last = channel.history[-1] if channel.history else None
    return bench_pb2.PowerChannelDescription(
        name=channel.name,
        supply=channel.supply.name,
        driver=channel.supply.config.driver,
        terminal=channel.terminal,
        on=channel.on,
        measured_voltage=last.reading.voltage if last else None,
        measured_current=last.reading.current if last else None,
        measured_ns=last.time_ns if last else None,
    )
