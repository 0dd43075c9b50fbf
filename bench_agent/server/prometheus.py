"""What an agent measures, for Prometheus: the names of the points, as ``bench_agent_MEASUREMENT_FIELD``.

Counts of an interval add up to totals; the rest is as of the latest interval.
"""

import threading
from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from bench_agent.protocol import lab_pb2

COUNTED = {
    "can_bus": {"frames_in", "frames_out", "send_failed", "error_frames", "bus_off"},
    "can_bus_drops": {"dropped"},
    "ecu_uds": {"requests", "responses", "negative", "timeouts", "failed", "pending"},
    "ecu_nrc": {"responses"},
    "points_dropped": {"points"},
}
"""Fields that are counts of an interval, by measurement."""
_Key = tuple[str, str, tuple[tuple[str, str], ...]]
"""Measurement, field, tags."""


class Figures(Collector):
    """What ``/metrics`` tells. Threads share it."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._lock = threading.Lock()
        self._totals: dict[_Key, float] = {}
        self._latest: dict[_Key, float] = {}
        ProcessCollector(registry=self.registry)
        self.registry.register(self)

    def take(self, points: Iterable[lab_pb2.Point]) -> None:
        """All points of an interval."""
        latest: dict[_Key, float] = {}
        with self._lock:
            for point in points:
                tags = tuple(sorted(point.tags.items()))
                for name, field in point.fields.items():
                    kind = field.WhichOneof("value")
                    if kind is None or kind == "text":
                        continue
                    key, value = (point.measurement, name, tags), float(getattr(field, kind))
                    if name in COUNTED.get(point.measurement, ()):
                        self._totals[key] = self._totals.get(key, 0.0) + value
                    else:
                        latest[key] = value
            self._latest = latest

    def collect(self) -> Iterator[Metric]:
        """As Prometheus asks."""
        with self._lock:
            totals, latest = dict(self._totals), dict(self._latest)
        for values, family in ((totals, CounterMetricFamily), (latest, GaugeMetricFamily)):
            families: dict[str, Metric] = {}
            for (measurement, field, tags), value in sorted(values.items()):
                name = f"bench_agent_{measurement}_{field}"
                if name not in families:
                    help_text = f"See {measurement} in the manual (Metrics)."
                    families[name] = family(name, help_text, labels=[tag for tag, _ in tags])
                families[name].add_metric([content for _, content in tags], value)  # type: ignore[attr-defined]
            yield from families.values()
