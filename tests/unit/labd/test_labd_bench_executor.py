"""Runs at the bench, seen from labd: what agents are told, and what becomes of a run whatever either side forgets."""

import pytest

from labd.executors.base import Alive
from labd.executors.bench import ForgetOrder, RunnerReport, StartOrder, StopOrder
from labd.model.identity import ANONYMOUS
from labd.model.run import ExecutorName, Run, RunState
from labd.services.attachment import Session
from labd.services.lab import Lab
from tests.unit.labd.fakes import RESULT, FakeClock, FakeExecutor, FakeLink, attach, open_lab, report, settle


def _submit(lab: Lab, executor: ExecutorName = ExecutorName.BENCH) -> Run:
    run = lab.running.create(
        ANONYMOUS,
        script="return 1",
        name="x.lua",
        files={},
        selector="",
        holder="ci",
        timeout_s=60.0,
        executor=executor,
    ).run
    settle(lab)
    return lab.running.get(run.id).run


def _reattach(lab: Lab, *runners: RunnerReport) -> tuple[Session, FakeLink]:
    link = FakeLink()
    session, _ = lab.hearing.attach("agent-1", "agent-1.test:8472", [report("bench-1")], link, runners)
    settle(lab)
    return session, link


def test_the_agent_of_the_bench_is_told_to_start_the_runner_with_url_and_tokens(
    lab: Lab, executor: FakeExecutor
) -> None:
    _, link = attach(lab, report("bench-1"))
    run = _submit(lab)
    (order,) = link.runner_orders
    assert isinstance(order, StartOrder)
    assert (order.job.run_id, order.job.url, order.job.bench) == (run.id, "http://labd.test", "bench-1")
    assert order.job.lease_token == lab.leasing.get(run.lease_id).token
    lab.reporting.authorise(run.id, order.job.token)
    assert executor.jobs == [], "nothing runs beside labd"
    assert lab.running.get(run.id).run.executor is ExecutorName.BENCH


def test_a_run_that_asks_for_nothing_runs_beside_labd(lab: Lab, executor: FakeExecutor) -> None:
    _, link = attach(lab, report("bench-1"))
    run = _submit(lab, ExecutorName.PROCESS)
    assert [job.run_id for job in executor.jobs] == [run.id]
    assert link.runner_orders == []


def test_a_runner_that_ends_without_a_result_makes_an_error_and_is_forgotten(lab: Lab) -> None:
    session, link = attach(lab, report("bench-1"))
    run = _submit(lab)
    lab.hearing.runner_changed(session, RunnerReport(run.id, True, ""))
    settle(lab)
    assert lab.running.get(run.id).run.state is RunState.RUNNING
    lab.hearing.runner_changed(session, RunnerReport(run.id, False, "the runner was killed by SIGKILL"))
    settle(lab)
    ended = lab.running.get(run.id).run
    assert (ended.state, ended.reason) == (RunState.ERROR, "the runner was killed by SIGKILL")
    assert link.runner_orders[1:] == [ForgetOrder(run.id)]


def test_a_runner_that_reports_a_result_and_goes_is_forgotten(lab: Lab) -> None:
    session, link = attach(lab, report("bench-1"))
    run = _submit(lab)
    lab.reporting.put_result(run.id, RESULT, "")
    lab.hearing.runner_changed(session, RunnerReport(run.id, False, "the runner exited with code 0"))
    settle(lab)
    assert lab.running.get(run.id).run.state is RunState.PASSED
    assert link.runner_orders[1:] == [ForgetOrder(run.id)]


def test_cancelling_stops_the_runner(lab: Lab) -> None:
    session, link = attach(lab, report("bench-1"))
    run = _submit(lab)
    lab.running.cancel(ANONYMOUS, run.id)
    settle(lab)
    assert link.runner_orders[1:] == [StopOrder(run.id)]
    lab.hearing.runner_changed(session, RunnerReport(run.id, False, "the runner was killed by SIGTERM"))
    settle(lab)
    assert link.runner_orders[2:] == [ForgetOrder(run.id)]


