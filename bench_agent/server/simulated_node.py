"""An ECU that the agent plays itself: a node of its own on the agent's bus, as a real one would be."""

import asyncio

import structlog

from ecu_adapters.bus import BusHub, BusNode
from ecu_adapters.dbc import Database, DatabaseError
from ecu_adapters.description import EcuDescription
from ecu_adapters.simulator import SimulatedEcu

_STOP_S = 5.0

_log = structlog.get_logger()


class SimulatedNode:
    """One simulated ECU. It shares the agent's connection to the bus, and keeps its state when that is opened anew."""

    def __init__(self, bench: str, description: EcuDescription) -> None:
        self.description = description
        self.fault: str | None = None
        """Why it does not run; None when it does, or was not asked to."""
        self._title = f"{bench}/{description.name}"
        self._node: BusNode | None = None
        self._database: Database | None = None
        self._ecu: SimulatedEcu | None = None

    async def bus_up(self, hub: BusHub, database: Database | None) -> None:
        """Powers the ECU up, in the state that its description gives, or joins it to the bus that is open again.

        What fails is in `fault`.
        """
        self._database = database
        if self._node is None:
            self._node = hub.node(self._title)
        else:
            self._node.attach(hub)
        if self._ecu is None:
            await self._boot()

    def bus_down(self, reason: str) -> None:
        """The ECU runs on, deaf and mute."""
        if self._node is not None:
            self._node.detach(reason)

    async def reset(self) -> None:
        """Forgets what a former holder did to it (trouble codes, written data, security): a new lease, a new ECU."""
        if self._node is None:
            return
        try:
            await self._halt()
        except TimeoutError as error:
            self._failed(error)
        else:
            await self._boot()

    async def stop(self) -> None:
        """Powers the ECU down."""
        try:
            await self._halt()
        except TimeoutError:
            _log.error("simulated ECU does not stop", ecu=self._title)
        self.bus_down("the agent stops")

    async def _boot(self) -> None:
        if self._node is None:
            return
        try:
            ecu = SimulatedEcu(self.description, self._node, self._database)
            await ecu.start()
        except (DatabaseError, ValueError) as error:
            self._failed(error)
        else:
            self._ecu, self.fault = ecu, None

    async def _halt(self) -> None:
        ecu, self._ecu = self._ecu, None
        if ecu is not None:
            async with asyncio.timeout(_STOP_S):
                await ecu.stop()

    def _failed(self, error: Exception) -> None:
        self.fault = f"simulated ECU {self.description.name}: {str(error) or type(error).__name__}"
        _log.error("simulated ECU does not run", ecu=self._title, reason=self.fault)
