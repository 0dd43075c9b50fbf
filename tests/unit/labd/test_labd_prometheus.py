"""What Prometheus is told, as it parses it."""

import contextlib
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from prometheus_client import generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from bench_agent.protocol import metrics_door
from bench_agent.protocol.metrics_door import MetricsDoor
from labd.model.identity import ANONYMOUS
from labd.model.point import Point
from labd.services import event_points
from labd.services.lab import Lab
from labd.telemetry import prometheus
from labd.telemetry.prometheus import Both, Figures
from tests.points import Collected
from tests.unit.labd.fakes import RESULT, FakeClock, attach, report, settle

Labels = tuple[tuple[str, str], ...]


def told(figures: Figures) -> dict[str, dict[Labels, float]]:
    """By name of the sample."""
    found: dict[str, dict[Labels, float]] = {}
    for family in text_string_to_metric_families(generate_latest(figures.registry).decode()):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return found


@pytest.fixture
def figures(lab: Lab) -> Figures:
    figures = Figures(lambda: lab.core.peers.leads, topas=True)
    lab.core.points = Both(Collected(), figures)
    return figures


@pytest.fixture
def database() -> None:
    """The same on both: nothing here is stored."""


def look(lab: Lab) -> None:
    lab.measuring.look()
    lab.measuring.tell()


def test_the_queue_and_the_runners_are_told_also_when_there_are_none(lab: Lab, figures: Figures) -> None:
    look(lab)
    for prefix in ("labd", "topas"):
        assert told(figures)[f"{prefix}_queue_depth"] == {(): 0}
        assert told(figures)[f"{prefix}_active_runners"] == {(): 0}


def test_a_lab_at_work(lab: Lab, figures: Figures, clock: FakeClock) -> None:
    attach(lab, report("bench-1"))
    run = lab.running.create(ANONYMOUS, script="return 1", name="x", files={}, holder="ci", timeout_s=60.0).run
    for _ in range(2):
        lab.leasing.create(ANONYMOUS, selector="", holder="bob", duration_s=600.0, ttl_s=300.0)
    settle(lab)
    look(lab)
    now = told(figures)
    assert now["labd_queue_depth"] == now["topas_queue_depth"] == {(): 2}
    assert now["labd_waiting_leases"] == {(("priority", "normal"), ("team", "default")): 2}
    assert now["labd_active_runners"] == now["topas_active_runners"] == {(): 1}
    assert now["labd_runs"] == {(("executor", "process"), ("state", "RUNNING")): 1}
    assert now["labd_benches"] == {(("health", "healthy"), ("state", "leased")): 1}
    assert now["labd_agents_attached"] == {(): 1}
    assert now["labd_commits_total"][()] >= 3
    assert now["process_resident_memory_bytes"][()] > 1_000_000
    clock.advance(7.0)
    lab.reporting.put_result(run.id, RESULT, "<testsuites/>")
    look(lab)
    later = told(figures)
    for prefix in ("labd", "topas"):
        assert later[f"{prefix}_active_runners"] == {(): 0}
        buckets = later[f"{prefix}_test_duration_seconds_bucket"]
        passed = {dict(labels)["le"]: count for labels, count in buckets.items()}
        assert (passed["5.0"], passed["10.0"], passed["+Inf"]) == (0, 1, 1)
        assert list(later[f"{prefix}_test_duration_seconds_sum"].values()) == [7.0]
    assert later["labd_leases_ended_total"] == {(("reason", "released"),): 1}
    assert later["labd_runs_ended_total"] == {(("cause", "none"), ("executor", "process"), ("verdict", "PASSED")): 1}
    assert later["labd_grant_latency_seconds_count"] == {(("priority", "normal"),): 1}


def test_only_the_three_old_names_have_a_twin_and_only_when_asked(lab: Lab, figures: Figures) -> None:
    look(lab)
    twins = {name.split("_seconds")[0] for name in told(figures) if name.startswith("topas_")}
    assert twins <= {"topas_queue_depth", "topas_active_runners", "topas_test_duration"}
    plain = Figures(lambda: True)
    plain.write([Point("queue", {"priority": "low", "team": "a"}, {"depth": 1, "wait_max_s": 1.0}, 1.0)])
    assert not [name for name in told(plain) if name.startswith("topas_")]


