"""The module can: frames and DBC messages, sent and awaited."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from scenarios import durations
from scenarios.bindings.context import Context, checked_switches, options, wait
from scenarios.bindings.frames import frame_of, socketcan_id
from scenarios.sandbox import Function, ScenarioFault
from scenarios.values import from_hex, from_json, to_hex

if TYPE_CHECKING:
    from bench_agent.client import BusClient, Condition, Expectation, Rule


_MOST = 1_000_000
"""Frames that an expect can count."""


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
            self.can_measure_cycle,
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

    def can_send_message(self, number: int, message: str, signals: str, switches: str) -> float:
        """Sends a DBC message."""
        bus, values = self._buses[number], dict(from_json(signals) or {})
        force = options(switches).get("force", False)
        with self._context.bench_faults():
            sent = bus.client.send_message(message, values, force=force)
        bus.sent_ns = sent.timestamp_ns
        self._context.record.step(f"{bus.client.name} <- {message} {shown(values)}: {sent.frame}")
        return sent.timestamp_ns / 1e9

    def can_send_frame(self, number: int, can_id: int, data: object, switches: str) -> float:
        """Sends a frame."""
        bus, frame = self._buses[number], frame_of(can_id, data, options(switches))
        with self._context.bench_faults():
            bus.sent_ns = bus.client.send(frame)
        self._context.record.step(f"{bus.client.name} <- {frame}")
        return bus.sent_ns / 1e9

    def can_expect_message(
        self, number: int, message: str, conditions: str, timeout: object, encoded: str
    ) -> dict[str, object]:
        """Waits for a DBC message that meets the conditions."""
        bus, timeout_s = self._buses[number], wait(timeout)
        wanted = [condition_of(*condition) for condition in from_json(conditions) or []]
        rule, _ = _rule(encoded)
        with self._context.bench_faults():
            found = bus.client.expect_message(
                message, wanted, self._context.bounded(timeout_s), bus.since(message), **rule
            )
        self._context.record.check()
        if not found.met:
            self._unmet(bus, message, timeout_s, found, decided=bool(rule))
        what = f" {shown(found.signals)}: {found.frame}" if found.frame is not None else ": none, as expected"
        self._context.record.step(f"{bus.client.name} -> {message}{what}")
        return {"signals": found.signals, "time": self._met(bus, message, found)}

    def can_expect_frame(
        self, number: int, can_id: int, data: object, timeout: object, encoded: str
    ) -> dict[str, object]:
        """Waits for a frame with this ID and, if given, this data."""
        bus, timeout_s = self._buses[number], wait(timeout)
        wanted = None if data is None else from_hex(str(data), "data")
        rule, switches = _rule(encoded)
        full_id = socketcan_id(can_id, switches)
        with self._context.bench_faults():
            found = bus.client.expect_frame(
                full_id, wanted, self._context.bounded(timeout_s), bus.since(full_id), **rule
            )
        self._context.record.check()
        if not found.met:
            what = f"frame 0x{can_id:X}" + ("" if wanted is None else f" with data {to_hex(wanted)}")
            self._unmet(bus, what, timeout_s, found, decided=bool(rule))
        shown = str(found.frame) if found.frame is not None else f"no frame 0x{can_id:X}, as expected"
        self._context.record.step(f"{bus.client.name} -> {shown}")
        return {"data": to_hex(found.frame.data) if found.frame else None, "time": self._met(bus, full_id, found)}

    def can_measure_cycle(self, number: int, what: object, window: object, encoded: str) -> dict[str, object]:
        """Listens to a message or an ID."""
        bus, window_s = self._buses[number], wait(window)
        target = socketcan_id(what, options(encoded)) if isinstance(what, int) else str(what)
        with self._context.bench_faults():
            found = bus.client.measure_cycle(target, self._context.bounded(window_s))
        self._context.record.check()
        name = f"0x{what:X}" if isinstance(what, int) else what
        times = ", ".join(durations.show(time_s) for time_s in (found.shortest_s, found.mean_s, found.longest_s))
        self._context.record.step(f"{bus.client.name} -> {name}: {found.frames} frames, intervals {times}")
        return {
            "frames": found.frames,
            "shortest": found.shortest_s,
            "mean": found.mean_s,
            "longest": found.longest_s,
        }

    def _met(self, bus: _Bus, what: str | int, found: "Expectation") -> float | None:
        """When, in seconds since the Unix epoch; the next expect looks at later frames."""
        if found.frame is None:
            return None
        bus.met_ns[what] = found.frame.timestamp_ns
        return found.frame.timestamp_ns / 1e9

    def _unmet(self, bus: _Bus, what: str, timeout_s: float, found: "Expectation", *, decided: bool) -> NoReturn:
        """``decided``: by a rule, which says itself what was amiss."""
        self._context.look_at_clock()
        within = f"within {durations.show(timeout_s)}"
        if not decided and not found.seen:
            why = f"no {what} was seen {within}"
        else:
            reason = "; ".join(found.unmet) or str(found.frame)
            start = f"{what}: not as expected" if decided else f"no {what} met the conditions"
            why = f"{start} {within}; {found.seen} seen, {'' if decided else 'the last: '}{reason}"
        self._context.record.step(f"{bus.client.name}: {why}")
        raise ScenarioFault("check", f"{bus.client.name}: {why}", seen=found.seen, unmet=list(found.unmet))


def shown(signals: Mapping[str, object]) -> str:
    """Signals for people."""
    return ", ".join(f"{name}={value}" for name, value in signals.items()) or "(no signals given)"


def condition_of(signal: str, kind: str, first: Any = None, second: Any = None) -> "Condition":
    """A condition as the Lua side writes it: the signal, the kind of test, and its parts. Raises ValueError."""
    from bench_agent.client import Compare, Edge, Equals, Within

    match kind:
        case "edge":
            return Edge(signal, **first)
        case "within":
            return Within(signal, float(first), float(second))
        case "compare":
            return Compare(signal, first, second)
    if not isinstance(first, bool | int | float | str):
        raise ValueError(f"the condition on signal {signal} must be a number, text, a boolean or a matcher")
    return Equals(signal, first)


def _rule(encoded: str) -> "tuple[dict[str, Rule], dict[str, bool]]":
    """The rule among the options of an expect, as keyword argument, and the switches. Raises ValueError."""
    from bench_agent.client import AtLeast, CycleWithin, Exactly, Held

    chosen = dict(from_json(encoded) or {})
    rules: list[Rule] = []
    if (hold := chosen.pop("hold", None)) is not None:
        rules.append(Held(wait(hold, "hold")))
    for name, kind, least in (("count", AtLeast, 1), ("exactly", Exactly, 0)):
        if (count := chosen.pop(name, None)) is not None:
            if isinstance(count, bool) or not isinstance(count, int) or not least <= count <= _MOST:
                raise ValueError(f"{name} is {count!r}; it must be a whole number, {least} .. {_MOST}")
            rules.append(kind(count))
    if (cycle := chosen.pop("cycle", None)) is not None:
        low_s, high_s = durations.parse(cycle[0], "low"), durations.parse(cycle[1], "high")
        rules.append(CycleWithin(low_s, high_s))
    if len(rules) > 1:
        raise ValueError("an expect takes one of hold, count and exactly, not several")
    return ({"rule": rules[0]} if rules else {}), checked_switches(chosen)
