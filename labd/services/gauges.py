"""Points of how the lab stands: its benches, its queue, its runs."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

from labd.model.bench import Bench, BenchState, Health
from labd.model.lease import Lease
from labd.model.measurements import tag_text
from labd.model.point import Point
from labd.model.run import ExecutorName, RunState
from labd.services.event_points import Names

_SPENT = ("leased_s", "idle_s", "quarantined_s", "offline_s", "other_s")
_NOT_SEEN = dict.fromkeys(_SPENT, 0.0)


class BenchGauge:
    """How long each bench was how. Looked at often, told of seldom."""

    def __init__(self) -> None:
        self._spent: dict[str, dict[str, float]] = {}
        self._last: dict[str, tuple[Bench, BenchState, Health]] = {}
        self._counted: set[tuple[str, str]] = set()

    def look(
        self, benches: Iterable[Bench], taken: Collection[str], attached: Callable[[str], bool], passed_s: float
    ) -> None:
        """How they are now, and have been since the last look, ``passed_s`` ago."""
        self._last = {}
        for bench in benches:
            if bench.removed:
                continue
            here = attached(bench.name)
            state, health = bench.state(here, bench.name in taken), bench.health(here)
            self._last[bench.name] = bench, state, health
            spent = self._spent.setdefault(bench.name, dict(_NOT_SEEN))
            spent[_way(state, health)] += passed_s
        for gone in self._spent.keys() - self._last.keys():
            del self._spent[gone]

    def points(self, now: float) -> Iterator[Point]:
        """Of the time since the last call."""
        counts: Counter[tuple[str, str]] = Counter()
        spent, self._spent = self._spent, {}
        for name, (bench, state, health) in self._last.items():
            counts[state.value, health.value] += 1
            tags = {"bench": tag_text(name), "agent": tag_text(bench.agent)}
            yield Point(
                "bench", tags, {"state": state.value, "health": health.value, **spent.get(name, _NOT_SEEN)}, now
            )
        for state_, health_ in sorted(self._counted | counts.keys()):
            yield Point("benches", {"state": state_, "health": health_}, {"benches": counts[state_, health_]}, now)
        self._counted = set(counts)


def _way(state: BenchState, health: Health) -> str:
    if state is BenchState.LEASED:
        return "leased_s"
    if health is Health.QUARANTINED:
        return "quarantined_s"
    if health is Health.OFFLINE:
        return "offline_s"
    return "idle_s" if state is BenchState.AVAILABLE else "other_s"


class QueueGauge:
    """Who waits, by class of priority and team."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._told: set[tuple[str, str]] = set()

    def points(self, queue: Iterable[Lease], now: float) -> Iterator[Point]:
        """Of those who wait now; of those who did when it was last asked, and do not any more, a zero."""
        waits: dict[tuple[str, str], list[float]] = {}
        for lease in queue:
            since = max(lease.created_at, lease.starts_at or 0.0)
            if since <= now:
                key = self._names.priority(lease.priority), self._names.team(lease.team)
                waits.setdefault(key, []).append(now - since)
        for priority, team in sorted(self._told | waits.keys()):
            found = waits.get((priority, team), [])
            mean = sum(found) / len(found) if found else 0.0
            fields = {"depth": len(found), "wait_mean_s": mean, "wait_max_s": max(found, default=0.0)}
            yield Point("queue", {"priority": priority, "team": team}, fields, now)
        self._told = set(waits)


class RunGauge:
    """The runs that are not over, by state and executor."""

    def __init__(self) -> None:
        self._told: set[tuple[RunState, ExecutorName]] = set()

    def points(self, counts: Mapping[tuple[RunState, ExecutorName], int], now: float) -> Iterator[Point]:
        """As `QueueGauge.points`."""
        for state, executor in sorted(self._told | counts.keys()):
            tags = {"state": state.value, "executor": executor.value}
            yield Point("runs", tags, {"runs": counts.get((state, executor), 0)}, now)
        self._told = set(counts)
