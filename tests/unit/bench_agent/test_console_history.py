from hypothesis import given
from hypothesis import strategies as st

from bench_agent.server.console_history import ConsoleHistory


@given(st.lists(st.binary(max_size=40), max_size=30), st.integers(1, 50), st.integers(0, 400), st.integers(0, 60))
def test_offsets_count_all_that_was_ever_said(parts: list[bytes], capacity: int, offset: int, limit: int) -> None:
    history, everything = ConsoleHistory(capacity), b"".join(parts)
    for part in parts:
        history.append(part)
    assert history.end == len(everything)
    assert history.end - history.start >= min(capacity, len(everything))
    first, data = history.read(offset, limit)
    assert first == min(max(offset, history.start), history.end)
    assert data == everything[first : first + limit]