def test_who_does_not_lead_says_nothing_of_the_whole_lab(monkeypatch: pytest.MonkeyPatch) -> None:
    leads = [True]
    figures = Figures(lambda: leads[0])
    figures.write([Point("queue", {"priority": "low", "team": "a"}, {"depth": 3, "wait_max_s": 1.0}, 1.0)])
    assert told(figures)["labd_queue_depth"] == {(): 3}
    leads[0] = False
    assert "labd_queue_depth" not in told(figures)
    monkeypatch.setattr(prometheus, "STALE_S", 0.0)
    assert "labd_waiting_leases" not in told(figures)


@pytest.fixture
def door() -> Iterator[MetricsDoor]:
    door = MetricsDoor("127.0.0.1", 0, Figures(lambda: True).registry)
    yield door
    door.stop()


def test_the_door_tells_figures_and_nothing_else(door: MetricsDoor) -> None:
    url = f"http://127.0.0.1:{door.port}"
    with urllib.request.urlopen(f"{url}/metrics", timeout=20) as answer:  # noqa: S310 - our own
        assert b"labd_queue_depth 0.0" in answer.read()
        assert answer.headers["Content-Type"].startswith("text/plain")
    for path, method, status in (("/", "GET", 404), ("/metrics", "POST", 405)):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(  # noqa: S310 - our own
                urllib.request.Request(f"{url}{path}", method=method, data=b"" if method == "POST" else None),  # noqa: S310
                timeout=20,
            )
        assert refused.value.code == status
        refused.value.close()


def test_who_says_nothing_does_not_keep_others_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_door._Handler, "timeout", 0.2)
    door = MetricsDoor("127.0.0.1", 0, Figures(lambda: True).registry)
    with socket.create_connection(("127.0.0.1", door.port)) as silent:
        silent.send(b"GET /met")
        with urllib.request.urlopen(f"http://127.0.0.1:{door.port}/metrics", timeout=20) as answer:
            assert answer.status == 200
    door.stop()


def test_who_speaks_byte_by_byte_does_not_keep_others_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_door._Handler, "timeout", 1.0)
    door = MetricsDoor("127.0.0.1", 0, Figures(lambda: True).registry)
    over = threading.Event()

    def trickle() -> None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", door.port)) as slow:
            slow.send(b"GET /metrics HTTP/1.1\r\nX: ")
            started.set()
            while not over.wait(0.05):
                slow.send(b"x")

    started, thread = threading.Event(), threading.Thread(target=trickle)
    thread.start()
    assert started.wait(20)
    with urllib.request.urlopen(f"http://127.0.0.1:{door.port}/metrics", timeout=20) as answer:
        assert answer.status == 200
    over.set()
    thread.join()
    door.stop()


def openmetrics(port: int) -> list[Sample]:
    """What a Prometheus gets that asks for OpenMetrics; each line is valid."""
    headers = {"Accept": "application/openmetrics-text; version=1.0.0"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/metrics", headers=headers)
    with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310 - our own
        assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
        text = answer.read().decode()
    return [sample for family in openmetrics_families(text) for sample in family.samples]  # type: ignore[no-untyped-call]


def test_openmetrics_is_valid_and_as_long_for_500_benches_as_for_two(lab: Lab, figures: Figures) -> None:
    door = MetricsDoor("127.0.0.1", 0, figures.registry)
    attach(lab, report("bench-1"), report("bench-2"))
    lab.running.create(ANONYMOUS, script="return 1", name="x", files={}, holder="ci", timeout_s=60.0)
    settle(lab)
    look(lab)
    few = openmetrics(door.port)
    assert {"labd_queue_depth", "topas_active_runners", "labd_runs"} <= {sample.name for sample in few}
    attach(lab, *(report(f"rig-{number}") for number in range(500)), agent="racks")
    look(lab)
    many = openmetrics(door.port)
    assert {sample.name: sample.value for sample in many}["labd_agents_attached"] == 2
    assert len(many) == len(few)
    door.stop()


def test_names_that_anybody_chooses_are_bounded(lab: Lab, figures: Figures) -> None:
    for number in range(event_points.TEAMS + 20):
        tags = {"priority": "low", "team": lab.measuring._queue._names.team(f"team-{number}")}
        figures.write([Point("queue", tags, {"depth": 1, "wait_max_s": 1.0}, 1.0)])
    assert len(told(figures)["labd_waiting_leases"]) == event_points.TEAMS + 1


def test_a_port_that_is_taken_is_an_error(door: MetricsDoor) -> None:
    with pytest.raises(OSError, match="in use"):
        MetricsDoor("127.0.0.1", door.port, Figures(lambda: True).registry)