def test_an_order_lost_with_the_stream_is_given_again(lab: Lab) -> None:
    attach(lab, report("bench-1"))
    run = _submit(lab)
    _, link = _reattach(lab)
    (order,) = link.runner_orders
    assert isinstance(order, StartOrder)
    assert order.job.run_id == run.id


@pytest.mark.parametrize("alive", [True, False])
def test_a_runner_that_the_agent_lists_is_never_started_again(lab: Lab, alive: bool) -> None:
    attach(lab, report("bench-1"))
    run = _submit(lab)
    _, link = _reattach(lab, RunnerReport(run.id, alive, "" if alive else "the agent was restarted"))
    assert not any(isinstance(order, StartOrder) for order in link.runner_orders)
    ended = lab.running.get(run.id).run
    assert (ended.state, ended.reason) == (
        (RunState.RUNNING, "") if alive else (RunState.ERROR, "the agent was restarted")
    )


def test_a_runner_that_an_agent_has_lost_makes_an_error(lab: Lab) -> None:
    session, _ = attach(lab, report("bench-1"))
    run = _submit(lab)
    lab.hearing.runner_changed(session, RunnerReport(run.id, True, ""))
    _, link = _reattach(lab)
    ended = lab.running.get(run.id).run
    assert ended.state is RunState.ERROR
    assert "does not know of its runner any more" in ended.reason
    assert link.runner_orders == [ForgetOrder(run.id)]


def test_runners_of_runs_that_are_over_are_ended_and_forgotten_when_their_agent_comes_back(lab: Lab) -> None:
    session, _ = attach(lab, report("bench-1"))
    run = _submit(lab)
    lab.hearing.detach(session, "test")
    lab.running.cancel(ANONYMOUS, run.id)
    settle(lab)
    _, link = _reattach(lab, RunnerReport(run.id, True, ""), RunnerReport("r-older", False, "gone"))
    assert link.runner_orders == [StopOrder(run.id), ForgetOrder("r-older")]


def test_a_run_whose_agent_is_away_ends_when_nobody_keeps_its_lease_alive(lab: Lab, clock: FakeClock) -> None:
    session, _ = attach(lab, report("bench-1"))
    run = _submit(lab)
    lab.hearing.detach(session, "test")
    clock.advance(31.0)
    settle(lab)
    ended = lab.running.get(run.id).run
    assert (ended.state, ended.reason) == (RunState.ERROR, "its runner sent no heartbeat any more")


@pytest.mark.parametrize("fate", ["alive", "ended", "never started"])
def test_a_restarted_labd_learns_of_its_runners_from_the_agent(
    tmp_path_factory: pytest.TempPathFactory, clock: FakeClock, fate: str, database: str | None
) -> None:
    directory = tmp_path_factory.mktemp("labd")
    former = open_lab(directory, clock, database=database)
    attach(former, report("bench-1"))
    run = _submit(former)
    former.core.store.close()  # killed
    lab = open_lab(directory, clock, database=database)
    lab.conductor.recover()
    settle(lab)
    assert lab.running.get(run.id).run.state is RunState.RUNNING
    reports = [] if fate == "never started" else [RunnerReport(run.id, fate == "alive", "it crashed")]
    _, link = _reattach(lab, *reports)
    assert len([order for order in link.runner_orders if isinstance(order, StartOrder)]) == (fate == "never started")
    expected = RunState.ERROR if fate == "ended" else RunState.RUNNING
    assert lab.running.get(run.id).run.state is expected
    lab.core.store.close()


def test_a_stopping_labd_ends_its_runners_and_waits_for_them(lab: Lab) -> None:
    session, link = attach(lab, report("bench-1"))
    run = _submit(lab)
    status = lab.at_bench.status(run.id)
    assert isinstance(status, Alive)

    class Obedient(FakeLink):
        def send(self, order: object) -> None:
            if isinstance(order, StopOrder):
                lab.hearing.runner_changed(session, RunnerReport(run.id, False, "the runner was killed by SIGTERM"))
            link.send(order)  # type: ignore[arg-type]

    session.link = Obedient()
    lab.stop()
    assert lab.running.get(run.id).run.reason == "labd was stopped"
    assert [type(order) for order in link.runner_orders] == [StartOrder, StopOrder, ForgetOrder]
