"""The spool of points: a queue on the disk that survives crashes, damage and too much."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from labd.model.measurements import CATALOGUE, Kind
from labd.model.point import Point, Value
from labd.telemetry.counters import Counters, Loss
from labd.telemetry.lines import line
from labd.telemetry.segments import HEADER_SIZE, record
from labd.telemetry.spool import Spool
from labd.telemetry.writer import SPOOL_BYTES

MB = 2**20
Open = Callable[..., tuple[Spool, Counters]]


def test_an_hour_of_the_largest_points_fits_the_default_bound() -> None:
    values: dict[Kind, Value] = {
        Kind.INTEGER: 1234,
        Kind.FLOAT: 0.1 + 0.2,
        Kind.BOOLEAN: True,
        Kind.TEXT: "error-active",
    }
    fields = {field.name: values[field.kind] for field in CATALOGUE["can_bus"].fields}
    point = Point("can_bus", {"agent": "bench-host-1", "bench": "hil-rack-3", "bus": "powertrain"}, fields, 1.8e9)
    batch = record(b"\n".join([line(point, 1_800_000_000_000_000_000)] * 20), 20)
    assert 60 * 50_000 * len(batch) / 20 < SPOOL_BYTES


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Open]:
    """Opens the spool of this test, as often as its labd is killed."""
    spools: list[Spool] = []

    def open_it(bytes_max: int = MB) -> tuple[Spool, Counters]:
        counters = Counters()
        spools.append(Spool(tmp_path, counters, bytes_max=bytes_max))
        return spools[-1], counters

    yield open_it
    for spool in spools:
        spool.close()


def _numbers(first: int, count: int) -> list[bytes]:
    return [b"m v=%d" % number for number in range(first, first + count)]


def _drain(spool: Spool) -> list[bytes]:
    lines: list[bytes] = []
    while (batch := spool.peek(7, MB)) is not None:
        lines += batch.lines
        spool.acknowledge(batch)
    return lines


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.points"))


def test_lines_come_out_in_their_order_across_segments_and_processes(tmp_path: Path, opened: Open) -> None:
    spool, _ = opened(256 * 1024)
    for start in range(0, 3000, 50):
        spool.append(_numbers(start, 50))
    assert len(_files(tmp_path)) > 1
    batch = spool.peek(120, MB)
    assert batch is not None
    spool.acknowledge(batch)
    again, counters = opened(256 * 1024)  # the first one was killed
    assert counters.spooled == 3000 - len(batch.lines)
    assert batch.lines + _drain(again) == _numbers(0, 3000)
    assert (counters.losses(), counters.spooled) == ({}, 0)


def test_what_was_not_acknowledged_comes_again(tmp_path: Path, opened: Open) -> None:
    spool, _ = opened()
    spool.append(_numbers(0, 5))
    first = spool.peek(100, MB)
    assert first is not None
    assert (second := opened()[0].peek(100, MB)) is not None
    assert second.lines == first.lines == _numbers(0, 5)


@pytest.mark.parametrize("cut", range(1, HEADER_SIZE + 5))
def test_a_record_that_was_cut_off_by_a_crash_is_dropped_and_counted(tmp_path: Path, opened: Open, cut: int) -> None:
    spool, _ = opened()
    spool.append(_numbers(0, 3))
    before = _files(tmp_path)[0].stat().st_size
    spool.append([b"m v=1"])
    with _files(tmp_path)[0].open("r+b") as file:
        file.truncate(before + cut)
    again, counters = opened()
    assert counters.losses() == {"torn": 1}
    again.append(_numbers(10, 2))
    assert _drain(again) == _numbers(0, 3) + _numbers(10, 2)


def test_a_damaged_record_is_passed_over_and_counted_with_its_points(tmp_path: Path, opened: Open) -> None:
    spool, counters = opened()
    spool.append(_numbers(0, 3))
    spool.append(_numbers(3, 4))
    spool.append(_numbers(7, 3))
    path = _files(tmp_path)[0]
    path.write_bytes(path.read_bytes().replace(b"m v=4", b"m v=X"))
    assert _drain(spool) == _numbers(0, 3) + _numbers(7, 3)
    assert (counters.losses(), counters.spooled) == ({"damaged": 4}, 0)


def test_nothing_but_damage_does_not_stop_what_comes_behind(tmp_path: Path, opened: Open) -> None:
    spool, counters = opened()
    spool.append(_numbers(0, 3))
    path = _files(tmp_path)[0]
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    assert spool.peek(10, MB) is None
    spool.append(_numbers(3, 3))
    assert _drain(spool) == _numbers(3, 3)
    assert counters.losses() == {"damaged": 3}


def test_a_file_that_is_no_segment_and_a_lost_position_cost_no_more_than_they_must(
    tmp_path: Path, opened: Open
) -> None:
    spool, _ = opened()
    spool.append(_numbers(0, 3))
    (tmp_path / "000000000000.points").write_bytes(b"something else entirely")
    (tmp_path / "position").write_bytes(b"")
    again, counters = opened()
    assert _drain(again) == _numbers(0, 3)
    assert counters.losses() == {"damaged": 1}


def test_a_full_spool_drops_the_oldest_that_nobody_reads_and_counts_them(tmp_path: Path, opened: Open) -> None:
    spool, counters = opened(64 * 1024)
    spool.append(_numbers(0, 10))
    reading = spool.peek(10, MB)
    assert reading is not None
    for start in range(10, 20_010, 100):
        spool.append(_numbers(start, 100))
    assert sum(path.stat().st_size for path in _files(tmp_path)) == counters.spool_bytes <= 64 * 1024
    spool.acknowledge(reading)
    rest = _drain(spool)
    assert reading.lines == _numbers(0, 10)
    assert rest[-100:] == _numbers(19_910, 100)
    assert rest == sorted(rest, key=lambda line: int(line[4:]))
    assert len(rest) + 10 + counters.dropped[Loss.SPOOL_FULL] == 20_010


def test_a_disk_that_takes_nothing_keeps_nothing_of_the_record(
    tmp_path: Path, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    from labd.telemetry import spool as module

    spool, _ = opened()
    spool.append(_numbers(0, 3))
    write = module._write

    def half(file: object, data: bytes) -> None:
        write(file, data[: len(data) // 2])  # type: ignore[arg-type]
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "_write", half)
    with pytest.raises(OSError, match="No space"):
        spool.append(_numbers(3, 3))
    monkeypatch.undo()
    spool.append(_numbers(6, 3))
    assert _drain(spool) == _numbers(0, 3) + _numbers(6, 3)


class Model(RuleBasedStateMachine):
    """A queue that is killed, cut off and filled at random: every line comes out in its order, or is counted."""

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.counters = Counters()
        self.lost = 0
        self.appended = 0
        self.acknowledged = 0
        self.latest = -1
        self.spool = Spool(self.folder, self.counters, bytes_max=8192)

    @rule(count=st.integers(1, 60))
    def append(self, count: int) -> None:
        self.spool.append(_numbers(self.appended, count))
        self.appended += count

    @rule(lines=st.integers(1, 100), size=st.integers(1, 4000), acknowledge=st.booleans())
    def read(self, lines: int, size: int, acknowledge: bool) -> None:
        batch = self.spool.peek(lines, size)
        if batch is None:
            assert self.counters.spooled == 0
            return
        numbers = [int(line[4:]) for line in batch.lines]
        assert numbers == sorted(set(numbers))
        assert numbers[0] > self.latest
        if acknowledge:
            self.spool.acknowledge(batch)
            self.latest = numbers[-1]
            self.acknowledged += len(numbers)

    @rule()
    def kill(self) -> None:
        self._open_again()

    @rule(cut=st.integers(1, 40))
    def kill_while_writing(self, cut: int) -> None:
        """What is written last is cut off, as far as it was not acknowledged."""
        position = self.folder / "position"
        segment, offset = map(int, position.read_text().split()) if position.exists() else (0, 0)
        path = _files(self.folder)[-1:]
        if path:
            least = offset if int(path[0].stem) == segment else 8
            size = path[0].stat().st_size
            with path[0].open("r+b") as file:
                file.truncate(max(least, size - cut))
        before = self.counters.spooled
        self._open_again()
        # A header that is gone says not how many there were.
        uncounted = before - self.counters.spooled - self.counters.dropped[Loss.TORN]
        assert uncounted >= 0 or self.counters.dropped[Loss.TORN] == 1
        self.lost += uncounted

    @invariant()
    def nothing_is_missing(self) -> None:
        if hasattr(self, "spool"):
            lost = self.lost + sum(self.counters.dropped.values())
            assert self.acknowledged + self.counters.spooled + lost == self.appended
            assert self.counters.spool_bytes <= 8192 + 4096 + 1500

    def teardown(self) -> None:
        self.spool.close()
        shutil.rmtree(self.folder)

    def _open_again(self) -> None:
        self.lost += sum(self.counters.dropped.values())
        self.spool.close()
        self.counters = Counters()
        self.spool = Spool(self.folder, self.counters, bytes_max=8192)


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
