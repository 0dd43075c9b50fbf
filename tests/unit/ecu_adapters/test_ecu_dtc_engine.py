"""Trouble codes over operation cycles: status bits, confirmation, aging, snapshots, freezing."""

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ecu_adapters.dtcs import Dtc
from ecu_adapters.simulator.dtc_engine import DtcEngine, Status

P, U = 0x030100, 0xC10000


class Bench:
    def __init__(self, **settings: object) -> None:
        self.speed = 0
        self.changes: list[tuple[int, int, int]] = []
        dtcs = [
            Dtc.model_validate({"code": "P0301", "status": 0x50, "snapshot": ["Speed"], **settings}),
            Dtc.model_validate({"code": "U0100", "status": 0x50}),
        ]
        self.engine = DtcEngine(dtcs, self._capture, lambda *change: self.changes.append(change))

    def _capture(self, names: Iterable[str]) -> dict[int, bytes]:
        assert list(names) == ["Speed"]
        return {0x0200: bytes((self.speed,))}


def test_a_failure_sets_its_bits_and_only_its_own() -> None:
    bench = Bench()
    bench.engine.failed(P)
    assert (bench.engine.status(P), bench.engine.status(U)) == (0x2F, 0x50)
    assert bench.changes == [(P, 0x50, 0x2F)]
    bench.engine.passed(P)
    assert bench.engine.status(P) == 0x2E
    bench.engine.passed(U)
    assert bench.engine.status(U) == 0x00


def test_confirmation_takes_as_many_cycles_in_a_row_as_configured() -> None:
    bench = Bench(confirm_after=3, warning=True)
    for cycle, expected in enumerate((0x27, 0x27, 0xAF)):
        bench.engine.failed(P)
        bench.engine.failed(P)
        assert bench.engine.status(P) == expected, cycle
        bench.engine.new_cycle()
    fresh = Bench(confirm_after=2)
    fresh.engine.failed(P)
    fresh.engine.new_cycle()
    fresh.engine.passed(P)
    fresh.engine.new_cycle()
    fresh.engine.failed(P)
    assert not fresh.engine.status(P) & Status.CONFIRMED, "a clean cycle in between starts the count anew"


def test_pending_outlives_a_cycle_without_result() -> None:
    bench = Bench(confirm_after=5)
    bench.engine.failed(P)
    bench.engine.new_cycle()
    assert bench.engine.status(P) == 0x65
    bench.engine.new_cycle()
    assert bench.engine.status(P) & Status.PENDING
    bench.engine.passed(P)
    assert bench.engine.status(P) & Status.PENDING
    bench.engine.new_cycle()
    assert not bench.engine.status(P) & Status.PENDING


def test_aging_forgets_after_clean_cycles_only() -> None:
    bench = Bench(age_after=3, warning=True)
    bench.engine.failed(P)
    bench.engine.new_cycle()
    entry = bench.engine.entries[P]
    for _ in range(2):
        bench.engine.passed(P)
        bench.engine.new_cycle()
    assert (entry.aging, entry.status & Status.CONFIRMED) == (2, Status.CONFIRMED)
    bench.engine.new_cycle()
    assert entry.aging == 2, "a cycle in which the test did not complete says nothing"
    bench.engine.passed(P)
    bench.engine.new_cycle()
    assert entry.status == 0x60
    assert (entry.aging, entry.aged, entry.snapshots) == (0, 1, {})


def test_snapshots_are_of_the_first_and_the_last_failure() -> None:
    bench = Bench()
    for bench.speed in (10, 20, 30):
        bench.engine.failed(P)
        bench.engine.failed(P)
        bench.engine.passed(P)
    entry = bench.engine.entries[P]
    assert entry.snapshots == {1: {0x0200: b"\x0a"}, 2: {0x0200: b"\x1e"}}
    assert entry.occurrences == 3
    bench.engine.clear(P)
    assert (bench.engine.status(P), bench.engine.entries[P].snapshots) == (0x50, {})


def test_frozen_codes_change_by_clearing_only() -> None:
    bench = Bench()
    bench.engine.frozen = True
    bench.engine.failed(P)
    bench.engine.new_cycle()
    assert bench.engine.status(P) == 0x50
    bench.engine.frozen = False
    bench.engine.failed(P)
    bench.engine.frozen = True
    bench.engine.clear(0xFFFFFF)
    assert bench.engine.status(P) == 0x50


