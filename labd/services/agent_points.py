"""What agents measure, taken in: of their own benches, as the catalogue says, once, and no more than their share."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any

import structlog

from labd.model.measurements import CATALOGUE, Source, fault, tag_text
from labd.model.point import Marks, Point
from labd.services.attachment import BenchReport, Session
from labd.services.core import Core

BATCH = 1_000
"""Points of one message; the rest is not looked at."""
RATE_PER_S = 1_000.0
"""Points of one agent. Who sends more waits longer for the next batch to be wanted."""
SERIES = 4_000
"""Different series of one agent while labd runs."""
AGENTS = 10_000
"""Whose last batch is remembered."""
AHEAD_S = 3600.0
"""A point may be this far ahead of labd's clock."""
AGE_S = 30 * 86_400.0
"""Older ones are refused."""

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Batch:
    """Points as an agent sends them, without the tag ``agent``."""

    spool: str
    number: int
    points: Sequence[Point]


def _done() -> "Future[None]":
    done: Future[None] = Future()
    done.set_result(None)
    return done


@dataclass(frozen=True, slots=True)
class Receipt:
    """When a batch may be acknowledged."""

    kept: "Future[None]"
    """Done once it is on the disk."""
    wait_s: float
    """So long as well: the agent has sent much."""


@dataclass(slots=True)
class _Agent:
    """What is known of one."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    """An agent may be on a new stream while a batch from its former one is in work."""
    spool: str = ""
    number: int = 0
    """The last batch of that spool that was taken in."""
    kept: "Future[None]" = field(default_factory=_done)
    """Of that batch."""
    series: set[tuple[str, ...]] = field(default_factory=set)
    dropped: Counter[str] = field(default_factory=Counter)
    told: bool = False
    """What is wrong with its points was logged."""
    free_at: float = 0.0
    """When it may send again (monotonic, s)."""


class AgentPoints:
    """Threads share it; each agent is heard by one at a time."""

    def __init__(self, core: Core, marks: Marks | None = None) -> None:
        """``marks`` tell the next labd what this one has taken; None: nothing is kept anyway."""
        self._core = core
        self._marks = marks
        self._open = True
        self._lock = threading.Lock()
        self._agents: dict[str, _Agent] = {}

    def close(self) -> None:
        """Takes nothing more: labd stops, and agents keep what they have for the next."""
        self._open = False

    def take(self, session: Session, batch: Batch) -> Receipt | None:
        """Hands the points on, unless it did before. None: they were not taken, and there is to be no answer."""
        if not self._open:
            return None
        agent = self._known(session.agent)
        with agent.lock:
            return self._take(session, agent, batch)

    def _take(self, session: Session, agent: _Agent, batch: Batch) -> Receipt:
        if batch.spool == agent.spool and batch.number <= agent.number:
            return Receipt(agent.kept, 0.0)
        points = batch.points[:BATCH]
        if len(batch.points) > BATCH:
            agent.dropped["too_many"] += len(batch.points) - BATCH
        self._core.points.write(self._sound(session, agent, points))
        agent.spool, agent.number = batch.spool, batch.number
        # In the same transaction as the points: a labd that is killed has both, or neither and the batch comes again.
        mark = f"{batch.spool} {batch.number}"
        agent.kept = _done() if self._marks is None else self._marks.mark(_mark(session.agent), mark)
        now = time.monotonic()
        agent.free_at = max(agent.free_at, now) + len(points) / RATE_PER_S
        return Receipt(agent.kept, agent.free_at - now)

    def refuse(self, agent: str, points: int) -> None:
        """The agent has not waited for its turn."""
        self._known(agent).dropped["too_many"] += points

    def dropped(self, now: float) -> Iterator[Point]:
        """What was not taken since the last call, as points."""
        with self._lock:
            agents = list(self._agents.items())
        for name, agent in agents:
            counts, agent.dropped = agent.dropped, Counter()
            for cause, count in sorted(counts.items()):
                yield Point("points_dropped", {"agent": tag_text(name), "cause": cause}, {"points": count}, now)

    def _known(self, name: str) -> _Agent:
        with self._lock:
            agent = self._agents.get(name)
            if agent is None:
                while len(self._agents) >= AGENTS:
                    del self._agents[next(iter(self._agents))]
                agent = self._agents[name] = self._kept(name)
            return agent

    def _kept(self, name: str) -> _Agent:
        """Up to where a former labd has taken the agent's points."""
        if self._marks is None:
            return _Agent()
        try:
            marked = self._marks.marked(_mark(name))
        except OSError as error:
            _log.warning("points of an agent may come twice", agent=name, reason=str(error))
            return _Agent()
        if marked is None:
            return _Agent()
        spool, _, number = marked.rpartition(" ")
        return _Agent(spool=spool, number=int(number))

    def _sound(self, session: Session, agent: _Agent, points: Sequence[Point]) -> list[Point]:
        now, name, sound = self._core.clock.now(), tag_text(session.agent), []
        for sent in points:
            point = replace(sent, tags={**sent.tags, "agent": name})
            wrong = self._wrong(session, point, now)
            if wrong is not None:
                agent.dropped["refused"] += 1
                if not agent.told:
                    agent.told = True
                    _log.warning("points of an agent are not taken", agent=session.agent, first=wrong)
                continue
            series = (point.measurement, *(point.tags[tag.name] for tag in CATALOGUE[point.measurement].tags))
            if series not in agent.series:
                if len(agent.series) >= SERIES:
                    agent.dropped["too_many_series"] += 1
                    continue
                agent.series.add(series)
            sound.append(point)
        return sound

    def _wrong(self, session: Session, point: Point, now: float) -> str | None:
        if (wrong := fault(point)) is not None:
            return wrong
        if CATALOGUE[point.measurement].source is not Source.AGENT:
            return f"{point.measurement} is not for agents to measure"
        bench = point.tags.get("bench")
        if bench is not None:
            report = session.benches.get(bench)
            if report is None:
                return f"{point.measurement}: bench {bench} is not the agent's"
            for tag, declared in _DECLARED.items():
                name = point.tags.get(tag)
                if name is not None and not any(one["name"] == name for one in declared(report)):
                    return f"{point.measurement}: bench {bench} has no {tag} {name}"
        if not now - AGE_S <= point.time <= now + AHEAD_S:
            return f"{point.measurement}: time is {point.time}, labd's is {now}"
        return None


_DECLARED: Mapping[str, Callable[[BenchReport], Sequence[Mapping[str, Any]]]] = {
    "bus": lambda report: report.buses,
    "ecu": lambda report: report.ecus,
    "channel": lambda report: report.equipment.get("power", ()),
}
"""By tag: what a bench has of it. A series of anything else is none."""


def _mark(agent: str) -> str:
    return f"agent {agent}"
