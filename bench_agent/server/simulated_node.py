"""An ECU that the agent plays itself: a node of its own on the agent's bus, as a real one would be."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import structlog

from ecu_adapters.bus import BusHub, BusNode
from ecu_adapters.dbc import Database, DatabaseError
from ecu_adapters.description import EcuDescription
from ecu_adapters.simulator import SimulatedEcu
from ecu_adapters.simulator.doip_network import DoIpNetwork
from ecu_adapters.simulator.nvm import NvmError
from ecu_adapters.simulator.power_input import Channel
from ecu_adapters.simulator.pty_port import PtyPort
from ecu_adapters.transport import TransportError

_STOP_S = 5.0

_log = structlog.get_logger()


class SimulatedNode:
    """One simulated ECU. It shares the agent's connection to the bus, and keeps its state when that is opened anew."""

    def __init__(
        self,
        bench: str,
        description: EcuDescription,
        nvm: Path,
        network: DoIpNetwork,
        on_change: Callable[[], None],
    ) -> None:
        """``nvm`` is the folder for what outlives leases, if the description asks for that.

        ``network`` has the DoIP entity that the ECU is behind, if it is behind one.
        ``on_change`` is told when `memory_fault` has changed.
        """
        self._on_change = on_change
        self.description = description
        self._network = network
        self._nvm = nvm if description.simulation.nvm == "keep" else None
        self._port: PtyPort | None = None
        self.feeds: dict[Channel, str] = {}
        """The power channels that its terminals hang on; others are always on."""
        self._volts: dict[Channel, float] = {}
        self.fault: str | None = None
        """Why it does not run; None when it does, or was not asked to."""
        self._title = f"{bench}/{description.name}"
        self._node: BusNode | None = None
        self._database: Database | None = None
        self._ecu: SimulatedEcu | None = None
        self._turn = asyncio.Lock()
        """A bus that opens while the ECU is reset must not boot it twice."""

    @property
    def ecu(self) -> SimulatedEcu | None:
        """The ECU; None while it does not run."""
        return self._ecu

    @property
    def memory_fault(self) -> str | None:
        """Why what was written to it does not last; None when it does, or need not."""
        reason = self._ecu.memory_fault if self._ecu is not None else None
        return f"simulated ECU {self.description.name}: {reason}" if reason is not None else None

    @property
    def serial_port(self) -> str | None:
        """The file of its serial console, the same through all resets; None when it has none, or does not run."""
        return self._port.path if self._port is not None else None

    def set_voltage(self, channel: Channel, volts: float) -> None:
        """What a power channel of the bench gives it; holds through resets."""
        self._volts[channel] = volts
        if self._ecu is not None:
            self._ecu.power.set_voltage(channel, volts)

    def current(self, channel: Channel) -> float:
        """A that flow into it there."""
        return self._ecu.current(channel) if self._ecu is not None else 0.0

    async def power_up(self) -> None:
        """Powers up an ECU that is on no bus. What fails is in `fault`."""
        self._node = BusNode.alone(self._title)
        await self._boot()

    async def bus_up(self, hub: BusHub, database: Database | None) -> None:
        """Powers the ECU up, in the state that its description gives, or joins it to the bus that is open again.

        What fails is in `fault`.
        """
        self._database = database
        if self._node is None:
            self._node = hub.node(self._title)
        else:
            self._node.attach(hub)
        async with self._turn:
            if self._ecu is None:
                await self._boot()

    def bus_down(self, reason: str) -> None:
        """The ECU runs on, deaf and mute."""
        if self._node is not None:
            self._node.detach(reason)

    def lost(self, since: float) -> TransportError | None:
        """As `SimulatedEcu.lost`: what no tester can see, but an ECU that is played here can tell."""
        return self._ecu.lost(since) if self._ecu is not None else None

    async def reset(self) -> None:
        """Forgets what a former holder did to it (trouble codes, written data, security): a new lease, a new ECU."""
        async with self._turn:
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
        if self._port is not None:
            self._port.close()
            self._port = None

    async def _boot(self) -> None:
        if self._node is None:
            return
        try:
            if self._port is None and self.description.simulation.console is not None:
                self._port = PtyPort()
            doip = self.description.doip
            ecu = SimulatedEcu(
                self.description,
                self._node,
                self._database,
                nvm=self._nvm,
                port=self._port,
                volts=self._volts,
                doip=await self._network.entity(doip) if doip is not None else None,
            )
            ecu.on_fault = self._on_change
            await ecu.start()
        except (DatabaseError, NvmError, OSError, ValueError) as error:
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
