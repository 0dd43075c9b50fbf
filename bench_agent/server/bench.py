"""One bench of the agent: its buses, its ECUs, its health, and who holds it."""

import asyncio
import contextlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import structlog

from bench_agent.protocol import bench_pb2
from bench_agent.server import adapters, consoles, power
from bench_agent.server.adapters import Adapters
from bench_agent.server.agent_bus import AgentBus
from bench_agent.server.cleanup import CleanUpStack, StepOutcome
from bench_agent.server.config import BenchConfig, Traces, chosen_way
from bench_agent.server.consoles import Consoles
from bench_agent.server.ecu_link import DoIpLink, EcuLink
from bench_agent.server.errors import CallError, CleanUpError, LeaseFailed, invalid, not_found, unavailable
from bench_agent.server.hooks import BenchHooks, HookFailed
from bench_agent.server.power import Power
from bench_agent.server.quarantine import QuarantineStore
from bench_agent.server.simulated_loads import SimulatedLoads
from bench_agent.server.simulated_node import SimulatedNode
from bench_agent.server.tenancy import Tenancy
from bench_agent.server.uds_meter import UdsMeter
from ecu_adapters.description import EcuDescription, load_ecu
from ecu_adapters.doip import Gateways
from ecu_adapters.error_frames import BusState
from ecu_adapters.simulator.doip_network import DoIpNetwork
from ecu_adapters.simulator.power_input import Channel
from ecu_adapters.uds.tester import UNKNOWN_SESSION, UdsTester
from ecu_adapters.yaml_file import ConfigError, nearest

_FIRST_OPEN_S = 5.0
"""How long the start of the agent waits for the buses; one that takes longer opens when it opens."""
_RESET_S = 10.0
_RECOVER_S = 30.0
_HOOK_END_S = 60.0
"""How long what a hook has done may take to be undone."""

_log = structlog.get_logger()


