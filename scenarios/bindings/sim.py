"""The module sim: control of the bench's simulated ECUs."""

from typing import TYPE_CHECKING

from scenarios import durations
from scenarios.bindings.context import Context
from scenarios.sandbox import Function
from scenarios.values import from_hex, from_json, to_hex

if TYPE_CHECKING:
    from bench_agent.client import SimulationClient, SimulationState

_CONDITIONS = {"failed": True, "passed": False}
MOST_MEMORY = 64 << 10
"""Bytes of memory that a script reads at once."""


class SimBindings:
    """Functions of the module sim."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._ecus: list[SimulationClient] = []

    @property
    def functions(self) -> tuple[Function, ...]:
        """What scripts call, through the module."""
        return (
            self.sim_ecu,
            self.sim_fault,
            self.sim_clear,
            self.sim_voltage,
            self.sim_set,
            self.sim_signal,
            self.sim_message,
            self.sim_dtc,
            self.sim_cycle,
            self.sim_memory,
            self.sim_write_memory,
            self.sim_advance,
            self.sim_reset,
            self.sim_state,
        )

    def sim_ecu(self, name: object = None) -> int:
        """Takes a simulated ECU; without a name, the only one. Returns its number."""
        with self._context.bench_faults():
            bench = self._context.opened()
            if name is None:
                simulated = tuple(ecu for ecu in bench.describe().ecus if ecu.simulated)
                name = self._context.only("simulated ECU", "sim.ecu", simulated)
            client = bench.simulation(str(name))
            client.state()  # refused here rather than later when it is not simulated
        self._ecus.append(client)
        return len(self._ecus) - 1

    def sim_fault(self, number: int, fault: str) -> int:
        """Puts a fault in force; returns its number."""
        given = dict(from_json(fault) or {})
        kind = str(given.pop("kind", ""))
        if not kind:
            raise ValueError('the fault has no kind, for example { kind = "nrc", service = 0x22, nrc = 0x22 }')
        ecu = self._ecus[number]
        with self._context.bench_faults():
            injected = ecu.inject(kind, **given)
        shown = "".join(f", {key} {value}" for key, value in given.items())
        self._context.record.step(f"{ecu.name} fault {injected}: {kind}{shown}")
        return injected

    def sim_clear(self, number: int, fault: int | None) -> int:
        """Ends one fault, or all; returns how many."""
        ecu = self._ecus[number]
        with self._context.bench_faults():
            cleared = ecu.clear(fault)
        self._context.record.step(f"{ecu.name} {cleared} faults cleared")
        return cleared

    def sim_voltage(self, number: int, terminal: str, volts: float) -> dict[str, object]:
        """V at a power terminal."""
        ecu = self._ecus[number]
        with self._context.bench_faults():
            state = ecu.voltage(terminal, _number(volts, "volts"))
        self._context.record.step(f"{ecu.name} {terminal} {volts:g} V")
        return _state(state)

    def sim_set(self, number: int, did: str | int, value: str) -> None:
        """The value of a data identifier."""
        ecu, decoded = self._ecus[number], from_json(value)
        with self._context.bench_faults():
            ecu.set(did, decoded)
        self._context.record.step(f"{ecu.name} {did} is {decoded}")

    def sim_signal(self, number: int, message: str, signal: str, value: float | str) -> None:
        """A signal that the ECU sends."""
        ecu = self._ecus[number]
        with self._context.bench_faults():
            ecu.signal(message, signal, value)
        self._context.record.step(f"{ecu.name} sends {message}.{signal} = {value}")

    def sim_message(self, number: int, message: str, on: bool) -> None:
        """Stops a message, or lets it go on."""
        ecu = self._ecus[number]
        with self._context.bench_faults():
            ecu.message(message, on)
        self._context.record.step(f"{ecu.name} {'sends' if on else 'does not send'} {message}")

    def sim_dtc(self, number: int, code: str, condition: object) -> None:
        """The test of a trouble code reports."""
        ecu = self._ecus[number]
        if isinstance(condition, int) and not isinstance(condition, bool):
            reported: bool | int = condition
        elif condition in _CONDITIONS:
            reported = _CONDITIONS[str(condition)]
        else:
            raise ValueError(f"condition is {condition!r}; it must be 'failed', 'passed', or a fault detection counter")
        with self._context.bench_faults():
            ecu.dtc(code, reported)
        self._context.record.step(f"{ecu.name} {code} reports {condition}")

    def sim_cycle(self, number: int) -> None:
        """Another operation cycle."""
        ecu = self._ecus[number]
        with self._context.bench_faults():
            ecu.cycle()
        self._context.record.step(f"{ecu.name} begins an operation cycle")

    def sim_memory(self, number: int, address: int, size: int) -> str:
        """Memory as it is, as hexadecimal text."""
        if not 1 <= size <= MOST_MEMORY:
            raise ValueError(f"size is {size}; it must be 1 .. {MOST_MEMORY} bytes")
        with self._context.bench_faults():
            return to_hex(self._ecus[number].memory(_address(address), size))

    def sim_write_memory(self, number: int, address: int, data: str) -> None:
        """Changes memory; ``data`` is hexadecimal text."""
        ecu, payload = self._ecus[number], from_hex(str(data), "data")
        with self._context.bench_faults():
            ecu.write_memory(_address(address), payload)
        self._context.record.step(f"{ecu.name} {len(payload)} bytes at 0x{address:X} changed")

    def sim_advance(self, number: int, duration: object) -> float | None:
        """Lets the virtual clock run; returns what it shows."""
        ecu, seconds = self._ecus[number], durations.parse(duration, "duration")
        with self._context.bench_faults():
            state = ecu.advance(seconds)
        self._context.record.step(f"{ecu.name} is {durations.show(seconds)} older")
        return state.clock

    def sim_reset(self, number: int) -> None:
        """As a watchdog does."""
        ecu = self._ecus[number]
        with self._context.bench_faults():
            ecu.reset()
        self._context.record.step(f"{ecu.name} resets")

    def sim_state(self, number: int) -> dict[str, object]:
        """How the ECU is."""
        with self._context.bench_faults():
            return _state(self._ecus[number].state())


def _number(value: object, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{what} is {value!r}; it must be a number")
    return float(value)


def _address(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 64:
        raise ValueError(f"address is {value!r}; it must be a whole number from 0 on")
    return value


def _state(state: "SimulationState") -> dict[str, object]:
    return {
        "powered": state.powered,
        "ignition": state.ignition,
        "booting": state.booting,
        "session": state.session,
        "unlocked": state.unlocked,
        "kl30": state.kl30,
        "kl15": state.kl15,
        "kl30_current": state.kl30_current,
        "kl15_current": state.kl15_current,
        "clock": state.clock,
        "faults": [{"number": one.number, "kind": one.kind, "struck": one.struck} for one in state.faults],
        "requests": state.requests,
        "negative": state.negative,
        "pending": state.pending,
        "unanswered": state.unanswered,
        "session_timeouts": state.session_timeouts,
        "sent": state.sent,
    }
