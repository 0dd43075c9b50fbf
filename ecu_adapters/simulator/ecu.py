"""A simulated ECU on a bus: the UDS server behind ISO-TP, and the cyclic messages."""

import can
import structlog

from ecu_adapters.bus import BusError, BusPort
from ecu_adapters.dbc import Database, DatabaseError
from ecu_adapters.description import EcuDescription
from ecu_adapters.isotp import IsoTpAddress, IsoTpEndpoint
from ecu_adapters.simulator.clock import Clock, LoopClock
from ecu_adapters.simulator.cyclic import CyclicSender
from ecu_adapters.simulator.server import UdsServer
from ecu_adapters.simulator.state import Communication

_SEND_TIMEOUT_S = 0.002
"""How long a full transmit queue of the driver may hold the loop."""

_log = structlog.get_logger()


class SimulatedEcu:
    """An ECU that exists in software only. It needs a place of its own on the bus: a hub, or a node of one."""

    def __init__(
        self, ecu: EcuDescription, hub: BusPort, database: Database | None = None, *, clock: Clock | None = None
    ) -> None:
        """Raises DatabaseError when the cyclic messages are not in ``database``, or there is none."""
        if ecu.cyclic and database is None:
            names = ", ".join(cyclic.message for cyclic in ecu.cyclic)
            raise DatabaseError(f"{ecu.name} sends {names}, but bus {hub.name!r} has no database (dbc)")
        self.ecu = ecu
        self.cyclic: dict[str, CyclicSender] = {}
        if database is not None:
            self.cyclic = {c.message: CyclicSender(ecu.name, c, database, hub) for c in ecu.cyclic}
        self._hub = hub
        self._clock = clock
        self._server: UdsServer | None = None
        self._endpoint: IsoTpEndpoint | None = None
        self._booting = False
        self._communication = Communication()

    @property
    def server(self) -> UdsServer:
        """The UDS server, once started. Raises RuntimeError before."""
        if self._server is None:
            raise RuntimeError(f"{self.ecu.name} is not started")
        return self._server

    async def start(self) -> None:
        """Powers the ECU up. Raises ValueError when it wants CAN FD on a classic bus."""
        clock = self._clock if self._clock is not None else LoopClock()
        self._server = UdsServer(
            self.ecu,
            clock,
            self._transmit,
            on_silence=self._mute,
            on_communication=self._communicate,
            transmit_periodic=self._transmit_periodic,
        )
        self._endpoint = IsoTpEndpoint(
            self._hub, IsoTpAddress.ecu(self.ecu.addressing), self.ecu.isotp, self._server.receive
        )
        for sender in self.cyclic.values():
            sender.start(clock)

    async def stop(self) -> None:
        """Powers the ECU down; the bus stays open. Stopping twice does nothing."""
        for sender in self.cyclic.values():
            sender.stop()
        if self._server is not None:
            self._server.stop()
        if self._endpoint is not None:
            self._endpoint.close()

    def _transmit(self, pdu: bytes) -> None:
        if self._endpoint is not None:
            self._endpoint.post(pdu)

    def _transmit_periodic(self, data: bytes) -> None:
        """A frame without ISO-TP (UUDT). What the bus does not take is gone, as on a real one."""
        identifier = self.ecu.periodic.response_id
        if identifier is None:
            return
        message = can.Message(
            arbitration_id=identifier, is_extended_id=self.ecu.addressing.extended or identifier > 0x7FF, data=data
        )
        try:
            self._hub.send(message, _SEND_TIMEOUT_S)
        except BusError as error:
            _log.warning("periodic data was not sent", ecu=self.ecu.name, reason=str(error))

    def _mute(self, silent: bool) -> None:
        """A booting ECU sends no application frames either."""
        self._booting = silent
        self._apply()

    def _communicate(self, communication: Communication) -> None:
        self._communication = communication
        self._apply()

    def _apply(self) -> None:
        for sender in self.cyclic.values():
            sender.muted = self._booting or not self._communication.sends
            sender.deaf = self._booting or not self._communication.receives
