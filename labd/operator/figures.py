"""What Prometheus is told of the operator, beside its health."""

from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

_TOLD = {
    "leading": "Whether this replica acts.",
    "ready": "Whether it has read the TestRuns.",
    "well": "Whether it does not hang.",
    "testruns": "TestRuns in the cluster.",
}


class Figures(Collector):
    """Of a state as the operator tells it."""

    def __init__(self, state: Callable[[], Mapping[str, object]]) -> None:
        self.registry = CollectorRegistry()
        self._state = state
        ProcessCollector(registry=self.registry)
        self.registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """As it is now."""
        state = self._state()
        for name, meaning in _TOLD.items():
            value = state[name]
            if isinstance(value, int):
                yield GaugeMetricFamily(f"labd_operator_{name}", meaning, value)
        reaches = float(state["labd"] == "ok")
        yield GaugeMetricFamily("labd_operator_reaches_labd", "Whether labd takes what it asks for.", reaches)
