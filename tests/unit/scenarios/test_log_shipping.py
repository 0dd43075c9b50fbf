"""Log lines on their way to labd: order, numbers, retries, bounds."""

import threading
from collections.abc import Callable, Mapping, Sequence

from labd.client import LabUnreachable, ProblemError
from scenarios import shipping
from scenarios.shipping import LogShipper

AWAY = LabUnreachable("http://127.0.0.1:1", "connection refused")


class FakeLab:
    """Stores lines as labd does; ``faults`` are raised, one per request, after or before storing."""

    def __init__(self) -> None:
        self.stored: list[str] = []
        self.levels: list[str] = []
        self.requests = 0
        self.before: list[Exception] = []
        self.after: list[Exception] = []
        self.gate = threading.Event()
        self.gate.set()
        self.changed = threading.Condition()

    def append_log(self, run_id: str, first_seq: int, lines: Sequence[Mapping[str, str]]) -> int:
        assert self.gate.wait(10)
        with self.changed:
            self.requests += 1
            self.changed.notify_all()
            if self.before:
                raise self.before.pop(0)
            assert first_seq <= len(self.stored) + 1, "a gap"
            for number, line in enumerate(lines, first_seq):
                if number > len(self.stored):
                    self.stored.append(line["text"])
                    self.levels.append(line["level"])
            if self.after:
                raise self.after.pop(0)
            return len(self.stored)

    def wait_for(self, what: Callable[[], bool]) -> None:
        with self.changed:
            assert self.changed.wait_for(what, 10)


def shipper(lab: FakeLab, refused: Callable[[str], None] = lambda _: None, **how: int) -> LogShipper:
    made = LogShipper(lab, "run-1", refused=refused, **how)
    made.start()
    return made


def test_lines_arrive_in_order_without_gaps() -> None:
    lab = FakeLab()
    log = shipper(lab)
    for number in range(3000):
        log.write("info", str(number))
    assert log.close(10)
    assert lab.stored == [str(number) for number in range(3000)]
    assert (log.accepted, log.dropped) == (3000, 0)


def test_the_first_line_does_not_wait_for_more() -> None:
    lab = FakeLab()
    log = shipper(lab)
    log.write("info", "first")
    lab.wait_for(lambda: lab.stored == ["first"])
    assert log.close(5)


def test_several_lines_in_one_text_are_several_lines() -> None:
    lab = FakeLab()
    log = shipper(lab)
    log.write("error", "a\nb\n\nc")
    assert log.close(5)
    assert lab.stored == ["a", "b", "", "c"]
    assert lab.levels == ["error"] * 4


def test_a_labd_that_comes_back_has_every_line_once() -> None:
    lab = FakeLab()
    lab.before = [AWAY, ProblemError(503, "Service Unavailable"), ProblemError(429, "Too Many Requests")]
    lab.after = [AWAY]  # stored, but the answer was lost
    log = shipper(lab)
    for number in range(10):
        log.write("info", str(number))
    assert log.close(10)
    assert lab.stored == [str(number) for number in range(10)]
    assert log.dropped == 0


def test_a_labd_that_stays_away_is_given_up_after_the_deadline() -> None:
    lab = FakeLab()
    lab.before = [AWAY] * 1000
    log = shipper(lab)
    log.write("info", "lost")
    assert not log.close(0.3)
    assert log.dropped == 1
    assert log.accepted == 0


def test_a_refusal_is_final_and_told_once() -> None:
    lab, told, done = FakeLab(), [], threading.Event()
    lab.before = [ProblemError(409, "Conflict", "the run is over")]

    def refused(reason: str) -> None:
        told.append(reason)
        done.set()

    log = shipper(lab, refused)
    log.write("info", "a")
    assert done.wait(5)
    log.write("info", "b")
    assert not log.close(1)
    assert told == ["the run is over"]
    assert lab.requests == 1
    assert log.dropped == 2


def test_the_buffer_is_bounded_and_the_gap_is_told() -> None:
    lab = FakeLab()
    lab.before = [AWAY] * 2
    lab.gate.clear()
    log = shipper(lab, buffer_lines=10)
    log._reachable = False  # as after a failed request: writers are not made to wait
    for number in range(25):
        log.write("info", str(number))
    assert log.dropped == 15
    lab.gate.set()
    lab.wait_for(lambda: len(lab.stored) == 10)
    assert log.close(5)
    assert lab.stored == [
        *map(str, range(10)),
        "(15 log lines are missing here: labd did not take them fast enough)",
    ]
    assert (log.accepted, log.dropped) == (11, 15)


def test_a_writer_waits_a_moment_for_room_while_labd_answers() -> None:
    lab = FakeLab()
    log = shipper(lab, buffer_lines=10)
    for number in range(50):
        log.write("info", str(number))
    assert log.close(5)
    assert lab.stored == [str(number) for number in range(50)]


def test_long_lines_are_cut() -> None:
    lab = FakeLab()
    log = shipper(lab)
    log.write("info", "x" * (shipping.LINE_BYTES + 5))
    assert log.close(5)
    assert lab.stored[0].endswith("… (5 more characters)")


def test_delays_grow_to_a_bound() -> None:
    delays = shipping.retry_delays(0.1, 2.0)
    drawn = [next(delays) for _ in range(20)]
    assert drawn[0] <= 0.1
    assert 1.0 <= max(drawn) <= 2.0
