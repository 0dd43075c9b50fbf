"""What labd measures of itself, and that all of it is as the catalogue says."""

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from labd.api.routing import PREFIX
from labd.model.bench import Bench
from labd.model.identity import ANONYMOUS
from labd.model.lease import LeaseEnd
from labd.model.measurements import CATALOGUE, OTHER, Source, fault
from labd.model.point import Point
from labd.model.run import Cause
from labd.services.event_points import SUITES, EventPoints, Names, Words
from labd.services.gauges import BenchGauge
from labd.services.happenings import Granted
from labd.services.lab import Lab
from labd.services.request_meter import RequestMeter
from labd.telemetry.counters import Counters, Loss
from tests.points import Collected
from tests.unit.labd.fakes import EPOCH, RESULT, FakeClock, FakeExecutor, application, attach, report, settle


@pytest.fixture
def sink(lab: Lab) -> Collected:
    collected = Collected()
    lab.core.points = collected
    return collected


def look_and_tell(lab: Lab) -> None:
    lab.measuring.look()
    lab.measuring.tell()


def test_a_lease_is_measured_at_its_grant_and_at_its_end(lab: Lab, sink: Collected, clock: FakeClock) -> None:
    session, _ = attach(lab, report("bench-1"))
    first = lab.leasing.create(ANONYMOUS, selector="", holder="ada", duration_s=600.0, ttl_s=300.0).lease
    lab.leasing.create(ANONYMOUS, selector="", holder="bob", duration_s=600.0, ttl_s=300.0, priority="high")
    clock.advance(40.0)
    lab.leasing.release(ANONYMOUS, first.id)
    lab.hearing.fenced(session, "bench-1", first.epoch or 0)
    at_once, waited = sink.of("grant")
    assert at_once.tags == {"priority": "normal", "team": "default"}
    assert at_once.fields == {"latency_s": 0.0, "benches": 1}
    assert (waited.tags["priority"], waited.fields["latency_s"], waited.time) == ("high", 40.0, EPOCH + 40.0)
    (ended,) = sink.of("lease")
    assert ended.tags == {"reason": LeaseEnd.RELEASED, "priority": "normal", "team": "default"}
    assert ended.fields == {"held_s": 40.0, "benches": 1}


def test_a_run_is_measured_at_its_end(lab: Lab, sink: Collected, clock: FakeClock) -> None:
    attach(lab, report("bench-1"))
    run = lab.running.create(
        ANONYMOUS, script="return 1", name="smoke.lua", files={}, holder="ci", team="body", timeout_s=60.0
    ).run
    settle(lab)
    clock.advance(2.0)
    lab.leasing.heartbeat(ANONYMOUS, run.lease_id)
    clock.advance(5.0)
    lab.reporting.put_result(run.id, RESULT, "<testsuites/>")
    (point,) = sink.of("run")
    assert point.tags == {
        "verdict": "PASSED",
        "cause": "none",
        "suite": "smoke.lua",
        "executor": "process",
        "team": "body",
    }
    assert point.fields == {
        "attempts": 1,
        "wait_s": 0.0,
        "startup_s": 2.0,
        "duration_s": 7.0,
        "cases_passed": 1,
        "cases_failed": 0,
        "cases_error": 0,
    }


def test_an_attempt_that_another_follows_is_measured_and_the_run_says_how_many_it_took(
    lab: Lab, sink: Collected, clock: FakeClock
) -> None:
    session, _ = attach(lab, report("bench-1"))
    run = lab.running.create(ANONYMOUS, script="return 1", name="x", files={}, holder="ci", timeout_s=60.0).run
    settle(lab)
    for attempt in range(1, 10):
        with lab.core.transaction(ANONYMOUS) as ledger:
            present = ledger.unit.run(run.id)
            assert present is not None
            if present.state.final:
                break
            ledger.end_attempt(present, "the node is gone", Cause.EVICTED)
        lab.hearing.fenced(session, "bench-1", attempt)
        settle(lab)
    retries = sink.of("retry")
    assert [point.fields["attempt"] for point in retries] == list(range(1, len(retries) + 1))
    assert retries[0].tags == {"cause": "Evicted", "executor": "process", "team": "default"}
    (over,) = sink.of("run")
    assert (over.tags["verdict"], over.tags["cause"]) == ("ERROR", "Evicted")
    assert over.fields["attempts"] == len(retries) + 1


