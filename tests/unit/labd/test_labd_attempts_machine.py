"""Runs in clusters, their attempts, limits and pods that are lost, driven at random through the services."""

import shutil
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from labd.executors.base import Alive, Job
from labd.model.filters import Filter
from labd.model.identity import ANONYMOUS
from labd.model.policy import Policy, RunLimit, RunPolicy
from labd.model.run import Cause, ExecutorName, Run, RunState
from labd.model.selector import parse
from labd.services.errors import Conflict, Forbidden
from labd.services.lab import Lab
from tests.unit.labd.fakes import RESULT, FakeClock, FakeClusters, FakeLink, open_lab, report, settle

BENCHES = {"bench-1": {"platform": "meb"}, "bench-2": {"platform": "meb"}, "bench-3": {}, "bench-4": {}}
ATTEMPTS = 2
LIMITS = (
    RunLimit(2, cluster="lab-a"),
    RunLimit(1, cluster="lab-b", team="body"),
    RunLimit(1, selector="platform=meb"),
    RunLimit(3),
)
TIMEOUT_S = 60.0
LONGEST_S = 700.0
"""An attempt of whose pod nothing is heard: the time to show up, the run's timeout and grace, and a little."""


class Pods(FakeClusters):
    """Writes down each pod that was ever made."""

    def __init__(self) -> None:
        super().__init__()
        self.made: Counter[tuple[str, int]] = Counter()

    def start(self, job: Job) -> None:
        super().start(job)
        self.made[job.run_id, job.attempt] += 1

    def recover(self, running: Mapping[str, str]) -> None:
        """As the executor's sweep does."""
        for run_id in self.alive().keys() - running.keys():
            self.runners.pop(run_id)

    def alive(self) -> dict[str, int]:
        return {run_id: one.attempt for run_id, one in self.runners.items() if isinstance(one, Alive)}


