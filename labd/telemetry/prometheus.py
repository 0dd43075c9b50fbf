"""The same figures for Prometheus: a sink that keeps of labd's own points what ``/metrics`` tells.

What is counted goes on from scrape to scrape; how things stand is as of the latest points, and gone when none come.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, disable_created_metrics
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from labd.model.point import Point, PointSink

STALE_S = 60.0
"""A figure without a new point for this long is not told any more."""
DURATIONS_S = (1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)
LATENCIES_S = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 60, 300, 900, 3600, 14_400)
OWN, TOPAS = "labd", "topas"
"""Prefixes: labd's, and the one that older dashboards ask for."""


@dataclass(frozen=True, slots=True)
class _Gauge:
    measurement: str
    field: str
    name: str
    labels: tuple[str, ...]
    help: str
    scale: float = 1.0


_GAUGES = (
    _Gauge("queue", "depth", "labd_waiting_leases", ("priority", "team"), "Leases that wait for benches."),
    _Gauge("queue", "wait_max_s", "labd_longest_wait_seconds", ("priority", "team"), "Of a lease that waits, so far."),
    _Gauge("runs", "runs", "labd_runs", ("state", "executor"), "Runs that are not over."),
    _Gauge("benches", "benches", "labd_benches", ("state", "health"), "Benches by how they are."),
    _Gauge("labd", "agents", "labd_agents_attached", (), "Agents that are attached to this labd."),
    _Gauge("labd", "commit_p95_ms", "labd_commit_p95_seconds", (), "Of writing transactions, the 95th %.", 0.001),
    _Gauge("labd", "commit_max_ms", "labd_commit_max_seconds", (), "The longest writing transaction.", 0.001),
)
_Series = tuple[str, tuple[str, ...]]


class Figures(Collector):
    """What ``/metrics`` tells. Threads share it."""

    def __init__(self, leads: Callable[[], bool], *, topas: bool = False) -> None:
        """``leads``: whether this labd tells of the whole lab. ``topas`` adds names for older dashboards."""
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self._leads = leads
        self._prefixes = (OWN, TOPAS) if topas else (OWN,)
        self._lock = threading.Lock()
        self._latest: dict[_Series, tuple[Point, float]] = {}
        registry = self.registry
        self._durations = [
            Histogram(
                f"{prefix}_test_duration_seconds",
                "Of runs, from the grant of their benches to their end.",
                ["verdict", "executor"],
                buckets=DURATIONS_S,
                registry=registry,
            )
            for prefix in self._prefixes
        ]
        self._grants = Histogram(
            "labd_grant_latency_seconds",
            "From the request for benches to their grant.",
            ["priority"],
            buckets=LATENCIES_S,
            registry=registry,
        )
        self._leases = Counter("labd_leases_ended", "Leases by why they ended.", ["reason"], registry=registry)
        self._ended = Counter("labd_runs_ended", "Runs.", ["verdict", "cause", "executor"], registry=registry)
        self._requests = Counter("labd_requests", "To the REST API.", ["route", "status"], registry=registry)
        self._commits = Counter("labd_commits", "Writing transactions.", registry=registry)
        self._written = Counter("labd_points_written", "Points that InfluxDB has taken.", registry=registry)
        self._dropped = Counter("labd_points_dropped", "Points that were not kept.", ["cause"], registry=registry)
        ProcessCollector(registry=registry)
        registry.register(self)

    def write(self, points: Iterable[Point]) -> None:
        """See `PointSink.write`."""
        now = time.monotonic()
        for point in points:
            self._count(point)
            if point.measurement in _TOLD:
                with self._lock:
                    self._latest[point.measurement, tuple(point.tags.values())] = point, now

    def collect(self) -> Iterator[Metric]:
        """How things stand."""
        now = time.monotonic()
        with self._lock:
            self._latest = {key: entry for key, entry in self._latest.items() if now - entry[1] < STALE_S}
            points = [point for point, _ in self._latest.values()]
        for gauge in _GAUGES:
            family = GaugeMetricFamily(gauge.name, gauge.help, labels=gauge.labels)
            for point in points:
                value = point.fields.get(gauge.field)
                if point.measurement == gauge.measurement and isinstance(value, (int, float)):
                    family.add_metric([point.tags[label] for label in gauge.labels], value * gauge.scale)
            yield family
        if not self._leads():
            return
        depth = _sum(point.fields["depth"] for point in points if point.measurement == "queue")
        running = _sum(
            point.fields["runs"] for point in points if point.measurement == "runs" and point.tags["state"] == "RUNNING"
        )
        for prefix in self._prefixes:
            yield GaugeMetricFamily(f"{prefix}_queue_depth", "Leases that wait for benches, all together.", depth)
            yield GaugeMetricFamily(f"{prefix}_active_runners", "Runs that have their benches.", running)

    def _count(self, point: Point) -> None:
        tags, fields = point.tags, point.fields
        match point.measurement:
            case "run":
                self._ended.labels(tags["verdict"], tags["cause"], tags["executor"]).inc()
                duration = fields.get("duration_s")
                if isinstance(duration, (int, float)):
                    for histogram in self._durations:
                        histogram.labels(tags["verdict"], tags["executor"]).observe(duration)
            case "grant":
                self._grants.labels(tags["priority"]).observe(float(fields["latency_s"]))
            case "lease":
                self._leases.labels(tags["reason"]).inc()
            case "labd_requests":
                self._requests.labels(tags["route"], tags["status"]).inc(float(fields["requests"]))
            case "labd":
                self._commits.inc(float(fields["commits"]))
                self._written.inc(float(fields.get("points_written", 0)))
            case "labd_points_dropped":
                self._dropped.labels(tags["cause"]).inc(float(fields["points"]))


_TOLD = {gauge.measurement for gauge in _GAUGES}


def _sum(values: Iterable[float | int | bool | str]) -> float:
    return sum(float(value) for value in values)


class Both:
    """Hands points to two sinks."""

    def __init__(self, first: PointSink, second: PointSink) -> None:
        self._sinks = first, second

    def write(self, points: Iterable[Point]) -> None:
        """See `PointSink.write`."""
        taken = list(points)
        for sink in self._sinks:
            sink.write(taken)
