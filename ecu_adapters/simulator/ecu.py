"""A simulated ECU on a bus: the UDS server behind ISO-TP, cyclic messages, power input, console, lasting memory."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import can
import structlog

from ecu_adapters.bus import EXTENDED_FLAG, BusError, BusPort
from ecu_adapters.dbc import Database, DatabaseError
from ecu_adapters.description import EcuDescription
from ecu_adapters.isotp import IsoTpAddress, IsoTpEndpoint
from ecu_adapters.simulation import FRAME_FAULTS
from ecu_adapters.simulator.clock import Clock, LoopClock, VirtualClock
from ecu_adapters.simulator.console import Console
from ecu_adapters.simulator.cyclic import CyclicSender
from ecu_adapters.simulator.doip_entity import DoIpEntity, EcuPort
from ecu_adapters.simulator.faults import FaultInjector
from ecu_adapters.simulator.keeper import Keeper
from ecu_adapters.simulator.lossy_port import LossyPort
from ecu_adapters.simulator.monitor import SignalMonitor
from ecu_adapters.simulator.power_input import Channel, PowerSwitch
from ecu_adapters.simulator.pty_port import PtyPort
from ecu_adapters.simulator.server import UdsServer
from ecu_adapters.simulator.state import Communication
from ecu_adapters.transport import TransportError

_SEND_TIMEOUT_S = 0.002
"""How long a full transmit queue of the driver may hold the loop."""

_log = structlog.get_logger()


class SimulatedEcu:
    """An ECU that exists in software only. It needs a place of its own on the bus: a hub, or a node of one."""

    def __init__(
        self,
        ecu: EcuDescription,
        hub: BusPort,
        database: Database | None = None,
        *,
        clock: Clock | None = None,
        nvm: Path | None = None,
        port: PtyPort | None = None,
        volts: Mapping[Channel, float] | None = None,
        doip: DoIpEntity | None = None,
    ) -> None:
        """Raises DatabaseError when the messages of the description are not in ``database``, or there is none.

        ``nvm`` is the folder of the memory that outlives this object, ``port`` the far end of the serial console,
        ``volts`` what the power input finds at the start (nothing: it is powered), ``doip`` the entity that an ECU
        with a section ``doip`` is behind.
        """
        monitors = [(dtc, dtc.monitor) for dtc in ecu.dtcs if dtc.monitor is not None]
        needed = [cyclic.message for cyclic in ecu.cyclic] + [monitor.message for _, monitor in monitors]
        if needed and database is None:
            raise DatabaseError(f"{ecu.name} needs {', '.join(needed)}, but bus {hub.name!r} has no database (dbc)")
        self.ecu = ecu
        self.cyclic: dict[str, CyclicSender] = {}
        self.monitors: list[SignalMonitor] = []
        if database is not None:
            self.cyclic = {c.message: CyclicSender(ecu.name, c, database, hub) for c in ecu.cyclic}
            self.monitors = [SignalMonitor(dtc, monitor, database, hub) for dtc, monitor in monitors]
        prefix = ecu.addressing.response_prefix
        self.faults = FaultInjector(ecu.simulation.faults, prefix_length=len(prefix))
        self.power = PowerSwitch(ecu.simulation.power, self._powered, self._ignited, volts)
        self._hub = hub
        self._clock = clock
        self._lossy = LossyPort(hub, ecu.addressing.request_id)
        self._nvm = nvm
        self._port = port
        self._server: UdsServer | None = None
        self._endpoint: IsoTpEndpoint | None = None
        self._doip = doip
        self._behind: EcuPort | None = None
        self._console: Console | None = None
        self._keeper: Keeper | None = None
        self.on_fault: Callable[[], None] | None = None
        """Told when `memory_fault` has changed."""
        self._booting = False
        self._communication = Communication()

    @property
    def server(self) -> UdsServer:
        """The UDS server, once started. Raises RuntimeError before."""
        if self._server is None:
            raise RuntimeError(f"{self.ecu.name} is not started")
        return self._server

    @property
    def serial_port(self) -> str | None:
        """The file of its serial console; None when it has none."""
        return self._port.path if self._port is not None else None

    @property
    def memory_fault(self) -> str | None:
        """Why what was written does not last; None when it does, or need not."""
        return self._keeper.fault if self._keeper is not None else None

    @property
    def sends_frames(self) -> bool:
        """Whether diagnostics go over CAN; else over DoIP."""
        return self._doip is None

    @property
    def clock(self) -> Clock:
        """Its time, once started."""
        return self.server.state.clock

    async def start(self) -> None:
        """Powers the ECU up. Raises ValueError when it wants CAN FD on a classic bus, or NvmError."""
        virtual = self.ecu.simulation.clock == "virtual"
        clock = self._clock if self._clock is not None else VirtualClock() if virtual else LoopClock()
        server = UdsServer(
            self.ecu,
            clock,
            self._transmit,
            on_silence=self._mute,
            on_communication=self._communicate,
            transmit_periodic=self._transmit_periodic,
            faults=self.faults,
        )
        if self._nvm is not None:
            self._keeper = Keeper(self._nvm, server.state, self._memory_changed)
            await asyncio.to_thread(self._keeper.load)
            server.on_idle = self._keeper.note
            server.commit = self._keeper.commit
        if self._doip is not None and self.ecu.doip is not None:
            self._behind = self._doip.attach(self.ecu.doip, server)
        else:
            address = IsoTpAddress.ecu(self.ecu.addressing)
            self._endpoint = IsoTpEndpoint(self._lossy, address, self.ecu.isotp, server.receive)
        self._server = server
        self.faults.on_change = self._faults_changed
        self._faults_changed()
        settings = self.ecu.simulation.console
        if settings is not None and self._port is not None:
            self._console = Console(settings, clock, self._port, server)
            server.on_reset = self._console.boot
        self._note_battery(self.power.volts["kl30"])
        self.power.on_battery = self._note_battery
        if not self.power.powered:
            server.power(False)
        elif self._console is not None:
            self._console.boot()
        self._apply()
        for sender in self.cyclic.values():
            sender.start(clock)
        for monitor in self.monitors:
            monitor.start(clock, server.state.dtcs)

    async def stop(self) -> None:
        """Powers the ECU down; the bus stays open. Stopping twice does nothing."""
        for sender in self.cyclic.values():
            sender.stop()
        for monitor in self.monitors:
            monitor.stop()
        if self._server is not None:
            self._server.stop()
        if self._console is not None:
            self._console.stop()
        if self._endpoint is not None:
            self._endpoint.close()
        if self._behind is not None:
            self._behind.close()
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            await keeper.close()

    def current(self, channel: Channel) -> float:
        """A that flow into the ECU there, by its state."""
        draw, power = self.ecu.simulation.power.draw, self.power
        if channel == "kl15":
            return draw.ignition_a if power.ignition and power.volts["kl15"] is not None else 0.0
        if not power.powered or self._server is None:
            return 0.0
        if self._booting:
            return draw.boot_a
        return draw.run_a if power.ignition else draw.sleep_a

    def changed(self) -> None:
        """A test has changed what must last (trouble codes, for example)."""
        if self._keeper is not None:
            self._keeper.note()

    def lost(self, since: float) -> TransportError | None:
        """The request of which not all has come: the one on its way, or the last lost after ``since``.

        ``since`` is in s, on the monotonic clock.
        """
        return self._endpoint.lost(since) if self._endpoint is not None else None

    def _memory_changed(self) -> None:
        if self.on_fault is not None:
            self.on_fault()

    def _transmit(self, pdu: bytes) -> None:
        if self._behind is not None:
            self._behind.post(pdu)
        elif self._endpoint is not None:
            self._endpoint.post(pdu)

    def _transmit_periodic(self, data: bytes) -> None:
        """A frame without ISO-TP (UUDT). What the bus does not take is gone, as on a real one."""
        identifier = self.ecu.periodic_can_id
        if identifier is None:
            return
        extended = bool(identifier & EXTENDED_FLAG)
        message = can.Message(arbitration_id=identifier & ~EXTENDED_FLAG, is_extended_id=extended, data=data)
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

    def _note_battery(self, volts: float | None) -> None:
        state = self.server.state
        state.supply_v = volts
        if volts is None:
            return
        for name in self.ecu.simulation.power.measured:
            did = self.ecu.dids[name]
            with suppress(ValueError):  # beyond what its bytes can carry: the value stays
                state.data.write(did.did, did.encode(volts))

    def _powered(self, on: bool) -> None:
        self.server.power(on, self.ecu.simulation.power.boot_ms / 1000)
        if self._console is not None:
            self._console.boot() if on else self._console.stop()
        if on and self.ecu.simulation.power.kl15 is None:
            self.server.state.dtcs.new_cycle()
            self.changed()
        self._apply()

    def _ignited(self, on: bool) -> None:
        if on:
            self.server.state.dtcs.new_cycle()
            self.changed()
        self._apply()

    def _apply(self) -> None:
        self._lossy.deaf = self._booting or not self.power.powered
        self._lossy.mute = not self.power.powered
        if self._behind is not None:
            self._behind.reachable = self.power.powered
        awake = not self._booting and self.power.powered and self.power.ignition
        for sender in self.cyclic.values():
            sender.muted = not (awake and self._communication.sends)
            sender.deaf = not (awake and self._communication.receives)
        for monitor in self.monitors:
            monitor.paused = not (awake and self._communication.receives)

    def _faults_changed(self) -> None:
        if self._endpoint is None:
            return
        policy, isotp = self._endpoint.policy, self.ecu.isotp
        pace, wait = self.faults.flow_control("fc_pace"), self.faults.flow_control("fc_wait")
        policy.block_size = pace.block_size if pace is not None else isotp.block_size
        policy.stmin = pace.stmin if pace is not None else isotp.stmin_byte
        policy.waits = 0 if wait is None else wait.count or _ENDLESS
        policy.overflow = self.faults.flow_control("fc_overflow") is not None
        # Frames are looked at only while there is a reason to.
        kinds = {active.fault.kind for active in self.faults.active}
        self._lossy.hears = self.faults.hears if "lose_frame" in kinds else None
        self._endpoint.frame_filter = self.faults.outgoing if kinds & (FRAME_FAULTS - {"lose_frame"}) else None
        policy.silent = self.faults.flow_control("fc_none") is not None


_ENDLESS = 1_000_000
"""Flow controls "wait": more than anybody bears."""
