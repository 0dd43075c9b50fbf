"""The module can: frames and DBC messages, sent and awaited."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from scenarios import durations
from scenarios.bindings.context import Context, options, wait
from scenarios.bindings.frames import frame_of, socketcan_id
from scenarios.sandbox import Function, ScenarioFault
from scenarios.values import from_hex, from_json, to_hex

if TYPE_CHECKING:
    from bench_agent.client import BusClient, Condition
    from bench_agent.protocol.frames import Frame as CanFrame


class _Bus:
    """A bus as one bus object of the script sees it."""

    def __init__(self, client: "BusClient") -> None:
        self.client = client
        self.sent_ns = 0
        self.met_ns: dict[str | int, int] = {}

    def since(self, what: str | int) -> int:
        """From when on frames count for an expect; 0 is from now on."""
        return max(self.sent_ns, self.met_ns.get(what, 0)) if self.sent_ns else 0


class CanBindings:
    """Functions of the module can."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._buses: list[_Bus] = []

    @property
    def functions(self) -> tuple[Function, ...]:
        """What scripts call, through the module."""
        return (
            self.can_bus,
            self.can_send_message,
            self.can_send_frame,
            self.can_expect_message,
            self.can_expect_frame,
        )

    def can_bus(self, name: object = None) -> int:
        """Opens a bus; without a name, the only one. Returns its number."""
        with self._context.bench_faults():
            bench = self._context.opened()
            client = bench.bus(
                self._context.only("bus", "can.bus", bench.describe().buses) if name is None else str(name)
            )
        self._buses.append(_Bus(client))
        self._context.buses.append(client)
        return len(self._buses) - 1

    def can_send_message(self, number: int, message: str, signals: str) -> float:
        """Sends a DBC message."""
        bus, values = self._buses[number], dict(from_json(signals) or {})
        with self._context.bench_faults():
            sent = bus.client.send_message(message, values)
        bus.sent_ns = sent.timestamp_ns
        self._context.record.step(f"{bus.client.name} <- {message} {_shown(values)}: {sent.frame}")
        return sent.timestamp_ns / 1e9

    def can_send_frame(self, number: int, can_id: int, data: object, switches: str) -> float:
        """Sends a frame."""
        bus, frame = self._buses[number], frame_of(can_id, data, options(switches))
        with self._context.bench_faults():
            bus.sent_ns = bus.client.send(frame)
        self._context.record.step(f"{bus.client.name} <- {frame}")
        return bus.sent_ns / 1e9

    def can_expect_message(self, number: int, message: str, conditions: str, timeout: object) -> dict[str, object]:
        """Waits for a DBC message that meets the conditions."""
        bus, timeout_s = self._buses[number], wait(timeout)
        wanted = [_condition(*condition) for condition in from_json(conditions) or []]
        with self._context.bench_faults():
            found = bus.client.expect_message(message, wanted, self._context.bounded(timeout_s), bus.since(message))
        self._context.record.check()
        if not found.met or found.frame is None:
            self._unmet(bus, f"no {message}", timeout_s, found.seen, found.unmet, found.frame)
        bus.met_ns[message] = found.frame.timestamp_ns
        self._context.record.step(f"{bus.client.name} -> {message} {_shown(found.signals)}: {found.frame}")
        return {"signals": found.signals, "time": found.frame.timestamp_ns / 1e9}

    def can_expect_frame(
        self, number: int, can_id: int, data: object, timeout: object, switches: str
    ) -> dict[str, object]:
        """Waits for a frame with this ID and, if given, this data."""
        bus, timeout_s = self._buses[number], wait(timeout)
        wanted = None if data is None else from_hex(str(data), "data")
        full_id = socketcan_id(can_id, options(switches))
        with self._context.bench_faults():
            found = bus.client.expect_frame(full_id, wanted, self._context.bounded(timeout_s), bus.since(full_id))
        self._context.record.check()
        if not found.met or found.frame is None:
            what = f"no frame 0x{can_id:X}" + ("" if wanted is None else f" with data {to_hex(wanted)}")
            self._unmet(bus, what, timeout_s, found.seen, found.unmet, found.frame)
        bus.met_ns[full_id] = found.frame.timestamp_ns
        self._context.record.step(f"{bus.client.name} -> {found.frame}")
        return {"data": to_hex(found.frame.data), "time": found.frame.timestamp_ns / 1e9}

    def _unmet(
        self, bus: _Bus, what: str, timeout_s: float, seen: int, unmet: tuple[str, ...], last: "CanFrame | None"
    ) -> NoReturn:
        self._context.look_at_clock()
        if seen:
            why = f" met the conditions within {durations.show(timeout_s)}; {seen} seen, the last: "
            why += "; ".join(unmet) or str(last)
        else:
            why = f" was seen within {durations.show(timeout_s)}"
        self._context.record.step(f"{bus.client.name}: {what}{why}")
        raise ScenarioFault("check", f"{bus.client.name}: {what}{why}", seen=seen, unmet=list(unmet))


def _shown(signals: Mapping[str, object]) -> str:
    return ", ".join(f"{name}={value}" for name, value in signals.items()) or "(no signals given)"


def _condition(signal: str, kind: str, first: Any = None, second: Any = None) -> "Condition":
    from bench_agent.client import Compare, Equals, Within

    match kind:
        case "within":
            return Within(signal, float(first), float(second))
        case "compare":
            return Compare(signal, first, second)
    if not isinstance(first, bool | int | float | str):
        raise ValueError(f"the condition on signal {signal} must be a number, text, a boolean or a matcher")
    return Equals(signal, first)
