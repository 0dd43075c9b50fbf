"""Python values to and from the wire's Value message."""

from collections.abc import Mapping, Sequence

from bench_agent.protocol import bench_pb2

_ACCEPTED = "a value must be None, bool, int, float, str, bytes, a list or a mapping with text keys"

Plain = None | bool | int | float | str | bytes | list["Plain"] | dict[str, "Plain"]
"""What a Value can carry. Integers are 64 bits wide."""


def to_value(plain: object) -> bench_pb2.Value:
    """Raises TypeError for what a Value cannot carry, and ValueError for integers beyond 64 bits."""
    match plain:
        case None:
            return bench_pb2.Value()
        case bool():
            return bench_pb2.Value(boolean=plain)
        case int():
            return bench_pb2.Value(integer=plain)
        case float():
            return bench_pb2.Value(number=plain)
        case str():
            return bench_pb2.Value(text=plain)
        case bytes() | bytearray():
            return bench_pb2.Value(raw=bytes(plain))
        case list() | tuple():
            return bench_pb2.Value(list=bench_pb2.ListValue(values=[to_value(item) for item in plain]))
        case Mapping():
            return bench_pb2.Value(map=bench_pb2.MapValue(values=to_values(plain), order=plain))
    raise TypeError(f"{_ACCEPTED}, not {type(plain).__name__}")


def from_value(value: bench_pb2.Value) -> Plain:
    """The plain value; an unset Value is None."""
    match value.WhichOneof("kind"):
        case "boolean":
            return value.boolean
        case "integer":
            return value.integer
        case "number":
            return value.number
        case "text":
            return value.text
        case "raw":
            return value.raw
        case "list":
            return [from_value(item) for item in value.list.values]
        case "map":
            return _ordered(from_values(value.map.values), value.map.order)
    return None


def to_values(plain: Mapping[str, object]) -> dict[str, bench_pb2.Value]:
    """A mapping for a ``map<string, Value>`` field. Raises as `to_value` does."""
    for key in plain:
        if not isinstance(key, str):
            raise TypeError(f"{_ACCEPTED}; this key is {key!r}")
    return {key: to_value(item) for key, item in plain.items()}


def from_values(values: Mapping[str, bench_pb2.Value]) -> dict[str, Plain]:
    """The plain mapping of a ``map<string, Value>`` field."""
    return {key: from_value(item) for key, item in values.items()}


def _ordered(plain: dict[str, Plain], order: Sequence[str]) -> dict[str, Plain]:
    """The same in the order that goes with it, or by name where a peer sent none."""
    names = order if set(order) == plain.keys() else sorted(plain)
    return {name: plain[name] for name in names}
