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


@dataclass(frozen=True, slots=True)
class Edge:
    """What the signal does from one frame to the next; the first frame that is seen has no edge."""

    signal: str
    kind: Literal["rising", "falling", "changes"]
    threshold: float | None = None
    """rising: from below it to at least it; falling: from above it to at most it. None: any step in that direction."""
    before: bool | int | float | str | None = None
    """changes: the value before; None is any."""
    after: bool | int | float | str | None = None


Condition = Equals | Within | Compare | Edge
_KINDS: dict[str, bench_pb2.Edge.Kind.ValueType] = {
    "rising": bench_pb2.Edge.RISING,
    "falling": bench_pb2.Edge.FALLING,
    "changes": bench_pb2.Edge.CHANGES,
}


@dataclass(frozen=True, slots=True)
class Held:
    """All conditions hold in every frame for so long (s).

    A frame that does not meet them begins it anew, and so does a gap of more than five cycle times of the message; one
    without a cycle time holds until a frame says otherwise.
    """

    duration_s: float


@dataclass(frozen=True, slots=True)
class AtLeast:
    """So many frames meet all conditions."""

    count: int


@dataclass(frozen=True, slots=True)
class Exactly:
    """So many frames meet all conditions until the timeout, and no more; 0: none."""

    count: int


@dataclass(frozen=True, slots=True)
class CycleWithin:
    """Every interval between two frames until the timeout is within limits (s); there are two frames at least."""

    low_s: float
    high_s: float


Rule = Held | AtLeast | Exactly | CycleWithin


def apply_rule(request: bench_pb2.ExpectRequest, rule: Rule | None) -> None:
    """Raises ValueError for a number that cannot be."""
    match rule:
        case Held():
            request.hold_ms = round(rule.duration_s * 1000)
        case AtLeast():
            request.count = rule.count
        case Exactly():
            request.exactly = rule.count
        case CycleWithin():
            limits = bench_pb2.CycleLimits(low_us=round(rule.low_s * 1e6), high_us=round(rule.high_s * 1e6))
            request.cycle.CopyFrom(limits)


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
        case Edge():
            if condition.kind not in _KINDS:
                raise ValueError(f"edge {condition.kind!r} is none of {', '.join(_KINDS)}")
            return bench_pb2.SignalCondition(
                signal=condition.signal,
                edge=bench_pb2.Edge(
                    kind=_KINDS[condition.kind],
                    threshold=condition.threshold,
                    before=to_value(condition.before) if condition.before is not None else None,
                    after=to_value(condition.after) if condition.after is not None else None,
                ),
            )
