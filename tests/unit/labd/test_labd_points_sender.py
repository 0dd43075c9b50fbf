"""What becomes of points when InfluxDB is away, wrong, too small, or does not want them."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from labd.model.check import CheckState
from labd.telemetry.backoff import MOST_S, RETRY_AFTER_MAX_S, Backoff
from labd.telemetry.counters import Counters
from labd.telemetry.influx import Answer, InfluxSettings, InfluxTarget, Meaning
from labd.telemetry.sender import Sender
from labd.telemetry.spool import Spool
from tests.hostile_influx import HostileInflux, Reply, Request, hostile_influx, refusal


@pytest.fixture
def influx() -> Iterator[HostileInflux]:
    with hostile_influx() as server:
        yield server


class Bench:
    """A spool and a sender, with a clock that goes as the sender waits."""

    def __init__(self, folder: Path, url: str, *, token_file: Path | None = None, request_s: float = 30.0) -> None:
        self.now = 1_000_000.0
        self.waits: list[float] = []
        self.counters = Counters()
        self.spool = Spool(folder / "spool", self.counters, bytes_max=2**20)
        self.target = InfluxTarget(InfluxSettings(url, "lab", "labd", token_file, timeout_s=1.0, request_s=request_s))
        backoff = Backoff(lambda: 0.0)
        self.sender = Sender(self.spool, self.target, self.counters, lambda: self.now, backoff)

    def append(self, *lines: bytes) -> None:
        self.spool.append(list(lines))

    def run(self, steps: int = 1000) -> None:
        """Until the spool is empty, or for so many requests."""
        for _ in range(steps):
            wait = self.sender.step()
            if wait is None:
                return
            if wait:
                self.waits.append(wait)
                self.now += wait

    def state(self) -> dict[str, CheckState]:
        return {check.name: check.state for check in self.sender.checks()}


@pytest.fixture
def bench(tmp_path: Path, influx: HostileInflux) -> Iterator[Bench]:
    (tmp_path / "token").write_text("first\n")
    made = Bench(tmp_path, influx.url, token_file=tmp_path / "token")
    yield made
    made.target.close()
    made.spool.close()


def lines(count: int) -> list[bytes]:
    return [b"m v=%d" % number for number in range(count)]


def test_points_go_gzipped_to_the_bucket_with_the_token(bench: Bench, influx: HostileInflux) -> None:
    bench.append(*lines(3))
    bench.run()
    [request] = influx.requests
    assert request.path == "/api/v2/write?org=lab&bucket=labd&precision=ns"
    assert request.headers["Authorization"] == "Token first"
    assert request.headers["Content-Encoding"] == "gzip"
    assert influx.kept == lines(3)
    assert bench.counters.written == 3
    assert bench.counters.last_success == bench.now
    assert bench.state() == {"InfluxDB": CheckState.OK}


@pytest.mark.parametrize(
    "bad",
    [
        Reply(reset=True),
        Reply(silent=True),
        Reply(endless=True),
        refusal(500, "internal error"),
        Reply(503, "<html>", {"Content-Type": "text/html"}),
        Reply(400, "<html>Bad gateway", {"Content-Type": "text/html; charset=utf-8"}),
    ],
    ids=["reset", "silent", "endless", "500", "503", "proxy"],
)
def test_points_wait_while_the_database_is_away_and_arrive_once(
    bench: Bench, influx: HostileInflux, bad: Reply
) -> None:
    replies = [bad] * 3
    influx.judge = lambda _: replies.pop() if replies else Reply()
    bench.append(*lines(10))
    with structlog.testing.capture_logs() as said:
        bench.run(3)
        assert bench.state() == {"InfluxDB": CheckState.ERROR}
        assert bench.counters.spooled == 10
        bench.run()
    assert influx.kept == lines(10)
    assert bench.waits == [1, 2, 4]
    assert [entry["event"] for entry in said] == [
        "InfluxDB takes no points; they wait in the spool", "InfluxDB takes points again",
    ]  # fmt: skip
    assert bench.state() == {"InfluxDB": CheckState.OK}
    assert bench.counters.losses() == {}


def test_a_server_that_deals_out_its_answer_byte_by_byte_holds_nobody_up(tmp_path: Path, influx: HostileInflux) -> None:
    replies = [Reply(trickle_s=0.05)]
    influx.judge = lambda _: replies.pop() if replies else Reply()
    bench = Bench(tmp_path, influx.url, request_s=1.0)
    bench.append(*lines(10))
    bench.run(1)
    [check] = bench.sender.checks()
    assert "no whole answer within 1 s" in check.message
    bench.run()
    assert influx.kept == lines(10)
    bench.target.close()
    bench.spool.close()


def test_a_server_that_never_ends_its_greeting_of_tls_holds_nobody_up(tmp_path: Path) -> None:
    over = threading.Event()

    def greet() -> None:
        with contextlib.suppress(OSError):
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"\x16\x03\x03\x3f\xff")  # a record of 16 KiB follows
                while not over.wait(0.05):
                    connection.sendall(b"\x02")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=greet)
        thread.start()
        bench = Bench(tmp_path, f"https://127.0.0.1:{listener.getsockname()[1]}", request_s=1.0)
        bench.append(*lines(1))
        bench.run(1)
        [check] = bench.sender.checks()
        over.set()
        thread.join()
    assert "no whole answer within 1 s" in check.message
    bench.target.close()
    bench.spool.close()


@pytest.mark.parametrize(
    ("status", "message", "remedy"),
    [
        (401, "unauthorized access", "--influx-token-file"),
        (403, "forbidden", "right to write"),
        (404, 'bucket "labd" not found', "--influx-bucket"),
        (301, "moved", "redirected"),
    ],
)
def test_a_wrong_setting_is_said_once_and_shown_and_costs_nothing(
    bench: Bench, influx: HostileInflux, status: int, message: str, remedy: str
) -> None:
    influx.judge = lambda _: refusal(status, message)
    bench.append(*lines(4))
    with structlog.testing.capture_logs() as said:
        bench.run(50)
    assert len(said) == 1
    assert message in said[0]["answer"]
    [check] = bench.sender.checks()
    assert check.state is CheckState.ERROR
    assert message in check.message and "4 points wait" in check.message
    assert remedy in check.remedy
    assert bench.waits[-1] == MOST_S
    influx.judge = lambda _: Reply()
    bench.run()
    assert influx.kept == lines(4)
    assert bench.counters.losses() == {}


def test_a_new_token_is_read_from_the_file_without_a_restart(
    bench: Bench, influx: HostileInflux, tmp_path: Path
) -> None:
    def judge(request: Request) -> Reply:
        return Reply() if request.headers["Authorization"] == "Token second" else refusal(401, "unauthorized access")

    influx.judge = judge
    bench.append(*lines(2))
    bench.run(2)
    (tmp_path / "token").write_text("second\n")
    bench.run()
    assert influx.kept == lines(2)


def test_a_token_file_that_is_gone_is_trouble_like_any_other(
    bench: Bench, influx: HostileInflux, tmp_path: Path
) -> None:
    (tmp_path / "token").unlink()
    bench.append(*lines(2))
    bench.run(1)
    [check] = bench.sender.checks()
    assert "token" in check.message
    (tmp_path / "token").write_text("first\n")
    bench.run()
    assert influx.kept == lines(2)


def test_what_keeps_it_from_sending_is_told_in_few_words(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        assert InfluxTarget(InfluxSettings(url, "lab", "labd")).send([b"x y=1"]).message == "Connection refused"
        gone = tmp_path / "influx.token"
        answer = InfluxTarget(InfluxSettings(url, "lab", "labd", gone)).send([b"x y=1"])
    assert answer.message == f"No such file or directory: {gone}"


@pytest.mark.parametrize(
    ("header", "wait"), [("7", 7.0), ("86400", RETRY_AFTER_MAX_S), ("0", 1.0), ("soon", 1.0), ("-5", 1.0)]
)
def test_the_database_says_when_to_come_again_within_a_bound(
    bench: Bench, influx: HostileInflux, header: str, wait: float
) -> None:
    replies = [refusal(429, "too many requests", **{"Retry-After": header})]
    influx.judge = lambda _: replies.pop() if replies else Reply()
    bench.append(*lines(2))
    bench.run()
    assert bench.waits == [wait]
    assert influx.kept == lines(2)


def test_a_request_that_is_too_large_goes_in_parts_in_the_same_order(bench: Bench, influx: HostileInflux) -> None:
    influx.judge = lambda request: refusal(413, "too large") if len(request.lines) > 30 else Reply()
    bench.append(*lines(500))
    bench.run()
    assert influx.kept == lines(500)
    asked = len(influx.requests)
    bench.append(*lines(20))
    bench.run()
    assert len(influx.requests) == asked + 1
    assert bench.counters.losses() == {}


def test_a_line_that_is_too_large_by_itself_does_not_stop_the_others(bench: Bench, influx: HostileInflux) -> None:
    influx.judge = lambda request: refusal(413, "too large") if b"m v=3" in request.lines else Reply()
    bench.append(*lines(9))
    bench.run()
    assert influx.kept == [line for line in lines(9) if line != b"m v=3"]
    assert bench.counters.losses() == {"too_large": 1}


def test_bad_lines_are_dropped_one_by_one_and_told_once(bench: Bench, influx: HostileInflux) -> None:
    bad = {b"m v=3", b"m v=4", b"m v=77"}
    influx.judge = lambda request: (
        refusal(400, "unable to parse: invalid number") if bad & set(request.lines) else Reply()
    )
    bench.append(*lines(100))
    bench.append(b"m v=1000")
    with structlog.testing.capture_logs() as said:
        bench.run()
    assert influx.kept == [line for line in lines(100) if line not in bad] + [b"m v=1000"]
    assert bench.counters.losses() == {"refused": 3}
    assert bench.counters.written == 98
    assert len(said) == 1
    assert bench.state() == {"InfluxDB": CheckState.OK, "InfluxDB: refused points": CheckState.WARNING}


def test_a_partial_write_is_done_with_and_what_was_left_out_is_counted(bench: Bench, influx: HostileInflux) -> None:
    message = 'failure writing points to database: partial write: field type conflict: input field "v" dropped=2'
    influx.judge = lambda _: refusal(422, message)
    bench.append(*lines(10))
    bench.run()
    assert len(influx.requests) == 1
    assert bench.counters.losses() == {"refused": 2}
    assert bench.counters.written == 8
    assert bench.counters.spooled == 0


def test_trouble_amid_the_parts_of_a_batch_loses_none_of_them(bench: Bench, influx: HostileInflux) -> None:
    count = 0

    def judge(request: Request) -> Reply:
        nonlocal count
        count += 1
        if count % 3 == 0:
            return refusal(500, "hiccup")
        return refusal(400, "unable to parse") if b"m v=5" in request.lines else Reply()

    influx.judge = judge
    bench.append(*lines(40))
    bench.run()
    assert influx.kept == [line for line in lines(40) if line != b"m v=5"]


class Scripted:
    """A target that answers at random, and may keep what it denies to have."""

    def __init__(self, answers: Iterator[Answer]) -> None:
        self._answers = answers
        self.kept: list[bytes] = []

    def send(self, sent: list[bytes]) -> Answer:
        answer = next(self._answers, Answer(Meaning.WRITTEN))
        if answer.meaning is Meaning.BAD_LINES and all(int(line[4:]) % 7 for line in sent):
            answer = Answer(Meaning.WRITTEN)
        if answer.meaning is Meaning.WRITTEN:
            self.kept += sent
        return answer


ANSWERS = st.sampled_from(
    [Answer(Meaning.WRITTEN), Answer(Meaning.LATER, "away"), Answer(Meaning.TOO_LARGE), Answer(Meaning.BAD_LINES)]
)


@settings(deadline=None, max_examples=60)
@given(answers=st.lists(ANSWERS, max_size=80), batches=st.lists(st.integers(1, 30), max_size=6))
def test_whatever_it_answers_each_point_is_written_once_or_counted(
    tmp_path_factory: pytest.TempPathFactory, answers: list[Answer], batches: list[int]
) -> None:
    counters = Counters()
    spool = Spool(tmp_path_factory.mktemp("spool"), counters, bytes_max=2**20)
    target = Scripted(iter(answers))
    sender = Sender(spool, target, counters, lambda: 0.0)
    count = 0
    for batch in batches:
        spool.append([b"m v=%d" % number for number in range(count, count + batch)])
        count += batch
        sender.step()
    while sender.step() is not None:
        pass
    spool.close()
    numbers = [int(line[4:]) for line in target.kept]
    assert numbers == sorted(set(numbers))
    assert len(numbers) == counters.written
    assert counters.written + sum(counters.dropped.values()) == count
    assert counters.spooled == 0


@given(st.floats(0, 1, exclude_max=True), st.integers(1, 40))
def test_waits_grow_to_a_bound_and_differ_by_chance(chance: float, failures: int) -> None:
    backoff = Backoff(lambda: chance)
    waits = [backoff.failed() for _ in range(failures)]
    assert all(first <= second for first, second in pairwise(waits))
    assert all(0.5 <= wait <= MOST_S for wait in waits)
    backoff.succeeded()
    assert backoff.failed() == waits[0]