def test_what_was_undone_is_not_measured(lab: Lab, sink: Collected) -> None:
    attach(lab, report("bench-1"))
    lease = lab.leasing.create(ANONYMOUS, selector="", holder="a", duration_s=60.0, ttl_s=30.0).lease
    with pytest.raises(RuntimeError, match="undone"), lab.core.transaction(ANONYMOUS) as ledger:
        ledger.end_lease(lease, LeaseEnd.CANCELLED)
        raise RuntimeError("undone")
    assert sink.of("lease") == []


def test_how_the_lab_stands_is_told(lab: Lab, sink: Collected, clock: FakeClock) -> None:
    attach(lab, report("bench-1"), report("bench-2", healthy=False, reason="no power"))
    lab.leasing.create(ANONYMOUS, selector="", holder="ada", duration_s=600.0, ttl_s=300.0)
    waiting = lab.leasing.create(ANONYMOUS, selector="", holder="bob", duration_s=600.0, ttl_s=300.0).lease
    clock.advance(30.0)
    look_and_tell(lab)
    assert {point.tags["bench"]: (point.fields["state"], point.fields["health"]) for point in sink.of("bench")} == {
        "bench-1": ("leased", "healthy"),
        "bench-2": ("unavailable", "unhealthy"),
    }
    (queue,) = sink.of("queue")
    assert queue.tags == {"priority": "normal", "team": "default"}
    assert queue.fields == {"depth": 1, "wait_mean_s": 30.0, "wait_max_s": 30.0}
    lab.leasing.release(ANONYMOUS, waiting.id)
    look_and_tell(lab)
    assert sink.of("queue")[-1].fields["depth"] == 0
    look_and_tell(lab)
    assert len(sink.of("queue")) == 2  # nobody waits, and that was said
    (labd, *_) = sink.of("labd")
    assert (labd.tags["replica"], labd.fields["agents"]) == ("labd", 1)
    assert labd.fields["commits"] and labd.fields["commit_max_ms"]


def test_runs_that_are_not_over_are_counted(lab: Lab, sink: Collected, executor: FakeExecutor) -> None:
    attach(lab, report("bench-1"))
    for _ in range(3):
        lab.running.create(ANONYMOUS, script="return 1", name="x", files={}, holder="ci", timeout_s=60.0)
    settle(lab)
    look_and_tell(lab)
    assert {point.tags["state"]: point.fields["runs"] for point in sink.of("runs")} == {"RUNNING": 1, "PENDING": 2}


def test_requests_are_counted_by_what_they_were_for(lab: Lab, sink: Collected) -> None:
    web = TestClient(application(lab), base_url="http://labd.test")
    assert web.get(f"{PREFIX}/benches").status_code == 200
    assert web.get(f"{PREFIX}/leases/l-none").status_code == 404
    assert web.get(f"{PREFIX}/nothing/like/it").status_code == 404
    assert web.get("/elsewhere%0A").status_code == 404
    look_and_tell(lab)
    seen = {(point.tags["route"], point.tags["status"]): point.fields["requests"] for point in sink.of("labd_requests")}
    assert seen == {("benches", "2xx"): 1, ("leases", "4xx"): 1, (OTHER, "4xx"): 2}


