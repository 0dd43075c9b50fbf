from typing import Any

import pytest

from labd.executors.base import Alive
from labd.model.filters import Filter
from labd.model.identity import ANONYMOUS
from labd.model.lease import LeaseEnd
from labd.model.run import CaseCounts, Cause, LogLevel, Run, RunState
from labd.services.conductor import EXIT_GRACE_S
from labd.services.errors import Conflict, Forbidden, Invalid, NotFound, TooLarge, Unauthenticated
from labd.services.lab import Lab
from labd.services.reporting import NewLine
from tests.unit.labd.fakes import RESULT, FakeClock, FakeExecutor, attach, report, settle


def _submit(lab: Lab, **changes: Any) -> Run:
    wish: dict[str, Any] = {
        "script": "return 1",
        "name": "x.lua",
        "files": {},
        "selector": "",
        "holder": "ci",
        "timeout_s": 60.0,
    }
    run = lab.running.create(ANONYMOUS, **{**wish, **changes}).run
    settle(lab)
    return lab.running.get(run.id).run


def _line(text: str = "hello") -> NewLine:
    return NewLine(1_800_000_000.5, LogLevel.INFO, text)


def test_a_run_starts_at_once_on_a_free_bench_and_gets_its_assignment(lab: Lab, executor: FakeExecutor) -> None:
    attach(lab, report("bench-1", {"platform": "meb"}))
    run = _submit(lab, files={"lib/a.lua": "return 2"})
    assert run.state is RunState.RUNNING
    (job,) = executor.jobs
    assert (job.run_id, job.url) == (run.id, "http://labd.test")
    lab.reporting.authorise(run.id, job.token)
    assignment = lab.reporting.assignment(run.id)
    assert (assignment.inputs.script, assignment.inputs.files) == ("return 1", {"lib/a.lua": "return 2"})
    ((access, labels),) = assignment.benches
    assert labels == {"platform": "meb", "name": "bench-1", "team": "shared"}
    assert access.token == lab.leasing.get(run.lease_id).token


def test_a_waiting_run_needs_no_heartbeat_and_shows_its_position(lab: Lab, clock: FakeClock) -> None:
    session, _ = attach(lab, report("bench-1"))
    holder = lab.leasing.create(ANONYMOUS, selector="", holder="ada", duration_s=9000.0, ttl_s=3600.0).lease
    run = _submit(lab)
    clock.advance(3000.0)
    settle(lab)
    view = lab.running.get(run.id)
    assert (view.run.state, view.position) == (RunState.PENDING, 1)
    lab.leasing.release(ANONYMOUS, holder.id)
    lab.hearing.fenced(session, "bench-1", 1)
    assert lab.running.get(run.id).run.state is RunState.RUNNING


@pytest.mark.parametrize(
    ("verdict", "state"), [("passed", RunState.PASSED), ("failed", RunState.FAILED), ("error", RunState.ERROR)]
)
def test_the_runners_verdict_ends_the_run_and_frees_the_bench(
    lab: Lab, executor: FakeExecutor, verdict: str, state: RunState
) -> None:
    _, link = attach(lab, report("bench-1"))
    run = _submit(lab)
    document = {**RESULT, "verdict": verdict, "reason": "" if verdict == "passed" else "1 of 1 cases"}
    for _ in range(2):  # the answer to the first was lost
        ended = lab.reporting.put_result(run.id, document, "<testsuites/>").run
    assert (ended.state, ended.reason) == (state, document["reason"])
    assert ended.cases == CaseCounts(1, 0, 0)
    assert lab.leasing.get(run.lease_id).lease.end_reason is LeaseEnd.RELEASED
    assert len(link.orders) == 1
    executor.die(run.id, "the runner exited with code 0")
    settle(lab)
    assert lab.running.get(run.id).run == ended
    assert executor.status(run.id) is None, "its leavings are cleared up"
    assert lab.running.result(run.id).junit == "<testsuites/>"
    with pytest.raises(Conflict, match="another result"):
        lab.reporting.put_result(run.id, {**document, "reason": "changed its mind"}, "<testsuites/>")


def test_a_runner_that_lingers_after_its_result_is_ended(lab: Lab, executor: FakeExecutor, clock: FakeClock) -> None:
    attach(lab, report("bench-1"))
    run = _submit(lab)
    lab.reporting.put_result(run.id, RESULT, "")
    settle(lab)
    assert executor.stopped == []
    clock.advance(EXIT_GRACE_S)
    settle(lab)
    assert executor.stopped == [run.id]


