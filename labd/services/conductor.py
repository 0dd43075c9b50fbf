"""The conductor: the one thread that makes things happen by themselves.

It ends what is overdue, and makes the runners follow the runs: level-triggered, so that a missed event costs nothing.
A RUNNING run without a runner gets one; one whose runner is gone is an ERROR; a run that is over has its runner ended.
"""

import math
import threading
import time
from collections.abc import Mapping
from dataclasses import replace

import structlog

from bench_agent.protocol import tracing
from labd.executors.base import Alive, Executor, ExecutorError, Exited, Job
from labd.model.lease import Lease, LeaseState
from labd.model.run import Cause, ExecutorName, Run, RunState
from labd.model.source import GitSource
from labd.services.core import PULSE_S, Core
from labd.services.ledger import CLOCK_MARGIN_S, Effects
from labd.services.peers import LeadLost
from labd.services.running import Running
from labd.store.errors import StoreError

IDLE_S = 60.0
"""Longest sleep: a look at the deadlines costs little, and forgives a clock that was adjusted."""
RETRY_S = 1.0
"""After a step that failed."""
RECONSIDER_S = 30.0
"""How often the queue is looked at when nothing happens: who has waited longer may go before others then."""
EXIT_GRACE_S = 5.0
"""How long a runner may live on after it has reported its result."""

_log = structlog.get_logger()


