"""Conditions on the signals of one message."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from bench_agent.protocol import bench_pb2
from bench_agent.protocol.values import from_value
from ecu_adapters.dbc import Database, SignalValue
from ecu_adapters.yaml_file import nearest

_COMPARISONS = {
    bench_pb2.Comparison.LESS: "<",
    bench_pb2.Comparison.LESS_OR_EQUAL: "<=",
    bench_pb2.Comparison.GREATER: ">",
    bench_pb2.Comparison.GREATER_OR_EQUAL: ">=",
    bench_pb2.Comparison.NOT_EQUAL: "!=",
}
_EDGES = {bench_pb2.Edge.RISING: "rising", bench_pb2.Edge.FALLING: "falling", bench_pb2.Edge.CHANGES: "changes"}


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

    def holds(self, actual: SignalValue, before: SignalValue | None = None) -> bool:
        """Whether a decoded value meets the condition; ``before`` is the value in the previous frame."""
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


@dataclass(frozen=True, slots=True)
class Edge:
    """What a signal does from one frame to the next. The first frame that is seen has no edge."""

    signal: str
    kind: str
    """rising, falling or changes."""
    threshold: float | None = None
    before: SignalValue | None = None
    after: SignalValue | None = None
    numbers: dict[str, int | float] | None = None
    """The signal's value table: physical value by name."""

    def holds(self, actual: SignalValue, before: SignalValue | None = None) -> bool:
        """Whether the step from ``before`` to ``actual`` is the one."""
        if before is None:
            return False
        if self.kind == "changes":
            return not self._same(actual, before) and self._is(before, self.before) and self._is(actual, self.after)
        new, old = self._number(actual), self._number(before)
        if new is None or old is None:
            return False
        if self.kind == "falling":
            new, old = -new, -old
        if self.threshold is None:
            return old < new and not _equal(old, new)
        limit = -self.threshold if self.kind == "falling" else self.threshold
        return old < limit <= new

    def __str__(self) -> str:
        if self.kind != "changes":
            return self.kind if self.threshold is None else f"{self.kind} through {self.threshold:g}"
        ends = [f"from {self.before}"] if self.before is not None else []
        ends += [f"to {self.after}"] if self.after is not None else []
        return " ".join(["a change", *ends])

    def _number(self, value: SignalValue) -> int | float | None:
        return (self.numbers or {}).get(value) if isinstance(value, str) else value

    def _same(self, left: SignalValue, right: SignalValue) -> bool:
        if isinstance(left, str) and isinstance(right, str):
            return left == right
        one, other = self._number(left), self._number(right)
        return one is not None and other is not None and _equal(one, other)

    def _is(self, value: SignalValue, wanted: SignalValue | None) -> bool:
        return wanted is None or self._same(value, wanted)


def condition(wire: bench_pb2.SignalCondition, message: str, database: Database) -> Condition | Edge:
    """A condition of a request. Raises ValueError, naming what is wrong, and DatabaseError for an unknown signal."""
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
        case "edge":
            return _edge(wire, numbers, plain)
        case _:
            raise ValueError(f"{wire.signal}: the condition has no test")
    checked = _value(wire.signal, value, numbers)
    if isinstance(checked, str) and operator not in ("==", "!="):
        raise ValueError(f"{wire.signal}: {operator} needs a number, not the name {value!r}")
    return Condition(wire.signal, operator, checked, numbers=plain)


def _edge(wire: bench_pb2.SignalCondition, numbers: Mapping[str, object], plain: dict[str, int | float]) -> Edge:
    kind = _EDGES.get(wire.edge.kind)
    if kind is None:
        raise ValueError(f"{wire.signal}: the edge has no kind")
    before, after = (
        _value(wire.signal, from_value(end), numbers) if end.WhichOneof("kind") else None
        for end in (wire.edge.before, wire.edge.after)
    )
    threshold = wire.edge.threshold if wire.edge.HasField("threshold") else None
    if kind == "changes" and threshold is not None:
        raise ValueError(f"{wire.signal}: a threshold goes with rising and falling")
    if kind != "changes" and (before, after) != (None, None):
        raise ValueError(f"{wire.signal}: {kind} takes a threshold, no values before and after")
    return Edge(wire.signal, kind, threshold, before, after, plain)


def _value(signal: str, value: object, numbers: Mapping[str, object]) -> SignalValue:
    if isinstance(value, str) and value not in numbers:
        raise ValueError(f"{signal} has no value named {value!r}; {nearest(value, numbers)}")
    if not isinstance(value, bool | int | float | str):
        raise ValueError(f"{signal}: a value is a number or a name from the value table, not {value!r}")
    return value


def _equal(left: float, right: float) -> bool:
    # Scaling by 0.1 leaves binary dust: 0.1 * 3 is 0.30000000000000004.
    return math.isclose(left, right, rel_tol=1e-9, abs_tol=1e-9)
