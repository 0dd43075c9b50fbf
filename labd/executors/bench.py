"""The ``bench`` executor: runners beside the bus, as processes of the agent that has the bench.

What labd tells an agent may get lost with the stream, and either side may be restarted at any time. So nothing hangs
on a single message: an agent that attaches lists its runners, and the two are compared. An agent keeps what it knows
of a runner until it is told to forget it; hence a runner that is not on the list was never started.
"""

import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace

import structlog

from labd.executors.base import Alive, ExecutorError, Exited, Job, Status

CLOSE_S = 5.0
"""How long agents may take to end their runners when labd stops."""

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class StartOrder:
    """Start a runner; given again, it does nothing."""

    job: Job


@dataclass(frozen=True, slots=True)
class StopOrder:
    """End a runner."""

    run_id: str


@dataclass(frozen=True, slots=True)
class ForgetOrder:
    """Clear up after a runner that is gone."""

    run_id: str


RunnerOrder = StartOrder | StopOrder | ForgetOrder
Send = Callable[[str, RunnerOrder], bool]


@dataclass(frozen=True, slots=True)
class RunnerReport:
    """What an agent says of a runner."""

    run_id: str
    alive: bool
    reason: str
    """How it ended."""


@dataclass(slots=True)
class _Runner:
    bench: str
    job: Job | None
    """None when a former labd may have started it."""
    confirmed: bool = False
    """The agent has said that it lives."""
    exited: Exited | None = None


class BenchExecutor:
    """See `Executor`. Every method may be called from any thread."""

    def __init__(self, url: str, *, close_s: float = CLOSE_S) -> None:
        """``url`` is labd's REST API as agents on other machines reach it."""
        self._url = url
        self._close_s = close_s
        self._runners: dict[str, _Runner] = {}
        self._changed = threading.Condition()
        self._closing = False
        self._send: Send = lambda _bench, _order: False
        self._callback: Callable[[str], None] = lambda _: None

    def connect(self, send: Send) -> None:
        """Has orders passed on by ``send(bench, order)``, which says whether the bench's agent is attached."""
        self._send = send

    def on_change(self, callback: Callable[[str], None]) -> None:
        """See `Executor.on_change`."""
        self._callback = callback

    def start(self, job: Job) -> None:
        """See `Executor.start`. An agent that is away is told when it attaches."""
        with self._changed:
            if self._closing or job.run_id in self._runners:
                raise ExecutorError(f"a runner of {job.run_id} was started before, or labd is stopping")
            job = replace(job, url=job.urls(self._url))
            self._runners[job.run_id] = _Runner(job.bench, job)
        sent = self._send(job.bench, StartOrder(job))
        _log.info("runner ordered", run=job.run_id, bench=job.bench, attached=sent)

    def status(self, run_id: str) -> Status | None:
        """See `Executor.status`."""
        with self._changed:
            runner = self._runners.get(run_id)
            return None if runner is None else runner.exited or Alive()

    def stop(self, run_id: str) -> None:
        """See `Executor.stop`. A runner whose agent is away ends with its lease; labd does not wait for that."""
        with self._changed:
            runner = self._runners.get(run_id)
        if runner is not None and not self._send(runner.bench, StopOrder(run_id)):
            self._take(RunnerReport(run_id, alive=False, reason="the agent of its bench is away"))

    def forget(self, run_id: str) -> None:
        """See `Executor.forget`."""
        with self._changed:
            runner = self._runners.get(run_id)
            if runner is None or runner.exited is None:
                return
            del self._runners[run_id]
        self._send(runner.bench, ForgetOrder(run_id))

    def recover(self, running: Mapping[str, str]) -> None:
        """See `Executor.recover`. What became of them is known once their agents attach."""
        with self._changed:
            self._runners |= {run_id: _Runner(bench, None) for run_id, bench in running.items()}

    def adopt(self, running: Mapping[str, str]) -> None:
        """These are RUNNING at benches of an agent that attaches, perhaps from another labd."""
        with self._changed:
            for run_id, bench in running.items():
                self._runners.setdefault(run_id, _Runner(bench, None))

    def leave(self, benches: Collection[str] | None = None) -> None:
        """Another labd sees to the runners at these benches now, or at all; they go on."""
        with self._changed:
            gone = [one for one, runner in self._runners.items() if benches is None or runner.bench in benches]
            for run_id in gone:
                del self._runners[run_id]
            self._changed.notify_all()

    def close(self) -> None:
        """See `Executor.close`."""
        with self._changed:
            self._closing = True
            alive = [run_id for run_id, runner in self._runners.items() if not runner.exited]
        for run_id in alive:
            self.stop(run_id)
        with self._changed:
            self._changed.wait_for(lambda: all(one.exited for one in self._runners.values()), timeout=self._close_s)
            gone = [run_id for run_id, runner in self._runners.items() if runner.exited]
        for run_id in gone:
            self.forget(run_id)

    # What agents say; the answers are orders for the same agent.

    def attached(self, benches: Collection[str], reports: Collection[RunnerReport]) -> list[RunnerOrder]:
        """An agent with these benches has attached, and listed its runners."""
        orders = [order for report in reports for order in self.report(benches, report)]
        listed = {report.run_id for report in reports}
        with self._changed:
            unlisted = {
                run_id: runner
                for run_id, runner in self._runners.items()
                if runner.bench in benches and run_id not in listed and runner.exited is None
            }
            for run_id, runner in unlisted.items():
                if runner.confirmed:
                    runner.exited = Exited("the agent of its bench does not know of its runner any more")
                elif runner.job is None:
                    del self._runners[run_id]  # it was not started yet
                else:
                    orders.append(StartOrder(runner.job))
            self._changed.notify_all()
        for run_id in unlisted:
            self._callback(run_id)
        return orders

    def report(self, benches: Collection[str], report: RunnerReport) -> list[RunnerOrder]:
        """Something has become of a runner, says an agent with these benches. Of others it has nothing to say."""
        with self._changed:
            runner = self._runners.get(report.run_id)
        if (runner is None or runner.bench in benches) and self._take(report):
            return []
        _log.warning("runner of a run that is over, or elsewhere", run=report.run_id, alive=report.alive)
        return [StopOrder(report.run_id) if report.alive else ForgetOrder(report.run_id)]

    def _take(self, report: RunnerReport) -> bool:
        """False when labd knows nothing of the runner."""
        with self._changed:
            runner = self._runners.get(report.run_id)
            if runner is None:
                return False
            if report.alive:
                runner.confirmed = True
            elif runner.exited is None:
                runner.exited = Exited(report.reason)
                self._changed.notify_all()
        self._callback(report.run_id)
        return True