def test_a_runner_that_dies_makes_an_error_and_frees_the_bench(lab: Lab, executor: FakeExecutor) -> None:
    attach(lab, report("bench-1"))
    run = _submit(lab)
    executor.die(run.id, "the runner was killed by SIGKILL; it wrote: Killed")
    settle(lab)
    ended = lab.running.get(run.id).run
    assert (ended.state, ended.reason) == (RunState.ERROR, "the runner was killed by SIGKILL; it wrote: Killed")
    assert lab.leasing.get(run.lease_id).lease.state.over
    with pytest.raises(NotFound, match="has no result"):
        lab.running.result(run.id)


def test_a_runner_that_cannot_be_started_makes_an_error(lab: Lab, executor: FakeExecutor) -> None:
    attach(lab, report("bench-1"))
    executor.broken = "the runner cannot be started: No space left on device"
    run = _submit(lab)
    assert (run.state, run.reason) == (RunState.ERROR, executor.broken)


def test_a_run_beyond_its_timeout_and_grace_is_ended(lab: Lab, executor: FakeExecutor, clock: FakeClock) -> None:
    attach(lab, report("bench-1"))
    run = _submit(lab, timeout_s=20.0)
    clock.advance(19.0)
    lab.leasing.heartbeat(ANONYMOUS, run.lease_id)
    clock.advance(10.9)
    settle(lab)
    assert lab.running.get(run.id).run.state is RunState.RUNNING, "the runner has its grace to report by itself"
    clock.advance(0.1)
    settle(lab)
    ended = lab.running.get(run.id).run
    assert (ended.state, ended.reason) == (RunState.FAILED, "it ran for longer than its timeout of 20 s")
    assert ended.cause is Cause.TIMEOUT
    assert executor.stopped == [run.id]


def test_a_runner_without_heartbeats_loses_bench_and_run(lab: Lab, executor: FakeExecutor, clock: FakeClock) -> None:
    attach(lab, report("bench-1"))
    run = _submit(lab)
    clock.advance(31.0)
    settle(lab)
    ended = lab.running.get(run.id).run
    assert (ended.state, ended.reason) == (RunState.ERROR, "its runner sent no heartbeat any more")
    assert executor.stopped == [run.id]


def test_cancelling_ends_the_run_at_once_whether_it_waits_or_runs(lab: Lab, executor: FakeExecutor) -> None:
    attach(lab, report("bench-1"))
    running, waiting = _submit(lab), _submit(lab)
    for run in (running, waiting, running):
        assert lab.running.cancel(ANONYMOUS, run.id).run.state is RunState.CANCELLED
        assert lab.leasing.get(run.lease_id).lease.state.over
    settle(lab)
    assert executor.stopped == [running.id]
    with pytest.raises(Conflict):
        lab.reporting.put_result(running.id, RESULT, "")


def test_whoever_takes_the_lease_away_ends_the_run(lab: Lab) -> None:
    attach(lab, report("bench-1"))
    running, waiting = _submit(lab), _submit(lab)
    lab.leasing.release(ANONYMOUS, waiting.lease_id)
    lab.leasing.release(ANONYMOUS, running.lease_id)
    assert lab.running.get(waiting.id).run.state is RunState.CANCELLED
    ended = lab.running.get(running.id).run
    assert (ended.state, ended.reason) == (RunState.ERROR, "its lease was released while it ran")


def test_log_lines_are_stored_once_and_without_gaps(lab: Lab) -> None:
    attach(lab, report("bench-1"))
    run = _submit(lab)
    assert lab.reporting.append_log(run.id, 1, [_line("a"), _line("b")]) == 2
    assert lab.reporting.append_log(run.id, 2, [_line("b, sent again"), _line("c")]) == 3
    with pytest.raises(Conflict, match="must be 4, not 6"):
        lab.reporting.append_log(run.id, 6, [_line()])
    lines, _ = lab.running.lines(run.id, 0, 10)
    assert [(line.seq, line.text) for line in lines] == [(1, "a"), (2, "b"), (3, "c")]
    lab.running.cancel(ANONYMOUS, run.id)
    assert lab.reporting.append_log(run.id, 3, [_line("c")]) == 3
    with pytest.raises(Conflict, match="its log is closed at line 3"):
        lab.reporting.append_log(run.id, 4, [_line()])


