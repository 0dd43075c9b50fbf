"""Plain values on the wire."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from bench_agent.protocol import bench_pb2
from bench_agent.protocol.values import Plain, from_value, to_value

_LEAVES = (
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 63) - 1) | st.floats(allow_nan=False) | st.text()
) | st.binary()
_TABLES = st.dictionaries(st.text(), _LEAVES | st.lists(_LEAVES) | st.dictionaries(st.text(), _LEAVES))


def _over_the_wire(value: bench_pb2.Value) -> bench_pb2.Value:
    return bench_pb2.Value.FromString(value.SerializeToString())


@given(_TABLES)
def test_values_keep_kind_and_order(table: dict[str, Any]) -> None:
    came = from_value(_over_the_wire(to_value(table)))
    assert came == table
    assert _shape(came) == _shape(table)


def test_a_peer_that_sends_no_order_means_by_name() -> None:
    sent = to_value({"b": 1, "a": 2})
    del sent.map.order[:]
    came = from_value(_over_the_wire(sent))
    assert isinstance(came, dict)
    assert list(came) == ["a", "b"]


def _shape(value: Plain) -> object:
    """Kinds and order, which == takes no notice of."""
    if isinstance(value, dict):
        return [(name, _shape(item)) for name, item in value.items()]
    return [_shape(item) for item in value] if isinstance(value, list) else type(value)
