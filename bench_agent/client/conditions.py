"""Conditions on the signals of a message, decided on the agent, beside the bus."""

from dataclasses import dataclass
from typing import Literal

from bench_agent.protocol import bench_pb2
from bench_agent.protocol.values import to_value

Operator = Literal["<", "<=", ">", ">=", "!="]
_OPERATORS: dict[str, bench_pb2.Comparison.Operator.ValueType] = {
    "<": bench_pb2.Comparison.LESS,
    "<=": bench_pb2.Comparison.LESS_OR_EQUAL,
    ">": bench_pb2.Comparison.GREATER,
    ">=": bench_pb2.Comparison.GREATER_OR_EQUAL,
    "!=": bench_pb2.Comparison.NOT_EQUAL,
}


@dataclass(frozen=True, slots=True)
class Equals:
    """The signal has this physical value, or this name from its value table."""

    signal: str
    value: bool | int | float | str


@dataclass(frozen=True, slots=True)
class Within:
    """low <= physical value <= high."""

    signal: str
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Compare:
    """The physical value stands in this relation to ``value``; names from the value table go with "!=" only."""

    signal: str
    op: Operator
    value: bool | int | float | str


Condition = Equals | Within | Compare


def to_wire(condition: Condition) -> bench_pb2.SignalCondition:
    """Raises ValueError for an operator that does not exist."""
    match condition:
        case Equals():
            return bench_pb2.SignalCondition(signal=condition.signal, equals=to_value(condition.value))
        case Within():
            return bench_pb2.SignalCondition(
                signal=condition.signal, within=bench_pb2.Range(low=condition.low, high=condition.high)
            )
        case Compare():
            if condition.op not in _OPERATORS:
                raise ValueError(f"operator {condition.op!r} is none of {', '.join(_OPERATORS)}")
            return bench_pb2.SignalCondition(
                signal=condition.signal,
                compare=bench_pb2.Comparison(operator=_OPERATORS[condition.op], value=to_value(condition.value)),
            )