def test_a_log_has_a_bound(lab: Lab) -> None:
    attach(lab, report("bench-1"))
    run = _submit(lab)
    most = lab.core.limits.stored_output_bytes
    lab.reporting.append_log(run.id, 1, [_line("ü" * (most // 2))])
    with pytest.raises(TooLarge, match=str(most)):
        lab.reporting.append_log(run.id, 2, [_line("xx")])


def test_run_tokens_open_their_own_run_only(lab: Lab, executor: FakeExecutor) -> None:
    attach(lab, report("bench-1"), report("bench-2"))
    one, two = _submit(lab), _submit(lab)
    token = executor.jobs[0].token
    lab.reporting.authorise(one.id, token)
    with pytest.raises(Forbidden):
        lab.reporting.authorise(two.id, token)
    with pytest.raises(Unauthenticated):
        lab.reporting.authorise(one.id, None)


def test_a_run_that_can_never_have_a_bench_is_refused(lab: Lab) -> None:
    attach(lab, report("bench-1"))
    with pytest.raises(Invalid, match="'platform=meb'"):
        _submit(lab, selector="platform=meb")
    assert lab.running.newest(Filter(), 10) == []


def test_stopping_labd_ends_running_runs_and_keeps_the_queue(lab: Lab, executor: FakeExecutor) -> None:
    session, _ = attach(lab, report("bench-1"))
    running, waiting = _submit(lab), _submit(lab)
    lab.conductor.start()
    lab.stop()
    lab.hearing.fenced(session, "bench-1", 1)
    assert lab.running.get(running.id).run.reason == "labd was stopped"
    assert not isinstance(executor.status(running.id), Alive)
    assert lab.running.get(waiting.id).run.state is RunState.PENDING


def test_a_runner_may_report_late_when_labd_was_away(lab: Lab, clock: FakeClock) -> None:
    attach(lab, report("bench-1"))
    run = _submit(lab)
    settle(lab)
    clock.advance(run.timeout_s + lab.core.limits.grace_s + 5.0)
    lab.core.forgive()
    settle(lab)
    assert lab.reporting.put_result(run.id, RESULT, "<testsuites/>").run.state is RunState.PASSED


def test_the_same_file_of_many_runs_is_stored_once(lab: Lab) -> None:
    attach(lab, report("bench-1"))
    image = bytes(1_000_000)
    runs = [_submit(lab, data_files={"app.bin": image}) for _ in range(5)]
    assert all(lab.reporting.data_file(run.id, "app.bin") == image for run in runs)
    assert sum(file.stat().st_size for file in lab.core.store.path.parent.iterdir()) < 4_000_000


def test_a_run_again_does_the_same_on_another_bench_than_that_on_which_it_broke(
    lab: Lab, executor: FakeExecutor
) -> None:
    session, _ = attach(lab, report("bench-1"), report("bench-2"), report("bench-3"))
    first = _submit(lab, files={"lib/a.lua": "return 2"}, data_files={"fw.hex": b":00000001FF"}, affinity="fw-7")
    with pytest.raises(Conflict, match="is RUNNING: it can be run again once it is over"):
        lab.running.again(ANONYMOUS, first.id, "ada")
    used: list[str] = []
    run = first
    for number in (1, 2):
        executor.die(run.id, "the bench caught fire")
        settle(lab)
        ended = lab.running.get(run.id)
        assert ended.run.state is RunState.ERROR
        used += ended.benches
        lab.hearing.fenced(session, ended.benches[0], 1)
        run = lab.running.again(ANONYMOUS, run.id, "ada").run
        settle(lab)
        lease = lab.leasing.get(run.lease_id).lease
        assert (lease.avoid, lease.affinity, lease.holder) == (tuple(used), "fw-7", "ada")
        assert lease.bench not in used, number
    assignment = lab.reporting.assignment(run.id)
    assert (assignment.inputs.script, assignment.inputs.files) == ("return 1", {"lib/a.lua": "return 2"})
    assert lab.reporting.data_file(run.id, "fw.hex") == b":00000001FF"


def test_a_run_that_failed_may_have_the_same_bench_again_and_one_that_broke_if_there_is_no_other(
    lab: Lab, executor: FakeExecutor
) -> None:
    session, _ = attach(lab, report("bench-1"))
    run = _submit(lab)
    for epoch, verdict in ((1, "failed"), (2, "error")):
        lab.reporting.put_result(run.id, {**RESULT, "verdict": verdict}, "<testsuites/>")
        lab.hearing.fenced(session, "bench-1", epoch)
        run = lab.running.again(ANONYMOUS, run.id, "ada").run
        settle(lab)
        lease = lab.leasing.get(run.lease_id).lease
        assert (lease.bench, lease.avoid) == ("bench-1", () if verdict == "failed" else ("bench-1",))


def test_what_is_not_kept_cannot_be_run_again(lab: Lab) -> None:
    with pytest.raises(NotFound, match="there is no run 'r-1'"):
        lab.running.again(ANONYMOUS, "r-1", "ada")