class Bench:
    """A bench. Used on one asyncio loop."""

    def __init__(self, config: BenchConfig, traces: Path, settings: Traces, quarantines: QuarantineStore) -> None:
        self.name = config.name
        self.config = config
        self.on_change: Callable[[], None] | None = None
        """Called when description or health have changed."""
        self.hooks: BenchHooks | None = None
        """Set before the agent starts."""
        self.tenancy: Tenancy | None = None
        self.uds_meters: dict[str, UdsMeter] = {}
        """By ECU, of those that were spoken to."""
        self._traces = traces
        self._nvm = traces.parent / "nvm" / config.name
        self._settings = settings
        self._buses = {
            bus.name: AgentBus(self.name, bus, self._bus_up, self._bus_down, self._changed) for bus in config.can
        }
        self.consoles = Consoles(self.name, config.consoles, self._simulated_console, self._changed)
        self._loads = SimulatedLoads()
        self.power = Power(self.name, config.power, self._loads, self._changed)
        self.adapters = Adapters(self.name, config.adapters, self._changed)
        self._ecus: dict[str, tuple[EcuDescription, EcuLink]] = {}
        self._on_bus: dict[str, AgentBus] = {}
        """The CAN buses that ECUs are on, by ECU; some speak diagnostics elsewhere, some are on none."""
        self._gateways = Gateways()
        self._network = DoIpNetwork()
        self._nodes: dict[str, SimulatedNode] = {}
        self._ecu_faults: list[str] = []
        self._quarantines = quarantines
        self._clean_up_fault: str | None = None
        self._start_fault: str | None = None
        self._last_clean_up: list[StepOutcome] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self, *, was_held: bool = False) -> None:
        """Reads what the configuration names, opens the buses, and brings the bench to its safe state.

        ``was_held``: a lease was live when the agent last ended, so that ECUs may still be in a diagnostic session.
        What fails makes the bench unhealthy, or puts it into quarantine; nothing is raised.
        """
        self._loads.start()
        await asyncio.to_thread(self._load)
        await asyncio.to_thread(self.adapters.load)
        self._tasks = [
            asyncio.create_task(bus.run(), name=f"bus-{self.name}/{bus.name}") for bus in self._buses.values()
        ]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FIRST_OPEN_S):
                await asyncio.gather(*(bus.tried.wait() for bus in self._buses.values()))
        for name, node in self._nodes.items():
            if name not in self._on_bus:
                await node.power_up()
        await self.consoles.start()
        if was_held:
            await self._leave_sessions()
        await self.make_safe()
        self.power.start()

    async def make_safe(self) -> None:
        """Brings the bench to its safe state while nobody holds it; what fails quarantines it."""
        stack = CleanUpStack()
        self._push_safe_state(stack)
        outcomes = await stack.run()
        self._start_fault = "; ".join(outcome.fault for outcome in outcomes if outcome.fault) or None
        self._changed()

    async def stop(self) -> None:
        """Powers the simulated ECUs down and closes buses and ports."""
        await asyncio.gather(self.consoles.stop(), self.power.stop(), self.adapters.stop())
        await asyncio.gather(*(node.stop() for node in self._nodes.values()))
        await self._network.stop()
        for task in self._tasks:
            task.cancel()
        for outcome in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(outcome, Exception):
                _log.error("bus did not close cleanly", bench=self.name, exc_info=outcome)

    @property
    def health_reason(self) -> str:
        """Why the bench is not healthy; empty when it is."""
        reasons = [self.quarantine_reason]
        for bus in self._buses.values():
            reasons += [bus.fault, bus.database_fault, bus.watch.fault]
        reasons += self._ecu_faults
        for node in self._nodes.values():
            reasons += [node.fault, node.memory_fault]
        reasons += self.consoles.faults + self.power.faults + self.adapters.faults
        return "; ".join(reason for reason in reasons if reason)

    @property
    def quarantine_reason(self) -> str | None:
        """Why nobody may have the bench; None when it is in no quarantine."""
        reasons = [self._quarantines.reason(self.name), self._clean_up_fault]
        if self._start_fault is not None:
            reasons.append(f"not in its safe state: {self._start_fault}")
        return "; ".join(reason for reason in reasons if reason) or None

    async def quarantine(self, reason: str) -> None:
        """Keeps the bench from everybody until `clear_quarantine`, restarts of the agent included."""
        _log.error("bench goes into quarantine", bench=self.name, reason=reason)
        await asyncio.to_thread(self._quarantines.save, self.name, reason)
        self._changed()

    async def clear_quarantine(self) -> None:
        """Somebody has looked at the bench. What keeps it from its safe state goes on doing so."""
        if self.tenancy is None:
            await self.make_safe()
        await asyncio.to_thread(self._quarantines.save, self.name, None)
        self._changed()

    def describe(self) -> bench_pb2.BenchDescription:
        """What the bench carries, and how it is."""
        reason = self.health_reason
        return bench_pb2.BenchDescription(
            name=self.name,
            labels=self.config.labels,
            buses=[describe_bus(bus) for bus in self._buses.values()],
            ecus=[
                _describe_ecu(description, link.name, simulated=name in self._nodes)
                for name, (description, link) in self._ecus.items()
            ],
            health=self._health(reason),
            health_reason=reason or (self.hooks.warning if self.hooks is not None else ""),
            last_clean_up=[
                bench_pb2.CleanUpStep(name=step.name, elapsed_ms=round(step.elapsed_s * 1000), fault=step.fault or "")
                for step in self._last_clean_up
            ],
            consoles=self.consoles.describe(),
            power=self.power.describe(),
            adapters=self.adapters.describe(),
        )

    @property
    def buses(self) -> dict[str, AgentBus]:
        """By name."""
        return self._buses

    def bus(self, name: str) -> AgentBus:
        """Raises CallError (NOT_FOUND), listing the buses that exist."""
        bus = self._buses.get(name)
        if bus is None:
            raise not_found(f"bench {self.name} has no bus {name!r}; it has {', '.join(self._buses)}")
        return bus

    @property
    def ecus(self) -> list[tuple[EcuDescription, EcuLink]]:
        """All ECUs, each with the way to it."""
        return list(self._ecus.values())

    def ecu(self, name: str) -> tuple[EcuDescription, EcuLink]:
        """An ECU, and the way to it. Raises CallError (NOT_FOUND), listing the ECUs that exist."""
        found = self._ecus.get(name)
        if found is None:
            known = ", ".join(self._ecus) or "none"
            raise not_found(f"bench {self.name} has no ECU {name!r}; it has {known}")
        return found

    def simulated(self, ecu: str) -> SimulatedNode | None:
        """The ECU of that name, if the agent plays it."""
        return self._nodes.get(ecu)

    def simulated_node(self, name: str) -> SimulatedNode:
        """An ECU that the agent plays. Raises CallError for one that does not exist, or is not simulated."""
        self.ecu(name)
        node = self._nodes.get(name)
        if node is None:
            known = ", ".join(self._nodes) or "none"
            raise invalid(f"ECU {name} of bench {self.name} is not simulated; these are: {known}")
        return node

    def ecus_on(self, bus: AgentBus) -> dict[str, EcuDescription]:
        """The bench's ECUs on one bus, simulated and real, by name."""
        return {name: self._ecus[name][0] for name, at in self._on_bus.items() if at is bus}

    def held(self) -> Tenancy:
        """The present holder's. Raises CallError when there is none."""
        if self.tenancy is None:
            raise unavailable(f"bench {self.name} is not held by anybody")
        return self.tenancy

    async def open_lease(self, lease: str, epoch: int, team: str) -> None:
        """A new holder: traces start, and what was on the buses before is out of sight."""
        if self.tenancy is not None:
            raise unavailable(f"bench {self.name} still carries lease {self.tenancy.lease}")
        if self.quarantine_reason is not None:
            raise unavailable(f"bench {self.name} is in quarantine: {self.quarantine_reason}")
        cleanup = CleanUpStack()
        self._push_safe_state(cleanup)
        if self.hooks is not None and (deadline_s := self.hooks.deadline_s("after_lease")):
            undo = partial(self._after_lease, lease, epoch)
            cleanup.push("run the hook after_lease", undo, deadline_s=deadline_s + _HOOK_END_S)
        tenancy = Tenancy(lease, cleanup, self.uds_meters)
        await asyncio.to_thread(self._start_records, tenancy, team)
        for bus in self._buses.values():
            tenancy.bus_up(bus)
        self.power.new_lease()
        tenancy.cleanup.push("close the consoles", self.consoles.close_lease, deadline_s=consoles.CLOSE_S)
        tenancy.cleanup.push("bring the buses back from bus-off", self._recover_buses, deadline_s=_RECOVER_S)
        self.tenancy = tenancy
        _log.info("lease began", bench=self.name, lease=lease, epoch=epoch)
        if self.hooks is not None:
            try:
                await self.hooks.run("before_lease", lease, epoch, tenancy.traces)
            except HookFailed as error:
                if error.quarantine:
                    await self.quarantine(str(error))
                raise LeaseFailed(str(error)) from error
            except CallError as error:  # the agent is stopping
                raise LeaseFailed(error.message) from error
            self._changed()

    def _start_records(self, tenancy: Tenancy, team: str) -> None:
        """Traces and logs of consoles begin. Blocks for the disk."""
        tenancy.start_traces(self._traces, self._settings, self._buses, team)
        self.consoles.open_lease(tenancy.traces, self._settings)

    async def silence(self) -> None:
        """Stops at once whatever the lease left sending by itself; what fails is tried again by `close_lease`."""
        if self.tenancy is not None:
            await self.tenancy.cleanup.silence()

    async def close_lease(self) -> None:
        """Undoes all that the lease has done. Raises CleanUpError, after everything was tried, when some of it failed.

        Called again, it tries what has failed.
        """
        tenancy = self.tenancy
        if tenancy is None:
            return
        outcomes = await tenancy.cleanup.run()
        self._last_clean_up = tenancy.cleanup.outcomes
        await asyncio.to_thread(tenancy.note_clean_up, self._traces, outcomes)
        faults = [outcome.fault for outcome in outcomes if outcome.fault]
        if faults:
            raise CleanUpError("; ".join(faults))
        self.tenancy = None
        _log.info("lease ended", bench=self.name, lease=tenancy.lease)

    async def close_unseen(self, epoch: int) -> None:
        """The lease of this epoch has ended without a call since the agent was restarted.

        The start has made the bench safe; only the hook is missing.
        """
        if self.tenancy is None and self.quarantine_reason is None:
            await self._after_lease(f"of epoch {epoch}", epoch)
            await self.make_safe()

    async def _after_lease(self, lease: str, epoch: int) -> None:
        """Runs the hook on a tenancy of its own, and undoes what it has done."""
        if self.hooks is None or not self.hooks.deadline_s("after_lease"):
            return
        ended = self.tenancy
        hooks_own = self.tenancy = Tenancy(lease, CleanUpStack(), self.uds_meters)
        hooks_own.cleanup.push("close the consoles", self.consoles.close_lease, deadline_s=consoles.CLOSE_S)
        faults = []
        try:
            await self.hooks.run("after_lease", lease, epoch, ended.traces if ended is not None else None)
        except HookFailed as error:
            faults.append(str(error))
        except CallError:
            return  # the agent is stopping, the lease may go on
        finally:
            self.tenancy = ended
            faults += [outcome.fault for outcome in await hooks_own.cleanup.run() if outcome.fault]
        if faults:
            await self.quarantine("; ".join(faults))

    def set_clean_up_fault(self, reason: str | None) -> None:
        """Part of the health."""
        if reason != self._clean_up_fault:
            self._clean_up_fault = reason
            self._changed()

    def _push_safe_state(self, stack: CleanUpStack) -> None:
        """What brings the hardware to the state that the configuration declares safe; the last pushed runs first."""
        stack.push("reset the simulated ECUs", self._reset_nodes, deadline_s=_RESET_S)
        stack.push("reset the adapters", self.adapters.reset, deadline_s=adapters.RESET_S)
        stack.push("power to the safe state", self.power.to_safe_state, deadline_s=power.SAFE_STATE_S)

    async def _recover_buses(self) -> None:
        """A bus that stays off is no fault of the clean-up: it makes the bench unhealthy, with the reason."""
        for bus in self._buses.values():
            with contextlib.suppress(CallError):
                await bus.watch.recover()

    async def _reset_nodes(self) -> None:
        await asyncio.gather(*(node.reset() for node in self._nodes.values()))

    async def _leave_sessions(self) -> None:
        """Asks every real ECU back to its default session. One that does not answer is none of our business yet."""
        real = [(ecu, link) for name, (ecu, link) in self._ecus.items() if name not in self._nodes]
        await asyncio.gather(*(_leave_session(ecu, link) for ecu, link in real))

    def _health(self, reason: str) -> "bench_pb2.Health.ValueType":
        if self.quarantine_reason is not None:
            return bench_pb2.QUARANTINED
        return bench_pb2.UNHEALTHY if reason else bench_pb2.HEALTHY

    def _load(self) -> None:
        for bus in self._buses.values():
            bus.load_database()
        for ecu in self.config.ecus:
            try:
                description = chosen_way(ecu, load_ecu(ecu.file))
                if ecu.simulated:
                    self._network.add(description)
            except (ConfigError, ValueError) as error:
                self._ecu_faults.append(str(error).replace("\n", "; "))
                continue
            if description.name in self._ecus:
                self._ecu_faults.append(f"{ecu.file}: ECU {description.name} is on this bench already")
                continue
            if ecu.bus is not None:
                self._on_bus[description.name] = self._buses[ecu.bus]
            self._ecus[description.name] = (description, self._link(description))
            if ecu.simulated:
                node = SimulatedNode(self.name, description, self._nvm / description.name, self._network, self._changed)
                self._nodes[description.name] = node
                self._wire(node)

    def _link(self, ecu: EcuDescription) -> EcuLink:
        return self._on_bus[ecu.name] if ecu.doip is None else DoIpLink(ecu.doip.place, self._gateways)

    def _wire(self, node: SimulatedNode) -> None:
        """Hangs a simulated ECU on the channels that its description names, where a supply is simulated too."""
        channels = self.power.simulated_channels
        if not channels:
            return  # always powered
        power = node.description.simulation.power
        named: tuple[tuple[Channel, str | None], ...] = (("kl30", power.kl30), ("kl15", power.kl15))
        for terminal, name in named:
            if name is None:
                continue
            if name in channels:
                self._loads.connect(name, node, terminal)
            else:
                known = nearest(name, channels)
                fault = f"simulation.power.{terminal}: no simulated power channel {name!r}; {known}"
                self._ecu_faults.append(f"simulated ECU {node.description.name}: {fault}")

    def _simulated_console(self, ecu: str) -> str | None:
        """The pty of a simulated ECU; None while it has none."""
        node = self._nodes.get(ecu)
        return node.serial_port if node is not None else None

    def _nodes_on(self, bus: AgentBus) -> list[SimulatedNode]:
        return [node for name, node in self._nodes.items() if self._on_bus.get(name) is bus]

    async def _bus_up(self, bus: AgentBus) -> None:
        _log.info("bus is open", bench=self.name, bus=bus.name)
        if bus.hub is not None:
            for node in self._nodes_on(bus):
                await node.bus_up(bus.hub, bus.database)
        if self.tenancy is not None:
            self.tenancy.bus_up(bus)
        self._changed()

    async def _bus_down(self, bus: AgentBus) -> None:
        if self.tenancy is not None:
            self.tenancy.bus_down(bus)
        for node in self._nodes_on(bus):
            node.bus_down(bus.fault or f"CAN bus {bus.name!r} is down")
        self._changed()

    def _changed(self) -> None:
        if self.on_change is not None:
            self.on_change()


