"""What is decided on a row of frames: each rule against its plain definition over whole histories, and edges."""

from hypothesis import given
from hypothesis import strategies as st

from bench_agent.server.conditions import Edge
from bench_agent.server.rules import AtLeast, Cycle, Exactly, First, Held, Intervals, Rule

MS = 1_000_000
frames = st.lists(st.tuples(st.integers(1, 60), st.booleans()), max_size=40)
"""Time since the frame before, in ms, and whether the frame meets the conditions."""


def stamped(history: list[tuple[int, bool]]) -> list[tuple[int, bool]]:
    now, found = 0, []
    for after_ms, holds in history:
        now += after_ms * MS
        found.append((now, holds))
    return found


def played(rule: Rule, history: list[tuple[int, bool]], end_ns: int) -> tuple[bool, int | None]:
    """The verdict, and the frame that decided (None: the end)."""
    for index, (stamp, holds) in enumerate(history):
        verdict = rule.take(stamp, holds)
        if verdict is not None:
            return verdict, index
    return rule.end(end_ns), None


@given(frames, st.integers(1, 10))
def test_first_at_least_and_exactly(history: list[tuple[int, bool]], count: int) -> None:
    row = stamped(history)
    good = [index for index, (_, holds) in enumerate(row) if holds]
    assert played(First(), row, 10**12) == ((True, good[0]) if good else (False, None))
    assert played(AtLeast(count), row, 10**12) == ((True, good[count - 1]) if len(good) >= count else (False, None))
    assert played(Exactly(count), row, 10**12) == (
        (False, good[count]) if len(good) > count else (len(good) == count, None)
    )
    assert played(Exactly(0), row, 10**12) == ((False, good[0]) if good else (True, None))


@given(frames, st.integers(1, 200), st.integers(20, 100))
def test_held_is_an_unbroken_row_that_lasts(history: list[tuple[int, bool]], hold_ms: int, gap_ms: int) -> None:
    row = stamped(history)
    expected: tuple[bool, int | None] = (False, None)
    for index, (stamp, _) in enumerate(row):
        # The longest row that ends here: frames that hold, none further apart than the gap.
        first = index
        if not row[index][1]:
            continue
        while first > 0 and row[first - 1][1] and row[first][0] - row[first - 1][0] <= gap_ms * MS:
            first -= 1
        if stamp - row[first][0] >= hold_ms * MS:
            expected = (True, index)
            break
    assert played(Held(hold_ms * MS, gap_ms * MS), row, 10**12) == expected


@given(frames, st.integers(1, 200), st.integers(0, 300))
def test_an_event_holds_until_another_one_says_otherwise(
    history: list[tuple[int, bool]], hold_ms: int, quiet_ms: int
) -> None:
    row = stamped(history)
    end_ns = (row[-1][0] if row else 0) + quiet_ms * MS
    rule = Held(hold_ms * MS, None)
    held_at = None
    for index, (stamp, holds) in enumerate(row):
        if holds and (index == 0 or not row[index - 1][1]):
            until = next((later for later, still in row[index + 1 :] if not still), end_ns)
            if until - stamp >= hold_ms * MS:
                held_at = stamp + hold_ms * MS
                break
    verdict, _ = played(rule, row, end_ns)
    assert verdict is (held_at is not None)
    if verdict:
        assert rule.wake_ns == held_at


@given(st.lists(st.integers(1, 60), max_size=30), st.integers(1, 30), st.integers(0, 30))
def test_cycle_times(intervals: list[int], low_ms: int, width_ms: int) -> None:
    history = stamped([(interval, True) for interval in [1, *intervals]])
    high_ms = low_ms + width_ms
    wrong = [index for index, interval in enumerate(intervals, 1) if not low_ms <= interval <= high_ms]
    rule = Cycle(low_ms * MS, high_ms * MS)
    expected = (False, wrong[0]) if wrong else (bool(intervals), None)
    assert played(rule, history, history[-1][0] + MS) == expected
    silent = Cycle(low_ms * MS, high_ms * MS)
    assert not played(silent, history, history[-1][0] + (high_ms + 100) * MS)[0]
    measured = Intervals()
    for stamp, _ in history:
        measured.take(stamp)
    assert measured.frames == len(intervals) + 1
    if intervals:
        assert (measured.shortest_ns, measured.longest_ns) == (min(intervals) * MS, max(intervals) * MS)
        assert measured.mean_ns == sum(intervals) * MS / len(intervals)


@given(st.integers(-50, 50), st.integers(-50, 50), st.integers(-50, 50))
def test_edges(before: int, after: int, limit: int) -> None:
    assert Edge("S", "rising").holds(after, before) is (after > before)
    assert Edge("S", "falling").holds(after, before) is (after < before)
    assert Edge("S", "changes").holds(after, before) is (after != before)
    assert Edge("S", "rising", limit).holds(after, before) is (before < limit <= after)
    assert Edge("S", "falling", limit).holds(after, before) is (before > limit >= after)
    assert not Edge("S", "changes").holds(after, None)


def test_edges_of_named_values() -> None:
    numbers: dict[str, int | float] = {"Off": 0, "On": 1}
    assert Edge("S", "rising", numbers=numbers).holds("On", "Off")
    assert not Edge("S", "rising", numbers=numbers).holds(7, "Invalid")
    assert Edge("S", "changes", before="Off", after="On", numbers=numbers).holds("On", "Off")
    assert not Edge("S", "changes", before="On", numbers=numbers).holds("On", "Off")
    assert Edge("S", "changes", after=1, numbers=numbers).holds("On", 3)
    assert str(Edge("S", "changes", before="Off", after="On")) == "a change from Off to On"
    assert str(Edge("S", "rising", 1000)) == "rising through 1000"
