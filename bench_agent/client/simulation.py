"""Control of a simulated ECU on a leased bench."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bench_agent.client.connection import Connection
from bench_agent.protocol import simulation_pb2, simulation_pb2_grpc
from bench_agent.protocol.values import to_value, to_values

LONGEST_ADVANCE_S = 3600.0
_ADVANCE_WAIT_S = 120.0
_PIECE = 1 << 20
"""Bytes of memory in one call."""


@dataclass(frozen=True, slots=True)
class SimulatedFault:
    """A fault in force, and how often it has struck."""

    number: int
    kind: str
    struck: int


@dataclass(frozen=True, slots=True)
class SimulationState:
    """How a simulated ECU is."""

    powered: bool
    ignition: bool
    booting: bool
    """After a reset, or without power: it neither listens nor speaks."""
    session: int
    unlocked: int | None
    """The security level that is unlocked."""
    kl30: float | None
    """V at the battery's terminal; None: never set, it is on."""
    kl15: float | None
    """V at the ignition's terminal."""
    kl30_current: float
    """A."""
    kl15_current: float
    clock: float | None
    """Virtual seconds since the ECU was started; None: its clock is real."""
    faults: tuple[SimulatedFault, ...]
    requests: int
    """Of its UDS server since the ECU was started, as the next four."""
    negative: int
    pending: int
    unanswered: int
    session_timeouts: int
    sent: dict[str, int]
    """Frames of the messages that it sends by itself."""


class SimulationClient:
    """One simulated ECU. Thread-safe. Methods raise InvalidRequest for what the ECU cannot do, or another BenchError.

    At the end of the lease the ECU is as its description says again.
    """

    def __init__(self, connection: Connection, name: str) -> None:
        self._connection = connection
        self._stub = simulation_pb2_grpc.SimulationStub(connection.channel)
        self.name = name

    def state(self) -> SimulationState:
        """How it is now."""
        return _state(self._connection.ask(self._stub.State, simulation_pb2.SimulationRequest(ecu=self.name)))

    def inject(self, kind: str, **fields: object) -> int:
        """Puts a fault in force; ``fields`` as in an ECU's description. Returns its number, for `clear`."""
        request = simulation_pb2.InjectFaultRequest(ecu=self.name, fault=to_values({"kind": kind, **fields}))
        return self._connection.ask(self._stub.InjectFault, request).number

    @contextmanager
    def fault(self, kind: str, **fields: object) -> Iterator[int]:
        """A fault that is in force within the context."""
        number = self.inject(kind, **fields)
        try:
            yield number
        finally:
            self.clear(number)

    def clear(self, number: int | None = None) -> int:
        """Ends one fault, or all; returns how many were in force."""
        request = simulation_pb2.ClearFaultsRequest(ecu=self.name, number=number)
        return self._connection.ask(self._stub.ClearFaults, request).cleared

    def voltage(self, terminal: str, volts: float) -> SimulationState:
        """V at "kl30" or "kl15", where no power channel of the bench feeds it."""
        request = simulation_pb2.SimulationVoltageRequest(ecu=self.name, terminal=terminal, volts=volts)
        return _state(self._connection.ask(self._stub.SetVoltage, request))

    def set(self, did: str | int, value: object) -> SimulationState:
        """The value of a data identifier, whatever a tester may write; bytes are taken as they are."""
        text = did if isinstance(did, str) else f"0x{did:04X}"
        request = simulation_pb2.SimulationValueRequest(ecu=self.name, did=text, value=to_value(value))
        return _state(self._connection.ask(self._stub.SetValue, request))

    def signal(self, message: str, signal: str, value: float | str) -> SimulationState:
        """A signal of a message that the ECU sends by itself; it follows no other signal any more."""
        request = simulation_pb2.SimulationSignalRequest(
            ecu=self.name, message=message, signal=signal, value=to_value(value)
        )
        return _state(self._connection.ask(self._stub.SetSignal, request))

    def message(self, message: str, on: bool) -> SimulationState:
        """Stops a message that the ECU sends by itself, or lets it go on."""
        request = simulation_pb2.SimulationMessageRequest(ecu=self.name, message=message, on=on)
        return _state(self._connection.ask(self._stub.SwitchMessage, request))

    def dtc(self, code: str, condition: bool | int) -> SimulationState:
        """The test of a trouble code has failed (True), has passed (False), or is at this fault detection counter."""
        request = simulation_pb2.SimulationDtcRequest(ecu=self.name, code=code)
        if isinstance(condition, bool):
            request.failed = condition
        else:
            request.counter = condition
        return _state(self._connection.ask(self._stub.ReportDtc, request))

    def cycle(self) -> SimulationState:
        """The operation cycle ends, and another one begins."""
        return _state(self._connection.ask(self._stub.NewCycle, simulation_pb2.SimulationRequest(ecu=self.name)))

    def memory(self, address: int, size: int) -> bytes:
        """Memory as it is, whatever a tester may read."""
        data = bytearray()
        while True:
            request = simulation_pb2.SimulationReadMemoryRequest(
                ecu=self.name, address=address + len(data), size=min(size - len(data), _PIECE)
            )
            data += self._connection.ask(self._stub.ReadMemory, request).data
            if len(data) >= size:
                return bytes(data)

    def write_memory(self, address: int, data: bytes) -> None:
        """Writes it likewise, flash that is not erased too; at most 1 MiB."""
        request = simulation_pb2.SimulationWriteMemoryRequest(ecu=self.name, address=address, data=data)
        self._connection.ask(self._stub.WriteMemory, request)

    def advance(self, seconds: float) -> SimulationState:
        """Lets a virtual clock run, at most an hour; returns when everything that fell due is done."""
        request = simulation_pb2.SimulationAdvanceRequest(ecu=self.name, seconds=seconds)
        return _state(self._connection.ask(self._stub.Advance, request, _ADVANCE_WAIT_S))

    def reset(self) -> SimulationState:
        """A reset that no tester has asked for, as a watchdog's."""
        return _state(self._connection.ask(self._stub.Reset, simulation_pb2.SimulationRequest(ecu=self.name)))


def _state(wire: simulation_pb2.SimulationState) -> SimulationState:
    return SimulationState(
        wire.powered,
        wire.ignition,
        wire.booting,
        wire.session,
        wire.unlocked if wire.HasField("unlocked") else None,
        wire.kl30 if wire.HasField("kl30") else None,
        wire.kl15 if wire.HasField("kl15") else None,
        wire.kl30_current,
        wire.kl15_current,
        wire.clock if wire.HasField("clock") else None,
        tuple(SimulatedFault(fault.number, fault.kind, fault.struck) for fault in wire.faults),
        wire.requests,
        wire.negative,
        wire.pending,
        wire.unanswered,
        wire.session_timeouts,
        dict(wire.sent),
    )