STATES = {
    BusState.ERROR_ACTIVE: bench_pb2.BUS_ERROR_ACTIVE,
    BusState.ERROR_WARNING: bench_pb2.BUS_ERROR_WARNING,
    BusState.ERROR_PASSIVE: bench_pb2.BUS_ERROR_PASSIVE,
    BusState.BUS_OFF: bench_pb2.BUS_OFF,
    BusState.UNKNOWN: bench_pb2.BUS_UNKNOWN,
}
"""For the wire."""


async def _leave_session(ecu: EcuDescription, way: EcuLink) -> None:
    try:
        tester = UdsTester(way.require(), ecu)
    except CallError:
        return  # the bus is down
    except ValueError:
        return  # nobody can have opened a session: the description does not suit the way
    tester.session = UNKNOWN_SESSION
    await tester.close()


def describe_bus(bus: AgentBus) -> bench_pb2.BusDescription:
    """The bus, for the wire."""
    return bench_pb2.BusDescription(
        name=bus.name,
        interface=bus.config.interface,
        channel=bus.config.channel,
        fd=bus.config.fd,
        messages=sorted(bus.database.messages) if bus.database is not None else [],
        state=STATES[bus.watch.state],
        lost=bus.hub.stats.lost if bus.hub is not None else 0,
        error_frames=bus.hub.stats.error_frames if bus.hub is not None else 0,
    )


def _describe_ecu(ecu: EcuDescription, link: str, *, simulated: bool) -> bench_pb2.EcuDescription:
    return bench_pb2.EcuDescription(
        name=ecu.name,
        bus=link,
        request_id=ecu.addressing.request_can_id if ecu.doip is None else ecu.doip.logical_address,
        response_id=ecu.addressing.response_can_id if ecu.doip is None else ecu.doip.tester_address,
        dids=[
            bench_pb2.DidDescription(name=name, did=did.did, type=did.type, unit=did.unit or "")
            for name, did in ecu.dids.items()
        ],
        simulated=simulated,
    )
