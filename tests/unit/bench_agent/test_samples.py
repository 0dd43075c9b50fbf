import statistics

from hypothesis import given
from hypothesis import strategies as st

from bench_agent.protocol.process_use import CpuMeter, memory_bytes
from bench_agent.protocol.samples import Samples


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=50))
def test_a_summary_is_of_all_values(values: list[float]) -> None:
    samples = Samples()
    for value in values:
        samples.add(value)
    summary = samples.take()
    assert summary is not None
    assert (summary.count, summary.max) == (len(values), max(values))
    assert abs(summary.mean - statistics.fmean(values)) <= 1e-6 * max(values)
    assert summary.p50 in values and summary.p95 in values
    assert sum(value <= summary.p95 for value in values) >= 0.95 * len(values)
    assert samples.take() is None


def test_memory_is_bounded_and_nothing_is_lost_of_count_and_maximum() -> None:
    samples = Samples(kept=10)
    samples.add(1e9)
    for _ in range(99):
        samples.add(1.0)
    summary = samples.take()
    assert summary is not None
    assert (summary.count, summary.max, summary.p95) == (100, 1e9, 1.0)


def test_the_process_uses_something() -> None:
    meter = CpuMeter()
    assert memory_bytes() > 1_000_000
    sum(range(1_000_000))
    assert meter.percent() > 0
