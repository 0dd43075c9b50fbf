"""Control of simulated ECUs over gRPC."""

from bench_agent.protocol import simulation_pb2, simulation_pb2_grpc
from bench_agent.protocol.values import from_value, from_values
from bench_agent.server.cleanup import Phase
from bench_agent.server.door import Context
from bench_agent.server.errors import invalid, unavailable
from bench_agent.server.leased import Leased
from bench_agent.server.simulated_node import SimulatedNode
from ecu_adapters.simulator.clock import VirtualClock
from ecu_adapters.simulator.control import Control, ControlError, power_terminal
from ecu_adapters.simulator.dtc_engine import FAILED_AT, PASSED_AT
from ecu_adapters.simulator.ecu import SimulatedEcu

_CLEAR_S = 5.0


class SimulationServicer(Leased, simulation_pb2_grpc.SimulationServicer):
    """Methods as in simulation.proto. The door has admitted the caller before any of them runs.

    Only faults need undoing of their own: every lease ends with new simulated ECUs.
    """

    async def State(
        self, request: simulation_pb2.SimulationRequest, context: Context
    ) -> simulation_pb2.SimulationState:
        """How the ECU is."""
        return _state(self._running(request.ecu)[1])

    async def InjectFault(
        self, request: simulation_pb2.InjectFaultRequest, context: Context
    ) -> simulation_pb2.InjectFaultReply:
        """Puts a fault in force."""
        node, ecu = self._running(request.ecu)
        with _Refusing():
            number = Control(ecu).inject(from_values(request.fault))
        self._clear_at_the_end(node)
        return simulation_pb2.InjectFaultReply(number=number)

    async def ClearFaults(
        self, request: simulation_pb2.ClearFaultsRequest, context: Context
    ) -> simulation_pb2.ClearFaultsReply:
        """Ends one fault, or all."""
        number = request.number if request.HasField("number") else None
        return simulation_pb2.ClearFaultsReply(cleared=Control(self._running(request.ecu)[1]).clear_faults(number))

    async def SetVoltage(
        self, request: simulation_pb2.SimulationVoltageRequest, context: Context
    ) -> simulation_pb2.SimulationState:
        """What a power terminal gets."""
        node, ecu = self._running(request.ecu)
        with _Refusing():
            channel = node.feeds.get(power_terminal(request.terminal))
            if channel is not None:
                raise invalid(
                    f"{request.terminal} of {request.ecu} is fed by the power channel {channel!r} of the bench: "
                    "switch and set that"
                )
            Control(ecu).set_voltage(request.terminal, request.volts)
        return _state(ecu)

    async def SetValue(
        self, request: simulation_pb2.SimulationValueRequest, context: Context
    ) -> simulation_pb2.SimulationState:
        """The value of a data identifier."""
        ecu = self._running(request.ecu)[1]
        with _Refusing():
            Control(ecu).set_value(request.did, from_value(request.value))
        return _state(ecu)

    async def SetSignal(
        self, request: simulation_pb2.SimulationSignalRequest, context: Context
    ) -> simulation_pb2.SimulationState:
        """A signal that the ECU sends."""
        ecu = self._running(request.ecu)[1]
        with _Refusing():
            Control(ecu).set_signal(request.message, request.signal, from_value(request.value))
        return _state(ecu)

    async def SwitchMessage(
        self, request: simulation_pb2.SimulationMessageRequest, context: Context
    ) -> simulation_pb2.SimulationState:
        """Stops a message, or lets it go on."""
        ecu = self._running(request.ecu)[1]
        with _Refusing():
            Control(ecu).switch_message(request.message, request.on)
        return _state(ecu)

    async def ReportDtc(
        self, request: simulation_pb2.SimulationDtcRequest, context: Context
    ) -> simulation_pb2.SimulationState:
        """The test of a trouble code reports."""
        ecu = self._running(request.ecu)[1]
        if request.WhichOneof("condition") is None:
            raise invalid("neither failed nor counter is given")
        completed = FAILED_AT if request.failed else PASSED_AT
        with _Refusing():
            Control(ecu).report(request.code, completed if request.HasField("failed") else request.counter)
        return _state(ecu)

    async def NewCycle(
        self, request: simulation_pb2.SimulationRequest, context: Context
    ) -> simulation_pb2.SimulationState:
        """Another operation cycle."""
        ecu = self._running(request.ecu)[1]
        Control(ecu).new_cycle()
        return _state(ecu)

    async def ReadMemory(
        self, request: simulation_pb2.SimulationReadMemoryRequest, context: Context
    ) -> simulation_pb2.SimulationMemory:
        """Memory as it is."""
        with _Refusing():
            data = Control(self._running(request.ecu)[1]).read_memory(request.address, request.size)
        return simulation_pb2.SimulationMemory(data=data)

    async def WriteMemory(
        self, request: simulation_pb2.SimulationWriteMemoryRequest, context: Context
    ) -> simulation_pb2.SimulationState:
        """Changes memory."""
        ecu = self._running(request.ecu)[1]
        with _Refusing():
            Control(ecu).write_memory(request.address, request.data)
        return _state(ecu)

    async def Advance(
        self, request: simulation_pb2.SimulationAdvanceRequest, context: Context
    ) -> simulation_pb2.SimulationState:
        """Lets a virtual clock run."""
        ecu = self._running(request.ecu)[1]
        with _Refusing():
            await Control(ecu).advance(request.seconds)
        return _state(ecu)

    async def Reset(
        self, request: simulation_pb2.SimulationRequest, context: Context
    ) -> simulation_pb2.SimulationState:
        """As a watchdog does."""
        ecu = self._running(request.ecu)[1]
        with _Refusing():
            Control(ecu).reset()
        return _state(ecu)

    def _clear_at_the_end(self, node: SimulatedNode) -> None:
        """Faults go first: one that never stops to answer 0x78, or never answers, would spoil what is undone then."""
        cleanup = self.bench().held().cleanup
        name = f"clear the faults of {node.description.name}"
        if cleanup.has(name):
            return

        async def clear() -> None:
            if node.ecu is not None:
                Control(node.ecu).clear_faults()

        cleanup.push(name, clear, deadline_s=_CLEAR_S, phase=Phase.SILENCE)

    def _running(self, name: str) -> tuple[SimulatedNode, SimulatedEcu]:
        bench = self.bench()
        node = bench.simulated_node(name)
        if node.ecu is None:
            raise unavailable(node.fault or f"simulated ECU {name} does not run")
        return node, node.ecu


class _Refusing:
    """Turns what the simulator refuses into the call's end."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, ControlError):
            raise invalid(str(error)) from error


def _state(ecu: SimulatedEcu) -> simulation_pb2.SimulationState:
    server, power = ecu.server, ecu.power
    clock = ecu.clock
    return simulation_pb2.SimulationState(
        powered=power.powered,
        ignition=power.ignition,
        booting=server.booting,
        session=server.state.session,
        unlocked=server.state.unlocked,
        kl30=power.volts["kl30"],
        kl15=power.volts["kl15"],
        kl30_current=ecu.current("kl30"),
        kl15_current=ecu.current("kl15"),
        clock=clock.now() if isinstance(clock, VirtualClock) else None,
        faults=[
            simulation_pb2.SimulationFault(number=active.number, kind=active.fault.kind, struck=active.struck)
            for active in ecu.faults.active
        ],
        requests=server.stats.requests,
        negative=server.stats.negative,
        pending=server.stats.pending,
        unanswered=server.stats.unanswered,
        session_timeouts=server.stats.session_timeouts,
        sent={name: sender.stats.sent for name, sender in ecu.cyclic.items()},
    )
