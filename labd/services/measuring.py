"""labd's own measurements: what happens is told as it does, how things stand every few seconds by one thread.

Nothing here waits for whoever takes the points, nor makes a use case wait.
"""

import threading
import time
from collections.abc import Iterator

import structlog

from bench_agent.protocol.process_use import CpuMeter, memory_bytes
from labd.model.measurements import ONLY, tag_text
from labd.model.point import Point, Value
from labd.services.agent_points import AgentPoints
from labd.services.core import Core
from labd.services.event_points import EventPoints, Names
from labd.services.gauges import BenchGauge, QueueGauge, RunGauge
from labd.services.ledger import Effects
from labd.services.request_meter import RequestMeter
from labd.services.sessions import Sessions
from labd.store.errors import StoreError
from labd.telemetry.counters import Counters

INTERVAL_S = 10.0
"""From one point of a gauge to the next."""
LOOK_S = 1.0
"""How often the benches are looked at."""

_log = structlog.get_logger()


class Measuring:
    """Start it once everything else is there."""

    def __init__(
        self, core: Core, sessions: Sessions, agent_points: AgentPoints, counters: Counters | None = None
    ) -> None:
        """``counters`` are of the writer of points, if there is one."""
        self.requests = RequestMeter()
        self._core = core
        self._sessions = sessions
        self._agent_points = agent_points
        self._counters = counters
        self._written = 0
        self._lost: dict[str, int] = {}
        names = Names()
        self._lock = threading.Lock()
        self._events = EventPoints(names)
        self._benches, self._queue, self._runs = BenchGauge(), QueueGauge(names), RunGauge()
        self._cpu = CpuMeter()
        self._looked_at: float | None = None
        self._failed = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="measuring", daemon=True)
        core.follow(self._follow)

    def start(self) -> None:
        """Measures until `stop`."""
        self._thread.start()

    def stop(self) -> None:
        """Returns when the present look is done."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=10.0)

    def look(self) -> None:
        """Sees how the benches are; only the labd that leads does. Raises StoreError."""
        if not self._core.peers.leads:
            self._looked_at = None
            return
        with self._core.view() as unit:
            benches, taken = unit.benches(), unit.taken()
        at = time.monotonic()
        passed_s = 0.0 if self._looked_at is None else at - self._looked_at
        self._looked_at = at
        self._benches.look(benches, taken, self._core.presence.attached, passed_s)

    def tell(self) -> None:
        """Hands on how things stand. Raises StoreError."""
        now = self._core.clock.now()
        self._core.points.write(self._of_labd(now))
        if self._core.peers.leads:
            with self._core.view() as unit:
                queue, runs = unit.queue(), unit.count_open_runs()
            points = [*self._benches.points(now), *self._queue.points(queue, now), *self._runs.points(runs, now)]
            self._core.points.write(points)

    def _of_labd(self, now: float) -> Iterator[Point]:
        replica = tag_text(self._core.peers.replica or ONLY)
        fields: dict[str, Value] = {
            "cpu_percent": self._cpu.percent(),
            "memory_bytes": memory_bytes(),
            "agents": len(self._sessions.all()),
            "commits": 0,
        }
        commits = self._core.commits.take()
        if commits is not None:
            fields["commits"] = commits.count
            fields["commit_mean_ms"] = 1000 * commits.mean
            fields["commit_p95_ms"] = 1000 * commits.p95
            fields["commit_max_ms"] = 1000 * commits.max
        if self._counters is not None:
            written, self._written = self._written, self._counters.written
            fields["points_written"] = self._written - written
        yield Point("labd", {"replica": replica}, fields, now)
        yield from self._losses(replica, now)
        yield from self.requests.points(replica, now)
        yield from self._agent_points.dropped(now)

    def _losses(self, replica: str, now: float) -> Iterator[Point]:
        before, self._lost = self._lost, {} if self._counters is None else self._counters.losses()
        for cause, lost in self._lost.items():
            if lost > before.get(cause, 0):
                tags = {"replica": replica, "cause": cause}
                yield Point("labd_points_dropped", tags, {"points": lost - before.get(cause, 0)}, now)

    def _follow(self, effects: Effects) -> None:
        """On the thread that made the transaction."""
        if not effects.happened:
            return
        now = self._core.clock.now()
        with self._lock:
            points = [self._events.of(one, now) for one in effects.happened]
        self._core.points.write(points)

    def _loop(self) -> None:
        due = time.monotonic() + INTERVAL_S
        while not self._stop.wait(LOOK_S):
            try:
                self.look()
                if time.monotonic() >= due:
                    due = max(due + INTERVAL_S, time.monotonic())
                    self.tell()
                self._failed = False
            except StoreError as error:
                if not self._failed:
                    _log.warning("what is measured has a gap: the database does not answer", reason=str(error))
                self._failed = True
            except Exception:
                if not self._failed:
                    _log.exception("what is measured has a gap")
                self._failed = True
