"""Whether a frame is the one that is waited for. Decided where frames arrive: no frame crosses the network for it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import can

from bench_agent.protocol import bench_pb2
from bench_agent.protocol.values import from_value
from bench_agent.server import convert
from ecu_adapters.dbc import Database, SignalValue
from ecu_adapters.yaml_file import nearest

_COMPARISONS = {
    bench_pb2.Comparison.LESS: "<",
    bench_pb2.Comparison.LESS_OR_EQUAL: "<=",
    bench_pb2.Comparison.GREATER: ">",
    bench_pb2.Comparison.GREATER_OR_EQUAL: ">=",
    bench_pb2.Comparison.NOT_EQUAL: "!=",
}


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition on one signal. ``low`` and ``high`` belong to "within", ``value`` to the other operators."""

    signal: str
    operator: str
    value: SignalValue = 0
    low: float = 0.0
    high: float = 0.0
    numbers: dict[str, int | float] | None = None
    """The signal's value table: physical value by name."""

    def holds(self, actual: SignalValue) -> bool:
        """Whether a decoded value meets the condition."""
        if isinstance(self.value, str):
            # A number that has no name differs from every name.
            return (actual == self.value) is (self.operator == "==")
        number = (self.numbers or {}).get(actual) if isinstance(actual, str) else actual
        if number is None:
            return self.operator == "!="
        match self.operator:
            case "within":
                return self.low <= number <= self.high
            case "==":
                return _equal(number, self.value)
            case "!=":
                return not _equal(number, self.value)
            case "<":
                return number < self.value
            case "<=":
                return number <= self.value or _equal(number, self.value)
            case ">":
                return number > self.value
            case _:
                return number >= self.value or _equal(number, self.value)

    def __str__(self) -> str:
        if self.operator == "within":
            return f"{self.low:g} .. {self.high:g}"
        shown = self.value if isinstance(self.value, str) else f"{self.value:g}"
        return f"{shown}" if self.operator == "==" else f"{self.operator} {shown}"


class Matcher:
    """Feeds on frames until one meets all conditions; remembers the last that matched message or ID."""

    def __init__(
        self,
        can_id: int,
        data: bytes | None = None,
        conditions: Sequence[Condition] = (),
        database: Database | None = None,
    ) -> None:
        self.can_id = can_id
        """As in SocketCAN: bit 31 marks a 29-bit one."""
        self.met = False
        self.seen = 0
        self.last: can.Message | None = None
        self.signals: dict[str, SignalValue] = {}
        self.unmet: list[str] = []
        self._data = data
        self._conditions = conditions
        self._database = database

    def feed(self, message: can.Message) -> bool:
        """Whether this frame is the one. Own frames never are: what we sent ourselves says nothing about the ECU."""
        if not message.is_rx or convert.can_id(message) != self.can_id:
            return False
        self.seen += 1
        self.last = message
        decoded = self._database.decode(message) if self._database is not None else None
        self.signals = decoded[1] if decoded is not None else {}
        self.unmet = []
        if self._data is not None and bytes(message.data) != self._data:
            self.unmet.append(f"data = {message.data.hex().upper()}, expected {self._data.hex().upper()}")
        for condition in self._conditions:
            actual = self.signals.get(condition.signal)
            if actual is None:
                self.unmet.append(f"{condition.signal} is not in this frame, expected {condition}")
            elif not condition.holds(actual):
                shown = actual if isinstance(actual, str) else f"{actual:g}"
                self.unmet.append(f"{condition.signal} = {shown}, expected {condition}")
        self.met = not self.unmet
        return self.met


def build(request: bench_pb2.ExpectRequest, bus: str, database: Database | None) -> Matcher:
    """The matcher for a request.

    Raises ValueError, naming what is wrong, and DatabaseError for a message or signal that the database does not know.
    """
    if request.WhichOneof("what") == "frame":
        if request.conditions:
            raise ValueError("conditions go with a message of the DBC, not with a frame ID")
        data = request.frame.data if request.frame.HasField("data") else None
        return Matcher(request.frame.id, data, database=database)
    if not request.message:
        raise ValueError("neither message nor frame is given")
    if database is None:
        raise ValueError(f"bus {bus} has no DBC, so message {request.message!r} is unknown; expect a frame by its ID")
    conditions = [_condition(wire, request.message, database) for wire in request.conditions]
    return Matcher(database.can_id(request.message), conditions=conditions, database=database)


def _condition(wire: bench_pb2.SignalCondition, message: str, database: Database) -> Condition:
    signal = database.signal(message, wire.signal)
    choices: Mapping[int, object] = signal.choices or {}
    numbers = {str(name): signal.conversion.raw_to_scaled(raw, decode_choices=False) for raw, name in choices.items()}
    plain = {name: number for name, number in numbers.items() if isinstance(number, int | float)}
    match wire.WhichOneof("test"):
        case "within":
            if not wire.within.low <= wire.within.high:
                raise ValueError(f"{wire.signal}: low {wire.within.low:g} is above high {wire.within.high:g}")
            return Condition(wire.signal, "within", low=wire.within.low, high=wire.within.high, numbers=plain)
        case "equals":
            operator, value = "==", from_value(wire.equals)
        case "compare":
            operator, value = _COMPARISONS.get(wire.compare.operator, ""), from_value(wire.compare.value)
            if not operator:
                raise ValueError(f"{wire.signal}: the comparison has no operator")
        case _:
            raise ValueError(f"{wire.signal}: the condition has no test")
    if isinstance(value, str):
        if value not in numbers:
            raise ValueError(f"{wire.signal} has no value named {value!r}; {nearest(value, numbers)}")
        if operator not in ("==", "!="):
            raise ValueError(f"{wire.signal}: {operator} needs a number, not the name {value!r}")
    elif not isinstance(value, bool | int | float):
        raise ValueError(f"{wire.signal}: a value is a number or a name from the value table, not {value!r}")
    return Condition(wire.signal, operator, value, numbers=plain)


def _equal(left: float, right: float) -> bool:
    # Scaling by 0.1 leaves binary dust: 0.1 * 3 is 0.30000000000000004.
    return math.isclose(left, right, rel_tol=1e-9, abs_tol=1e-9)
