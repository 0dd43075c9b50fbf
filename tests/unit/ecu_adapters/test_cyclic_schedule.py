"""When what is due, on a clock made of numbers."""

import heapq

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from ecu_adapters.cyclic.schedule import Grid, Schedule


@given(
    period_s=st.floats(0.001, 10),
    start_s=st.floats(0, 1e6),
    delays=st.lists(st.floats(0, 0.499), min_size=1, max_size=200),
)
def test_a_grid_does_not_drift(period_s: float, start_s: float, delays: list[float]) -> None:
    grid = Grid(start_s, period_s)
    for count, late in enumerate(delays):
        assert grid.due_s == start_s + count * period_s
        assert grid.advance(grid.due_s + late * period_s) == 0


@given(st.floats(0.001, 1), st.floats(0, 100))
def test_what_was_missed_is_left_out_and_counted(period_s: float, behind: float) -> None:
    grid = Grid(0.0, period_s)
    now_s = behind * period_s
    missed = grid.advance(now_s)
    assert grid.index == 1 + missed
    # The next point is the nearest to now: at most half a period ago, or the very next one.
    assert grid.due_s - now_s >= -0.5001 * period_s
    assert missed == 0 or grid.due_s - now_s <= 0.5001 * period_s


def test_another_period_begins_with_the_next_point() -> None:
    grid = Grid(10.0, 1.0)
    grid.advance(10.0)
    slower = grid.with_period(5.0)
    assert slower.due_s == 11.0
    slower.advance(11.0)
    assert slower.due_s == 16.0


class AgainstAModel(RuleBasedStateMachine):
    """A schedule beside a plain dictionary of appointments."""

    def __init__(self) -> None:
        super().__init__()
        self.schedule: Schedule[int] = Schedule()
        self.model: dict[int, tuple[float, int]] = {}
        self.puts = 0

    @rule(entry=st.integers(0, 5), due_s=st.integers(0, 20))
    def put(self, entry: int, due_s: float) -> None:
        self.puts += 1
        self.schedule.put(entry, due_s)
        self.model[entry] = (due_s, self.puts)

    @rule(entry=st.integers(0, 5))
    def drop(self, entry: int) -> None:
        self.schedule.drop(entry)
        self.model.pop(entry, None)

    @rule(now_s=st.integers(0, 20))
    def take(self, now_s: float) -> None:
        due = [(when, entry) for entry, when in self.model.items() if when[0] <= now_s]
        heapq.heapify(due)
        expected = due[0][1] if due else None
        assert self.schedule.take(now_s) == expected
        if expected is not None:
            del self.model[expected]

    @invariant()
    def next_is_the_earliest(self) -> None:
        assert self.schedule.next_s() == min((when[0] for when in self.model.values()), default=None)
        assert len(self.schedule) == len(self.model)


TestAgainstAModel = AgainstAModel.TestCase
