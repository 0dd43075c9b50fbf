"""What is remembered of the 0x78 of an exchange."""

from hypothesis import given
from hypothesis import strategies as st

from ecu_adapters.uds.pending import KEPT, Pending


@given(st.lists(st.floats(0.001, 10), min_size=1, max_size=100), st.floats(0, 10))
def test_however_many_there_are(waits: list[float], rest: float) -> None:
    pending, now, moments = Pending(), 0.0, list[float]()
    for wait in waits:
        now += wait
        moments.append(now)
        pending.add(now)
    pending.end_gap(now + rest)
    assert pending.count == len(moments)
    assert pending.times == moments[:KEPT]
    assert pending.last_s == moments[-1]
    ends = [*moments[1:], now + rest]
    assert pending.longest_gap_s == max(end - start for start, end in zip(moments, ends, strict=True))


def test_none() -> None:
    pending = Pending()
    pending.end_gap(5.0)
    assert pending == Pending()