class Conductor:
    """Start it once everything else is there."""

    def __init__(self, core: Core, running: Running, executors: Mapping[ExecutorName, Executor], url: str) -> None:
        self._core = core
        self._running = running
        self._executors = executors
        self._url = url
        self._wake = threading.Condition()
        self._runs: set[str] = set()
        self._poked = False
        self._unscheduled = False
        self._due_at = math.inf
        """When something is due that the present step may not have seen (monotonic)."""
        self._known: set[str] = set()
        """Runs that have, or may have, a runner of this labd's."""
        self._stopping = False
        self._scheduled_at = 0.0
        self._linger: dict[str, float] = {}
        """Runs that have their result, and the time at which their runner is ended."""
        self._thread = threading.Thread(target=self._loop, name="conductor", daemon=True)
        core.follow(self._follow)
        for executor in executors.values():
            executor.on_change(self._look_at)

    def recover(self) -> None:
        """Takes over what a former labd left: its runners, and whoever waits."""
        with self._core.view() as unit:
            # Of what runs in clusters every labd knows, whoever leads: none takes another's pods for left over.
            running = unit.runs_in(RunState.RUNNING)
            runs = [run for run in running if run.executor is ExecutorName.KUBERNETES or self._is_ours(run)]
            leases = {run.id: unit.lease(run.lease_id) for run in runs}
        for name, executor in self._executors.items():
            mine = [run.id for run in runs if run.executor is name]
            executor.recover(
                {run_id: lease.benches[0].bench for run_id in mine if (lease := leases[run_id]) and lease.benches}
            )
        with self._wake:
            self._known |= {run.id for run in runs}
            self._runs |= self._known
        self._scheduled_at = self._core.clock.now()
        with self._core.transaction() as ledger:
            ledger.end_overdue_runs()
            ledger.schedule()

    def look_again(self) -> None:
        """Looks at every run of this labd's, and whether anybody can be served: something may have been missed."""
        with self._core.view() as unit:
            running = [run.id for run in unit.runs_in(RunState.RUNNING) if self._is_ours(run)]
        with self._wake:
            self._runs |= {*running, *self._known}
            self._poked = self._unscheduled = True
            self._wake.notify_all()

    def start(self) -> None:
        """Conducts until `stop`."""
        self._thread.start()

    def stop(self) -> None:
        """Returns when the present step is done."""
        with self._wake:
            self._stopping = True
            self._wake.notify_all()
        if self._thread.is_alive():
            self._thread.join(timeout=10.0)

    @property
    def busy(self) -> bool:
        """Whether runs wait to be looked at."""
        with self._wake:
            return bool(self._runs)

    def step(self) -> float:
        """Does what is due now; returns the seconds until something is due again. Raises StoreError."""
        now = self._core.clock.now()
        with self._wake:
            self._poked, self._due_at = False, math.inf
            runs, self._runs = self._runs, set()
            unscheduled, self._unscheduled = self._unscheduled, False
        for run_id, until in list(self._linger.items()):
            if now >= until:
                runs.add(run_id)
        while runs:
            run_id = runs.pop()
            try:
                self._reconcile(run_id, now)
            except BaseException:
                with self._wake:
                    self._runs |= {run_id, *runs}
                raise
        if not self._core.peers.leads and not unscheduled:
            return min((IDLE_S, *(until - now for until in self._linger.values())))
        due = self.due_at(now)
        if unscheduled or (due is not None and due <= now):
            self._scheduled_at = now
            try:
                with self._core.transaction() as ledger:
                    if not unscheduled:
                        self._core.peers.confirm_lead(ledger.unit)
                    ledger.end_overdue_runs()
                    ledger.schedule()
            except StoreError:
                with self._wake:
                    self._unscheduled = self._unscheduled or unscheduled
                raise
            except LeadLost as error:
                _log.warning("what is due is another labd's to do", error=str(error))
            return 0.0
        return IDLE_S if due is None else min(IDLE_S, due - now)

    def due_at(self, now: float) -> float | None:
        """When something is due by what the database says (s since the Unix epoch), maybe past; None: nothing is."""
        with self._core.view() as unit:
            deadlines = [unit.next_lease_deadline(now), unit.next_booking_deadline(now), *self._linger.values()]
            came_at = unit.last_to_come()
            if came_at is not None:
                deadlines.append(max(self._scheduled_at, came_at) + RECONSIDER_S)
            used_at = unit.longest_unused()
            if used_at is not None:
                policy = unit.policy()
                told_at = policy.idle_told_at(used_at)
                deadlines.append(told_at if told_at > self._scheduled_at else policy.idle_ends_at(used_at))
            timeout = unit.next_run_deadline()
            ending = unit.next_expiry_of_ending(now - CLOCK_MARGIN_S)
            given_up = [one for lease in unit.leases_ending(now - CLOCK_MARGIN_S) for one in lease.benches if one.live]
        if timeout is not None:
            deadlines.append(max(timeout + self._core.limits.grace_s, self._core.lenient_until))
        if ending is not None:
            deadlines.append(ending + CLOCK_MARGIN_S)
        if any(not self._core.presence.attached(one.bench) for one in given_up):
            deadlines.append(now)
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    def _reconcile(self, run_id: str, now: float) -> None:
        with self._core.view() as unit:
            run = unit.run(run_id)
            lease = unit.lease(run.lease_id) if run is not None else None
            reported = unit.result(run_id) is not None
        if run is not None and not self._is_ours(run):
            if run.executor is ExecutorName.KUBERNETES:
                self._executors[run.executor].forget(run_id)  # another labd sees to it by now
            return
        at_bench = run is not None and run.executor is ExecutorName.BENCH and lease is not None
        if at_bench and lease and lease.benches and self._core.presence.is_elsewhere(lease.benches[0].bench):
            return
        executor = self._executor_of(run_id, run)
        status = executor.status(run_id)
        if run is not None and run.state is RunState.RUNNING:
            if status is not None and status.attempt != run.attempt:
                if isinstance(status, Alive):
                    executor.stop(run_id)
                executor.forget(run_id)
                status = None
            match status:
                case None:
                    self._start(executor, run, lease)
                case Exited(reason, cause, attempt):
                    self._running.fail(run_id, reason, Cause.of(cause), attempt)
        elif isinstance(status, Alive):
            # A runner that has reported goes by itself; one that has not is running a run that is over.
            until = self._linger.setdefault(run_id, now + EXIT_GRACE_S if reported else now)
            if now >= until:
                self._linger[run_id] = now + EXIT_GRACE_S
                executor.stop(run_id)
        else:
            self._linger.pop(run_id, None)
            executor.forget(run_id)
            self._known.discard(run_id)

    def _is_ours(self, run: Run) -> bool:
        """Whether the run's process is for this labd to see to: one at a bench is for whom the agent is attached to,
        one in a cluster for whom leads.
        """
        match run.executor:
            case ExecutorName.PROCESS:
                return self._core.peers.sees_to(run)
            case ExecutorName.KUBERNETES:
                return self._core.peers.leads
        return True

    def _executor_of(self, run_id: str, run: Run | None) -> Executor:
        if run is not None:
            return self._executors[run.executor]
        # A runner that is older than what the database was restored to.
        candidates = [executor for executor in self._executors.values() if executor.status(run_id) is not None]
        return candidates[0] if candidates else self._executors[ExecutorName.PROCESS]

    def _start(self, executor: Executor, run: Run, lease: Lease | None) -> None:
        if lease is None or not lease.state.held:
            return  # it has just ended
        signer, first = self._core.signer, lease.benches[0]
        token, others = signer.lease_token(lease, first), self._core.peers.urls
        job = Job(
            run.id,
            self._url,
            signer.run_token(run.id, run.attempt),
            first.bench,
            token,
            attempt=run.attempt,
            timeout_s=run.timeout_s,
            cluster=run.cluster,
            script=self._running.script(run),
            git=_source(run),
            others=others,
            pods_max=self._running.pods_max(run),
            begun=lease.state is LeaseState.ACTIVE,
            traceparent=run.traceparent,
        )
        self._known.add(run.id)
        above, granted_at = run.traceparent, lease.granted_at or lease.created_at
        tracing.record("lease wait", parent=above, start=lease.created_at, end=granted_at, run=run.id, lease=lease.id)
        with tracing.span("start runner", parent=above, run=run.id, lease=lease.id, executor=str(run.executor)) as span:
            try:
                executor.start(job)
            except ExecutorError as error:
                span.failed(str(error))
                _log.error("runner not started", run=run.id, error=str(error))
                self._running.fail(run.id, str(error), attempt=run.attempt)

    def _follow(self, effects: Effects) -> None:
        wait = math.inf if effects.due_at is None else effects.due_at - self._core.clock.now()
        if effects.queue:
            wait = min(wait, RECONSIDER_S)
        with self._wake:
            due_at = time.monotonic() + wait
            sooner = due_at < self._due_at
            self._due_at = min(self._due_at, due_at)
            if effects.runs or effects.unscheduled:
                self._runs |= effects.runs
                self._poked = True
                self._unscheduled = self._unscheduled or (effects.unscheduled and self._core.granting)
            if sooner or self._poked:
                self._wake.notify_all()

    def _look_at(self, run_id: str) -> None:
        with self._wake:
            self._runs.add(run_id)
            self._poked = True
            self._wake.notify_all()

    def _loop(self) -> None:
        due_at = 0.0
        while True:
            if self._core.peers.replica is None:
                self._core.pulse()
            with self._wake:
                if self._stopping:
                    return
                wait = min(due_at, self._due_at) - time.monotonic()
                if wait > 0 and not (self._poked or self._runs):
                    self._wake.wait(timeout=min(wait, PULSE_S))
                    continue
            try:
                due_at = time.monotonic() + self.step()
            except StoreError as error:
                _log.warning("conductor retries", error=str(error))
                due_at = self._pause()
            except Exception:
                _log.exception("conductor step failed: retried")
                due_at = self._pause()

    def _pause(self) -> float:
        with self._wake:
            self._wake.wait_for(lambda: self._stopping, timeout=RETRY_S)
        return 0.0


def _source(run: Run) -> GitSource | None:
    """Where its script is in Git. What a former attempt found at a branch or tag is what the next one executes."""
    return run.git if run.git is None or run.commit is None else replace(run.git, revision=run.commit)