def test_the_order_of_failures_is_known() -> None:
    bench = Bench(confirm_after=2)
    bench.engine.failed(U)
    bench.engine.failed(P)
    assert [bench.engine.noted(name) for name in ("first_failed", "last_failed")] == [U, P]
    assert [bench.engine.noted(name) for name in ("first_confirmed", "last_confirmed")] == [U, U]
    bench.engine.clear(U)
    assert [bench.engine.noted(name) for name in ("first_failed", "last_failed")] == [None, P]


def test_a_permanent_code_outlives_clearing_until_a_clean_cycle() -> None:
    bench = Bench(permanent=True)
    bench.engine.failed(P)
    bench.engine.clear(P)
    assert bench.engine.entries[P].permanent
    bench.engine.new_cycle()
    assert bench.engine.entries[P].permanent
    bench.engine.passed(P)
    bench.engine.new_cycle()
    assert not bench.engine.entries[P].permanent


@pytest.mark.parametrize(("counter", "status"), [(127, 0x2F), (-128, 0x00), (126, 0x50), (-1, 0x50)])
def test_the_detection_counter_completes_a_test_at_its_ends(counter: int, status: int) -> None:
    bench = Bench()
    bench.engine.detected(P, counter)
    assert (bench.engine.status(P), bench.engine.entries[P].detection) == (status, counter)


class Life(RuleBasedStateMachine):
    """Whatever happens in whatever order."""

    def __init__(self) -> None:
        super().__init__()
        self.bench = Bench(confirm_after=2, age_after=2, warning=True)
        self.frozen_status: int | None = None

    @rule()
    def fail(self) -> None:
        self.bench.engine.failed(P)
        if not self.bench.engine.frozen:
            assert self.bench.engine.status(P) & Status.TEST_FAILED

    @rule()
    def succeed(self) -> None:
        self.bench.engine.passed(P)
        if not self.bench.engine.frozen:
            assert not self.bench.engine.status(P) & Status.TEST_FAILED

    @rule()
    def cycle(self) -> None:
        self.bench.engine.new_cycle()

    @precondition(lambda self: not self.bench.engine.frozen)
    @rule()
    def freeze(self) -> None:
        self.bench.engine.frozen = True
        self.frozen_status = self.bench.engine.status(P)

    @rule()
    def thaw(self) -> None:
        self.bench.engine.frozen = False
        self.frozen_status = None

    @rule()
    def clear(self) -> None:
        self.bench.engine.clear(0xFFFFFF)
        assert self.bench.engine.status(P) == 0x50
        if self.frozen_status is not None:
            self.frozen_status = 0x50

    @rule()
    def power_cycle(self) -> None:
        """What is kept is what was there."""
        kept = self.bench.engine.dump()
        other = Bench(confirm_after=2, age_after=2, warning=True)
        other.engine.restore(kept)
        assert other.engine.dump() == kept

    @invariant()
    def frozen_stays(self) -> None:
        assert self.frozen_status in (None, self.bench.engine.status(P))

    @invariant()
    def bits_fit_together(self) -> None:
        entry = self.bench.engine.entries[P]
        status = Status(entry.status)
        if status & Status.TEST_FAILED:
            assert status & Status.FAILED_SINCE_CLEAR
            assert not status & Status.NOT_COMPLETED_SINCE_CLEAR
        if status & Status.FAILED_THIS_CYCLE:
            assert status & Status.FAILED_SINCE_CLEAR
            assert status & Status.PENDING
            assert not status & Status.NOT_COMPLETED_THIS_CYCLE
        if status & (Status.PENDING | Status.CONFIRMED):
            assert status & Status.FAILED_SINCE_CLEAR
            assert entry.snapshots
        assert bool(status & Status.WARNING) == bool(status & Status.CONFIRMED)
        assert bool(status & Status.FAILED_SINCE_CLEAR) == (entry.occurrences > 0)
        assert 0 <= entry.aging < 2
        assert entry.failed_cycles <= 2


TestLife = Life.TestCase


@given(st.lists(st.sampled_from(["fail", "pass", "cycle"]), max_size=40), st.integers(1, 4))
def test_confirmed_means_that_many_cycles_in_a_row_failed(steps: list[str], needed: int) -> None:
    """Against a plain model: cycles as lists of what happened in them."""
    bench = Bench(confirm_after=needed, age_after=255)
    cycles: list[list[str]] = [[]]
    for step in steps:
        if step == "cycle":
            bench.engine.new_cycle()
            cycles.append([])
        else:
            (bench.engine.failed if step == "fail" else bench.engine.passed)(P)
            cycles[-1].append(step)
    row, confirmed = 0, False
    for cycle in cycles:
        if "fail" in cycle:
            row += 1
        elif cycle:
            row = 0
        confirmed = confirmed or row >= needed
    assert bool(bench.engine.status(P) & Status.CONFIRMED) == confirmed
