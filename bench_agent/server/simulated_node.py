"""An ECU that the agent plays itself: a node of its own on the bus, as a real one would be."""

import asyncio

import structlog

from ecu_adapters.bus import BusError, BusHub, CanConfig
from ecu_adapters.dbc import Database, DatabaseError
from ecu_adapters.description import EcuDescription
from ecu_adapters.simulator import SimulatedEcu

_STOP_S = 5.0

_log = structlog.get_logger()


class SimulatedNode:
    """One simulated ECU with its own connection to the bus."""

    def __init__(self, bench: str, description: EcuDescription, bus: CanConfig) -> None:
        self.description = description
        self._title = f"{bench}/{description.name}"
        self._bus = CanConfig.model_validate({name: getattr(bus, name) for name in CanConfig.model_fields})
        self._hub: BusHub | None = None
        self._database: Database | None = None
        self._ecu: SimulatedEcu | None = None
        self._fault: str | None = None

    @property
    def fault(self) -> str | None:
        """Why it does not run; None when it does, or was not asked to."""
        if self._fault is None and self._hub is not None and self._hub.error is not None:
            return f"simulated ECU {self.description.name}: {self._hub.error}"
        return self._fault

    async def start(self, database: Database | None) -> None:
        """Powers the ECU up, in the state that its description gives. What fails is in `fault`."""
        await self.stop()
        self._database = database
        try:
            self._hub = await asyncio.to_thread(BusHub.open, self._title, self._bus)
            await self._boot()
        except (BusError, DatabaseError, ValueError) as error:
            self._failed(error)
            await self.stop()

    async def reset(self) -> None:
        """Forgets what a former holder did to it (trouble codes, written data, security): a new lease, a new ECU."""
        if self._hub is None:
            return
        try:
            await self._halt()
            await self._boot()
        except (BusError, DatabaseError, ValueError, TimeoutError) as error:
            self._failed(error)

    async def stop(self) -> None:
        """Powers the ECU down."""
        try:
            await self._halt()
        except TimeoutError:
            _log.error("simulated ECU does not stop", ecu=self._title)
        hub, self._hub = self._hub, None
        if hub is not None:
            await asyncio.to_thread(hub.close)

    async def _boot(self) -> None:
        if self._hub is None:
            return
        ecu = SimulatedEcu(self.description, self._hub, self._database)
        await ecu.start()
        self._ecu, self._fault = ecu, None

    async def _halt(self) -> None:
        ecu, self._ecu = self._ecu, None
        if ecu is not None:
            async with asyncio.timeout(_STOP_S):
                await ecu.stop()

    def _failed(self, error: Exception) -> None:
        self._fault = f"simulated ECU {self.description.name}: {str(error) or type(error).__name__}"
        _log.error("simulated ECU does not run", ecu=self._title, reason=self._fault)