class AttemptsMachine(RuleBasedStateMachine):
    runs = Bundle("runs")

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="labd-attempts-"))
        self.clock, self.pods, self.link = FakeClock(), Pods(), FakeLink()
        self.fenced = dict.fromkeys(BENCHES, 0)
        self.over: dict[str, Run] = {}
        self.lab: Lab = self.open()

    def open(self) -> Lab:
        return open_lab(self.directory, self.clock, clusters=self.pods)

    @initialize()
    def begin(self) -> None:
        self.lab.policing.replace(ANONYMOUS, Policy(runs=RunPolicy(ATTEMPTS, LIMITS)))
        self.attach()

    def attach(self) -> None:
        reports = [report(name, labels, fenced=self.fenced[name]) for name, labels in BENCHES.items()]
        self.link = FakeLink()
        self.session, orders = self.lab.hearing.attach("a", "a:1", reports, self.link)
        self.link.orders.extend(orders)

    def teardown(self) -> None:
        """Whatever has happened, every run ends, and no pod stays."""
        for _ in range(ATTEMPTS * len(self.present()) + 1):
            if all(run.state.final for run in self.present()):
                break
            self.clock.advance(LONGEST_S)
            settle(self.lab)
            self.fence()
        self.clock.advance(LONGEST_S)
        settle(self.lab)
        assert [run for run in self.present() if not run.state.final] == []
        assert self.pods.alive() == {}
        self.lab.core.store.close()
        shutil.rmtree(self.directory)

    def present(self) -> list[Run]:
        with self.lab.core.view() as unit:
            return unit.newest_runs(Filter(), 1000)

    # What happens

    @rule(
        target=runs,
        cluster=st.sampled_from(["lab-a", "lab-b"]),
        team=st.sampled_from(["body", "chassis"]),
        selector=st.sampled_from(["", "platform=meb", "name=bench-3"]),
    )
    def submit(self, cluster: str, team: str, selector: str) -> str:
        run = self.lab.running.create(
            ANONYMOUS,
            script="return",
            name="x.lua",
            files={},
            selector=selector,
            holder="ci",
            team=team,
            timeout_s=TIMEOUT_S,
            executor=ExecutorName.KUBERNETES,
            cluster=cluster,
        ).run
        settle(self.lab)
        return run.id

    @rule(run_id=runs, cause=st.sampled_from(Cause))
    def pod_ends(self, run_id: str, cause: Cause) -> None:
        before = self.lab.running.get(run_id).run
        if run_id not in self.pods.alive():
            return
        self.pods.die(run_id, "as it says", cause)
        settle(self.lab)
        after = self.lab.running.get(run_id).run
        again = cause.transient and before.attempt < ATTEMPTS
        assert before.state.final or after.state.final != again

    @rule(run_id=runs)
    def pod_shows_up(self, run_id: str) -> None:
        run = self.lab.running.get(run_id).run
        if self.pods.alive().get(run_id) == run.attempt and run.state is RunState.RUNNING:
            self.lab.leasing.heartbeat(ANONYMOUS, run.lease_id)

    @rule(run_id=runs, attempt=st.integers(1, ATTEMPTS), verdict=st.sampled_from(["passed", "failed", "error"]))
    def pod_reports(self, run_id: str, attempt: int, verdict: str) -> None:
        """Also one of a former attempt, or one that was taken for lost."""
        before = self.lab.running.get(run_id).run
        try:
            after = self.lab.reporting.put_result(run_id, {**RESULT, "verdict": verdict}, "", attempt=attempt).run
        except Forbidden:
            assert attempt != before.attempt
        except Conflict:
            assert before.state is not RunState.RUNNING
        else:
            assert attempt == before.attempt
            assert before.state.final or after.state.value == verdict.upper()
        settle(self.lab)

    @rule(run_id=runs)
    def cancel(self, run_id: str) -> None:
        assert self.lab.running.cancel(ANONYMOUS, run_id).run.state.final
        settle(self.lab)

    @rule()
    def fence(self) -> None:
        """The agent does all that it was told."""
        orders, self.link.orders = self.link.orders, []
        for one in orders:
            self.fenced[one.bench] = max(self.fenced[one.bench], one.epoch)
            self.lab.hearing.fenced(self.session, one.bench, one.epoch)
        settle(self.lab)

    @rule(seconds=st.sampled_from([1.0, 6.0, 31.0, 100.0, 700.0]))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)
        settle(self.lab)

    @rule()
    def restart_labd(self) -> None:
        """The pods are what they were; what labd knew of them it has to find again."""
        self.lab.core.store.close()
        self.lab = self.open()
        self.lab.core.forgive()
        self.lab.conductor.recover()
        self.attach()
        settle(self.lab)

    # What must always hold

    @invariant()
    def each_attempt_has_one_pod_and_each_run_one_at_a_time(self) -> None:
        assert all(count == 1 for count in self.pods.made.values()), "an attempt was started twice"
        alive = self.pods.alive()
        for run in self.present():
            if run.state is RunState.RUNNING:
                assert alive.get(run.id) == run.attempt, "a run runs where its attempt is"
            elif run.state is RunState.PENDING:
                assert run.id not in alive, "a former attempt goes on"

    @invariant()
    def attempts_are_counted_and_bounded(self) -> None:
        for run in self.present():
            attempts = [one for one, _ in self.lab.running.get(run.id).attempts]
            assert [one.number for one in attempts] == list(range(1, run.attempt + 1))
            assert run.attempt <= ATTEMPTS
            assert len({one.lease_id for one in attempts}) == len(attempts), "each has a lease of its own"
            assert all(one.cause is not None and one.cause.transient for one in attempts[:-1])

    @invariant()
    def what_is_over_stays_as_it_is(self) -> None:
        for run in self.present():
            if run.state.final:
                assert self.over.setdefault(run.id, run) == run

    @invariant()
    def no_limit_is_exceeded_and_nobody_waits_for_one_with_room(self) -> None:
        runs = self.present()
        running = [run for run in runs if run.state is RunState.RUNNING]
        for limit in LIMITS:
            assert sum(_covers(limit, run) for run in running) <= limit.runs, limit
        for run in runs:
            view = self.lab.running.get(run.id) if run.state is RunState.PENDING else None
            if view is not None and view.obstacle is not None:
                full = [
                    one for one in LIMITS if _covers(one, run) and sum(_covers(one, r) for r in running) >= one.runs
                ]
                assert full, view.obstacle


def _covers(limit: RunLimit, run: Run) -> bool:
    return limit.covers(run.cluster or "", run.team, {str(parse(run.selector))} if run.selector else {""})


TestAttempts = AttemptsMachine.TestCase
TestAttempts.pytestmark = [pytest.mark.timeout(900)]  # type: ignore[attr-defined]  # for shrinking what was found
TestAttempts.settings = settings(max_examples=6, stateful_step_count=30, suppress_health_check=list(HealthCheck))
