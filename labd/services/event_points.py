"""Points of what happens once: a grant, the end of a lease, the end of a run."""

from collections.abc import Mapping

from labd.model.measurements import NONE, OTHER, tag_text
from labd.model.point import Point, Value
from labd.services.happenings import Granted, Happening, LeaseOver, Retried, RunOver

TEAMS = 100
SUITES = 100
CLASSES = 32


class Words:
    """A bounded number of different words for a tag: first come, first served."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: dict[str, str] = {}

    def __call__(self, word: str) -> str:
        """The word as a tag takes it; ``other`` when there are too many already."""
        known = self._known.get(word)
        if known is not None:
            return known
        if len(self._known) >= self._most:
            return OTHER
        return self._known.setdefault(word, tag_text(word))


class Names:
    """The open tags that labd's points share. Threads share it: in a race a word may take the place of another."""

    def __init__(self) -> None:
        self.team = Words(TEAMS)
        self.suite = Words(SUITES)
        self.priority = Words(CLASSES)


class EventPoints:
    """Makes points of happenings."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._last: dict[tuple[str, ...], int] = {}
        """When each series had its latest point (µs); as many as there are combinations of bounded tags."""

    def of(self, happening: Happening, now: float) -> Point:
        """The point of something that happened ``now`` (s since the Unix epoch)."""
        match happening:
            case Granted(lease):
                asked_at = max(lease.created_at, lease.starts_at or 0.0)
                latency_s = max((lease.granted_at or now) - asked_at, 0.0)
                tags = self._tags(lease.priority, lease.team)
                return self._point("grant", tags, {"latency_s": latency_s, "benches": len(lease.benches)}, now)
            case LeaseOver(lease):
                held_s = 0.0 if lease.granted_at is None else max((lease.ending_at or now) - lease.granted_at, 0.0)
                tags = {"reason": str(lease.end_reason or NONE), **self._tags(lease.priority, lease.team)}
                return self._point("lease", tags, {"held_s": held_s, "benches": len(lease.benches)}, now)
            case RunOver():
                return self._run(happening, now)
            case Retried(run, cause):
                tags = {"cause": cause.value, "executor": run.executor.value, "team": self._names.team(run.team)}
                return self._point("retry", tags, {"attempt": run.attempt}, now)

    def _run(self, happening: RunOver, now: float) -> Point:
        run, lease = happening.run, happening.lease
        fields: dict[str, Value] = {"attempts": run.attempt}
        if run.started_at is not None:
            fields["wait_s"] = max(run.started_at - run.created_at, 0.0)
            fields["duration_s"] = max((run.ended_at or now) - run.started_at, 0.0)
            if lease is not None and lease.active_at is not None and lease.granted_at is not None:
                fields["startup_s"] = max(lease.active_at - lease.granted_at, 0.0)
        else:
            fields["wait_s"] = max((run.ended_at or now) - run.created_at, 0.0)
        if run.cases is not None:
            fields["cases_passed"] = run.cases.passed
            fields["cases_failed"] = run.cases.failed
            fields["cases_error"] = run.cases.error
        tags = {
            "verdict": run.state.value,
            "cause": NONE if run.cause is None else run.cause.value,
            "suite": self._names.suite(run.name),
            "executor": run.executor.value,
            "team": self._names.team(run.team),
        }
        return self._point("run", tags, fields, now)

    def _tags(self, priority: str, team: str) -> dict[str, str]:
        return {"priority": self._names.priority(priority), "team": self._names.team(team)}

    def _point(self, measurement: str, tags: Mapping[str, str], fields: Mapping[str, Value], now: float) -> Point:
        series = (measurement, *tags.values())
        # Points of one series at one moment would replace each other.
        time_us = max(round(now * 1e6), self._last.get(series, 0) + 1)
        self._last[series] = time_us
        return Point(measurement, tags, fields, time_us / 1e6)