def test_every_measurement_of_labds_is_made(lab: Lab, sink: Collected) -> None:
    attach(lab, report("bench-1"))
    run = lab.running.create(ANONYMOUS, script="return 1", name="x", files={}, holder="ci", timeout_s=60.0).run
    lab.leasing.create(ANONYMOUS, selector="", holder="bob", duration_s=600.0, ttl_s=300.0)
    settle(lab)
    TestClient(application(lab), base_url="http://labd.test").get(f"{PREFIX}/benches")
    look_and_tell(lab)
    lab.reporting.put_result(run.id, RESULT, "<testsuites/>")
    own = {name for name, one in CATALOGUE.items() if one.source is Source.LABD}
    # What takes a lost runner, or a writer that drops, has tests of its own.
    assert {point.measurement for point in sink.points} == own - {"labd_points_dropped", "retry"}


def test_the_time_of_a_bench_adds_up() -> None:
    gauge = BenchGauge()
    bench = Bench("b", "a", "a:1", {}, healthy=True, health_reason="")
    gauge.look([bench], (), lambda _: True, 0.0)
    gauge.look([bench], (), lambda _: True, 1.0)
    gauge.look([bench], {"b"}, lambda _: True, 3.0)
    gauge.look([bench], (), lambda _: False, 5.0)
    point = next(iter(gauge.points(1.0)))
    spent = {name: value for name, value in point.fields.items() if name.endswith("_s")}
    assert spent == {"leased_s": 3.0, "idle_s": 1.0, "quarantined_s": 0.0, "offline_s": 5.0, "other_s": 0.0}
    gauge.look([bench], (), lambda _: True, 2.0)
    assert next(iter(gauge.points(2.0))).fields["idle_s"] == 2.0


def test_a_bench_that_leaves_is_told_of_no_more() -> None:
    gauge = BenchGauge()
    gauge.look([Bench("b", "a", "a:1", {}, healthy=True, health_reason="")], (), lambda _: True, 1.0)
    assert [point.measurement for point in gauge.points(1.0)] == ["bench", "benches"]
    gauge.look([], (), lambda _: True, 1.0)
    (zero,) = gauge.points(2.0)
    assert (zero.measurement, zero.fields) == ("benches", {"benches": 0})


def test_points_of_one_moment_do_not_replace_each_other(lab: Lab) -> None:
    attach(lab, report("bench-1"))
    lease = lab.leasing.create(ANONYMOUS, selector="", holder="ada", duration_s=600.0, ttl_s=300.0).lease
    events = EventPoints(Names())
    times = [events.of(Granted(lease), EPOCH).time for _ in range(100)]
    assert len({round(time * 1e6) for time in times}) == 100


def test_free_text_takes_a_bounded_number_of_series() -> None:
    words = Words(SUITES)
    assert [words(f"build {number}") for number in range(SUITES + 5)][-6:] == [f"build {SUITES - 1}", *5 * [OTHER]]
    assert words("build 3") == "build 3"


def metered() -> Iterator[Point]:
    meter = RequestMeter()
    for status in (200, 204, 999, 12):
        meter.note("runs", status, 0.25)
    return meter.points("labd", EPOCH)


def test_a_status_that_is_none_has_a_class_all_the_same() -> None:
    points = list(metered())
    assert [fault(point) for point in points] == [None, None, None]
    assert {point.tags["status"]: point.fields["requests"] for point in points} == {"1xx": 1, "2xx": 2, "5xx": 1}


def test_what_the_writer_has_done_is_of_the_interval(lab: Lab, sink: Collected) -> None:
    counters = lab.measuring._counters = Counters()
    counters.written = 100
    counters.lose(Loss.SPOOL_FULL, 3)
    lab.measuring.tell()
    counters.written = 150
    lab.measuring.tell()
    counters.lose(Loss.SPOOL_FULL, 2)
    lab.measuring.tell()
    assert [point.fields["points_written"] for point in sink.of("labd")] == [100, 50, 0]
    assert [(point.tags["cause"], point.fields["points"]) for point in sink.of("labd_points_dropped")] == [
        ("spool_full", 3),
        ("spool_full", 2),
    ]
