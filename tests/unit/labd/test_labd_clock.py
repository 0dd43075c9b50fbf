"""labd's clock: whatever becomes of the wall clock, leases end when they would have ended."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from labd.services.clock import CLOCK_NAME, LabClock
from labd.services.time_sync import PATIENCE_S, synchronised, wait_until_set

HOUR_S = 3600.0


@dataclass
class Machine:
    """A computer with a wall clock that can be set, and a counter that starts with each boot."""

    folder: Path
    wall: float = 1_800_000_000.0
    up: float = 1000.0
    boot: str = "boot-1"

    def labd(self, settle: Callable[[], None] = lambda: None) -> LabClock:
        """labd starts."""
        path = self.folder / CLOCK_NAME
        return LabClock(path, wall=lambda: self.wall, since_boot=lambda: self.up, boot=self.boot, settle=settle)

    def passes(self, seconds: float) -> None:
        self.wall += seconds
        self.up += seconds

    def boots(self, seconds: float) -> None:
        self.wall, self.up, self.boot = self.wall + seconds, 20.0, f"{self.boot}+"


@pytest.mark.parametrize("step", [HOUR_S, -HOUR_S])
def test_a_step_while_labd_runs_changes_nothing(tmp_path: Path, step: float) -> None:
    machine = Machine(tmp_path)
    clock = machine.labd()
    before = clock.now()
    machine.wall += step
    machine.passes(10)
    assert clock.now() == pytest.approx(before + 10)


@pytest.mark.parametrize("step", [HOUR_S, -HOUR_S])
def test_a_step_while_labd_is_away_changes_nothing(tmp_path: Path, step: float) -> None:
    machine = Machine(tmp_path)
    before = machine.labd().now()
    machine.wall += step
    machine.passes(10)
    assert machine.labd().now() == pytest.approx(before + 10)


def test_a_boot_takes_the_time_that_has_passed_from_the_wall_clock(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    before = machine.labd().now()
    machine.boots(300)
    assert machine.labd().now() == pytest.approx(before + 300)


def test_a_boot_with_a_clock_that_went_back_does_not_go_back(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    clock = machine.labd()
    machine.passes(50)
    clock.keep()
    before = clock.now()
    machine.boots(60)
    machine.wall -= HOUR_S
    assert machine.labd().now() == pytest.approx(before)


def test_a_boot_with_a_wrong_clock_waits_for_the_time_service(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    before = machine.labd().now()
    machine.boots(300 + HOUR_S)

    def sleep(seconds: float) -> None:
        machine.passes(seconds)
        if machine.up > 25:  # it has found its server by now
            machine.wall = before + 300 + machine.up - 20

    def right() -> bool:
        return machine.up > 25

    clock = machine.labd(lambda: wait_until_set(right, lambda: machine.up, sleep))
    assert clock.now() == pytest.approx(before + 305, abs=2)


def test_nobody_waits_without_a_boot_or_for_a_service_that_does_not_come(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.labd()
    waits = list[float]()

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        machine.passes(seconds)

    def settle() -> None:
        wait_until_set(lambda: False, lambda: machine.up, sleep)

    machine.labd(settle)  # the same boot: no wall clock is asked
    assert not waits
    machine.boots(60)
    machine.labd(settle)
    assert machine.up == pytest.approx(PATIENCE_S)
    waits.clear()
    machine.boots(60)
    machine.passes(3600)
    machine.labd(settle)  # long after the start
    wait_until_set(lambda: None, lambda: 0.0, sleep)  # the kernel does not tell
    assert not waits


def test_the_kernel_is_asked() -> None:
    assert synchronised() in (True, False, None)


@given(st.lists(st.tuples(st.sampled_from(["pass", "step", "restart", "boot"]), st.floats(-7200, 7200)), max_size=20))
def test_time_never_goes_back(tmp_path_factory: pytest.TempPathFactory, story: list[tuple[str, float]]) -> None:
    machine = Machine(tmp_path_factory.mktemp("clock"))
    clock, last = machine.labd(), 0.0
    for event, amount in story:
        clock.keep()
        match event:
            case "pass":
                machine.passes(abs(amount))
            case "step":
                machine.wall += amount
            case "restart":
                clock = machine.labd()
            case "boot":
                machine.boots(abs(amount))
                clock = machine.labd()
        assert clock.now() >= last - 1e-3
        last = clock.now()


@pytest.mark.parametrize("text", ["", "{}", '{"boot": "boot-1", "offset": "x", "last": 1}', "[1]"])
def test_a_damaged_file_means_a_fresh_start(tmp_path: Path, text: str) -> None:
    machine = Machine(tmp_path)
    (tmp_path / CLOCK_NAME).write_text(text)
    with capture_logs() as logs:
        assert machine.labd().now() == pytest.approx(machine.wall)
    assert "starts anew" in logs[0]["event"]


def test_a_wrong_wall_clock_is_said_once(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    clock = machine.labd()
    with capture_logs() as logs:
        machine.wall += HOUR_S
        clock.keep()
        clock.keep()
    assert [entry["wall_ahead_s"] for entry in logs] == [HOUR_S]


def test_without_leases_labd_takes_a_corrected_date_over(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.labd()
    machine.wall -= HOUR_S
    clock = machine.labd()
    assert clock.now() == pytest.approx(machine.wall + HOUR_S)
    clock.take_wall_clock()
    assert clock.now() == pytest.approx(machine.wall)
    assert machine.labd().now() == pytest.approx(machine.wall)
