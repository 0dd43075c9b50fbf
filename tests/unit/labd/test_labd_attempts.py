"""Runs in clusters: where they may live, their attempts, and what a runner of a former one may still do."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from labd.executors.base import Alive, Exited
from labd.model.identity import ANONYMOUS
from labd.model.lease import LeaseState
from labd.model.policy import Policy, RunPolicy, TeamPolicy
from labd.model.run import Cause, ExecutorName, LogLevel, Run, RunState
from labd.model.source import GitSource
from labd.services.attachment import Session
from labd.services.errors import Conflict, Forbidden, Invalid
from labd.services.lab import Lab
from labd.services.reporting import NewLine
from tests.unit.labd.fakes import (
    RESULT,
    FakeClock,
    FakeClusters,
    FakeLink,
    application,
    attach,
    open_lab,
    report,
    settle,
)


@pytest.fixture
def pods() -> FakeClusters:
    return FakeClusters()


@pytest.fixture
def lab(tmp_path: Path, clock: FakeClock, pods: FakeClusters, database: str | None) -> Iterator[Lab]:
    lab = open_lab(tmp_path, clock, database=database, clusters=pods)
    yield lab
    lab.core.store.close()


def _submit(lab: Lab, **changes: Any) -> Run:
    wish: dict[str, Any] = {"script": "return 1", "name": "x.lua", "files": {}, "holder": "ci", "timeout_s": 60.0}
    wish["executor"] = ExecutorName.KUBERNETES
    run = lab.running.create(ANONYMOUS, **{**wish, **changes}).run
    settle(lab)
    return lab.running.get(run.id).run


def _fence(lab: Lab, attached: tuple[Session, FakeLink]) -> None:
    session, link = attached
    for order in link.orders:
        lab.hearing.fenced(session, order.bench, order.epoch)
    settle(lab)


def _line(text: str) -> NewLine:
    return NewLine(1_800_000_000.5, LogLevel.INFO, text)


def test_a_run_in_a_cluster_gets_a_job_that_says_where_and_what(lab: Lab, pods: FakeClusters) -> None:
    attach(lab, report("bench-1"), report("bench-2"))
    one, two = _submit(lab), _submit(lab, cluster="lab-b", timeout_s=5.0)
    assert [(job.cluster, job.attempt, job.script, job.timeout_s) for job in pods.jobs] == [
        ("lab-a", 1, "return 1", 60.0),
        ("lab-b", 1, "return 1", 5.0),
    ]
    assert (one.cluster, two.cluster) == ("lab-a", "lab-b")


def test_without_a_cluster_nothing_runs_in_one(tmp_path: Path, clock: FakeClock) -> None:
    lab = open_lab(tmp_path, clock)
    attach(lab, report("bench-1"))
    with pytest.raises(Invalid, match="labd knows no cluster") as refused:
        _submit(lab)
    assert refused.value.errors[0].field == "executor"
    lab.core.store.close()


def test_clusters_that_are_not_there_are_refused_by_name(lab: Lab, pods: FakeClusters) -> None:
    attach(lab, report("bench-1"))
    with pytest.raises(
        Invalid, match=r"'lab-c': there is no such cluster; did you mean .*\? there are 'lab-a', 'lab-b'$"
    ):
        _submit(lab, cluster="lab-c")
    with pytest.raises(Invalid, match="the executor 'process' has no clusters"):
        _submit(lab, cluster="lab-a", executor=ExecutorName.PROCESS)
    pods.default_cluster = None
    with pytest.raises(Invalid, match=r"none is the default\. There are 'lab-a', 'lab-b'"):
        _submit(lab)


def test_a_run_says_what_its_pod_waits_for(lab: Lab, pods: FakeClusters) -> None:
    pods.awaited = "a node: 0/3 nodes are available"
    attach(lab, report("bench-1"))
    first, second = _submit(lab), _submit(lab)
    assert lab.running.get(first.id).obstacle == "its pod waits for a node: 0/3 nodes are available"
    assert lab.running.get(second.id).obstacle is None, "it has no pod, but a place in the queue"
    pods.awaited = None
    assert lab.running.get(first.id).obstacle is None


@pytest.mark.parametrize("cause", [Cause.EVICTED, Cause.POD_LOST])
def test_a_run_whose_pod_was_lost_gets_another_attempt_with_a_lease_of_its_own(
    lab: Lab, pods: FakeClusters, cause: Cause
) -> None:
    attached = attach(lab, report("bench-1"))
    run = _submit(lab)
    first = pods.jobs[0]
    lab.reporting.append_log(run.id, 1, [_line("hello")], attempt=1)
    pods.die(run.id, "the node was drained", cause)
    settle(lab)
    waiting = lab.running.get(run.id)
    assert (waiting.run.state, waiting.run.attempt, waiting.run.started_at) == (RunState.PENDING, 2, None)
    assert waiting.run.lease_id != run.lease_id
    assert lab.leasing.get(run.lease_id).lease.state is LeaseState.ENDING
    assert pods.status(run.id) is None, "what the first one has left is cleared up"
    _fence(lab, attached)
    again = lab.running.get(run.id)
    assert (again.run.state, again.benches) == (RunState.RUNNING, ("bench-1",)), "the bench was not at fault"
    assert pods.jobs[-1].attempt == 2
    assert pods.jobs[-1].token != first.token
    former, present = again.attempts
    assert (former[0].number, former[0].cause, former[0].reason) == (1, cause, "the node was drained")
    assert former[0].ended_at is not None
    assert (former[1], present[1]) == (("bench-1",), ("bench-1",))
    assert (present[0].number, present[0].ended_at) == (2, None)
    texts = [line.text for line in lab.running.lines(run.id, 0, 10)[0]]
    assert texts == [
        "hello",
        f"attempt 1 of 3 is over ({cause}: the node was drained); the next one waits for a bench",
    ]
    assert lab.reporting.assignment(run.id, 2).run.log_lines == 2
    ended = lab.reporting.put_result(run.id, RESULT, "", attempt=2)
    assert (ended.run.state, ended.run.cause) == (RunState.PASSED, None)
    assert len(ended.attempts) == 2


def test_a_retry_is_on_record(lab: Lab, pods: FakeClusters) -> None:
    attach(lab, report("bench-1"))
    run = _submit(lab)
    pods.die(run.id, "the node was drained", Cause.EVICTED)
    settle(lab)
    with lab.core.view() as unit:
        entries = list(unit.audit_entries())
    (retried,) = [one for one in entries if one.deed.action == "run.retried"]
    assert retried.deed.why == "Evicted: the node was drained"
    assert retried.deed.after is not None
    assert retried.deed.after["attempt"] == 2


def test_attempts_come_to_an_end(lab: Lab, pods: FakeClusters) -> None:
    lab.policing.replace(ANONYMOUS, Policy(runs=RunPolicy(attempts=2)))
    attached = attach(lab, report("bench-1"))
    run = _submit(lab)
    for _ in range(2):
        pods.die(run.id, "the node was drained", Cause.EVICTED)
        settle(lab)
        _fence(lab, attached)
    ended = lab.running.get(run.id)
    assert (ended.run.state, ended.run.cause, ended.run.reason) == (
        RunState.ERROR,
        Cause.EVICTED,
        "the node was drained",
    )
    assert [one.number for one, _ in ended.attempts] == [1, 2]
    assert len(pods.jobs) == 2


@pytest.mark.parametrize("cause", [one for one in Cause if not one.transient])
def test_what_would_not_go_better_elsewhere_ends_the_run(lab: Lab, pods: FakeClusters, cause: Cause) -> None:
    attach(lab, report("bench-1"))
    run = _submit(lab)
    pods.die(run.id, "as it says", cause)
    settle(lab)
    ended = lab.running.get(run.id).run
    assert (ended.state, ended.cause, ended.reason, ended.attempt) == (cause.verdict, cause, "as it says", 1)
    assert lab.leasing.get(run.lease_id).lease.state.over


def test_an_end_without_a_cause_of_labds_is_an_error(lab: Lab, pods: FakeClusters) -> None:
    attach(lab, report("bench-1"))
    run = _submit(lab)
    pods.die(run.id, "who knows", "Supernova")
    settle(lab)
    ended = lab.running.get(run.id).run
    assert (ended.state, ended.cause) == (RunState.ERROR, None)


def test_a_runner_of_a_former_attempt_is_heard_no_more(lab: Lab, pods: FakeClusters) -> None:
    attached = attach(lab, report("bench-1"))
    run = _submit(lab)
    old = pods.jobs[0].token
    assert lab.reporting.authorise(run.id, old) == 1
    pods.die(run.id, "the node was drained", Cause.EVICTED)
    settle(lab)
    for _ in range(2):  # while the second one waits, and once it runs
        with pytest.raises(Forbidden, match="attempt 1 of the run is over"):
            lab.reporting.authorise(run.id, old)
        with pytest.raises(Forbidden, match="attempt 1 of the run is over"):
            lab.reporting.append_log(run.id, 2, [_line("I live")], attempt=1)
        with pytest.raises(Forbidden, match="attempt 1 of the run is over"):
            lab.reporting.put_result(run.id, RESULT, "", attempt=1)
        with pytest.raises(Forbidden, match="attempt 1 of the run is over"):
            lab.reporting.assignment(run.id, attempt=1)
        with pytest.raises(Conflict):
            lab.leasing.heartbeat(ANONYMOUS, run.lease_id)
        _fence(lab, attached)
    assert lab.running.get(run.id).run.state is RunState.RUNNING
    assert lab.reporting.authorise(run.id, pods.jobs[1].token) == 2


def test_a_pod_of_a_former_attempt_counts_as_none(lab: Lab, pods: FakeClusters) -> None:
    attached = attach(lab, report("bench-1"))
    run = _submit(lab)
    pods.die(run.id, "the node was drained", Cause.EVICTED)
    settle(lab)
    pods.runners[run.id] = Alive(1)  # it was only thought to be gone
    _fence(lab, attached)
    assert pods.stopped == [run.id]
    assert pods.status(run.id) == Alive(2)
    pods.runners[run.id] = Exited("the node is back", Cause.EVICTED, 1)
    pods._callback(run.id)
    settle(lab)
    assert lab.running.get(run.id).run.attempt == 2, "what became of the first one is no news"


def test_a_pod_without_heartbeats_is_lost_and_tried_again(lab: Lab, clock: FakeClock, pods: FakeClusters) -> None:
    attach(lab, report("bench-1"))
    run = _submit(lab)
    lab.leasing.heartbeat(ANONYMOUS, run.lease_id)
    clock.advance(lab.core.limits.ttl_s + 1)
    settle(lab)
    view = lab.running.get(run.id)
    assert (view.run.state, view.run.attempt) == (RunState.PENDING, 2)
    assert view.attempts[0][0].cause is Cause.POD_LOST
    assert pods.stopped == [run.id]


def test_a_pod_may_take_its_time_to_start_and_its_timeout_counts_from_then(
    lab: Lab, clock: FakeClock, pods: FakeClusters
) -> None:
    attach(lab, report("bench-1"))
    run = _submit(lab, timeout_s=60.0)
    clock.advance(lab.core.limits.start_s - 10)
    lab.core.forgive()
    settle(lab)
    assert lab.running.get(run.id).run.state is RunState.RUNNING, "its image is being pulled"
    for _ in range(3):
        lab.leasing.heartbeat(ANONYMOUS, run.lease_id)
        clock.advance(20.0)
        settle(lab)
    assert lab.running.get(run.id).run.state is RunState.RUNNING
    lab.leasing.heartbeat(ANONYMOUS, run.lease_id)
    clock.advance(lab.core.limits.grace_s)
    settle(lab)
    ended = lab.running.get(run.id).run
    assert (ended.state, ended.cause, ended.attempt) == (RunState.FAILED, Cause.TIMEOUT, 1)
    assert "longer than its timeout of 60 s" in ended.reason


def test_a_pod_that_never_shows_up_is_lost(lab: Lab, clock: FakeClock, pods: FakeClusters) -> None:
    attach(lab, report("bench-1"))
    run = _submit(lab)
    clock.advance(lab.core.limits.start_s)
    settle(lab)
    assert lab.running.get(run.id).attempts[0][0].cause is Cause.POD_LOST


def test_pods_go_on_when_labd_stops(lab: Lab, pods: FakeClusters) -> None:
    attach(lab, report("bench-1"))
    run = _submit(lab)
    lab.running.fail_all("labd was stopped")
    assert lab.running.get(run.id).run.state is RunState.RUNNING


GIT = GitSource("https://git.example.com/tests.git", "smoke/identify.lua", "main")
COMMIT = "2f4c0a9d5b1e7788a3c6f0de91b2a4c5d6e7f801"


def test_a_script_from_git_is_fetched_by_its_pod_and_each_attempt_runs_the_same_commit(
    lab: Lab, pods: FakeClusters
) -> None:
    attached = attach(lab, report("bench-1"))
    run = _submit(lab, script=None, git=GIT)
    assert (pods.jobs[0].git, pods.jobs[0].script) == (GIT, None)
    assignment = lab.reporting.assignment(run.id)
    assert (assignment.run.git, assignment.inputs.script) == (GIT, "")
    with pytest.raises(Invalid, match="all 40 or 64 hexadecimal digits"):
        lab.reporting.record_commit(run.id, "main")
    for _ in range(2):  # the answer to the first was lost
        assert lab.reporting.record_commit(run.id, COMMIT).run.commit == COMMIT
    with pytest.raises(Conflict, match=f"runs commit {COMMIT}"):
        lab.reporting.record_commit(run.id, "0" * 40)
    pods.die(run.id, "the node was drained", Cause.EVICTED)
    settle(lab)
    _fence(lab, attached)
    assert pods.jobs[1].git == replace(GIT, revision=COMMIT), "though main may have moved"
    with pytest.raises(Forbidden, match="attempt 1 of the run is over"):
        lab.reporting.record_commit(run.id, COMMIT, attempt=1)
    lab.reporting.put_result(run.id, RESULT, "", attempt=2)
    again = lab.running.again(ANONYMOUS, run.id, "ci").run
    assert (again.git, again.commit) == (GIT, None), "what the branch is then"


@pytest.mark.parametrize(
    ("changes", "field", "message"),
    [
        ({"script": "return 1", "git": GIT}, "script", "exactly one of them"),
        ({"script": None}, "script", "exactly one of them"),
        ({"git": replace(GIT, url="/srv/tests.git")}, "git.url", "expected one with https or http"),
        ({"git": replace(GIT, url="file:///etc")}, "git.url", "expected one with https or http"),
        ({"git": replace(GIT, url="ext::sh -c id")}, "git.url", "expected one with https or http"),
        ({"git": replace(GIT, url="https://ada:secret@git.example.com/t.git")}, "git.url", "leave it out"),
        ({"git": replace(GIT, url="https://git.example.com:x/t.git")}, "git.url", "x"),
        ({"git": replace(GIT, path="../../etc/passwd")}, "git.path", "out of the repository"),
        ({"git": replace(GIT, path="/etc/passwd")}, "git.path", "out of the repository"),
        ({"git": replace(GIT, path=".")}, "git.path", "such as tests/smoke.lua"),
        ({"git": replace(GIT, revision="--upload-pack=id")}, "git.revision", "a branch, a tag"),
        ({"git": replace(GIT, revision="main..next")}, "git.revision", "a branch, a tag"),
        ({"git": GIT, "files": {"a.lua": ""}}, "files", "the files of its repository"),
        ({"git": GIT, "executor": ExecutorName.PROCESS}, "git", "run on kubernetes"),
        ({"script": "-" * (256 * 1024 + 1)}, "script", "at most 262144"),
    ],
)
def test_sources_that_cannot_be_are_refused_by_field(
    lab: Lab, changes: dict[str, Any], field: str, message: str
) -> None:
    attach(lab, report("bench-1"))
    with pytest.raises(Invalid, match=message) as refused:
        _submit(lab, **{"script": None, **changes})
    assert [one.field for one in refused.value.errors] == [field]


@pytest.mark.parametrize("changes", [{"script": None, "git": GIT}, {"cluster": "lab-b"}])
def test_what_takes_a_pod_gets_one_unless_told_otherwise(lab: Lab, pods: FakeClusters, changes: dict[str, Any]) -> None:
    attach(lab, report("bench-1"))
    assert _submit(lab, executor=None, **changes).executor is ExecutorName.KUBERNETES
    assert _submit(lab, executor=None).executor is ExecutorName.PROCESS, "as the policy says of the team"


def test_a_run_that_brought_its_script_has_no_commit(lab: Lab, pods: FakeClusters) -> None:
    attach(lab, report("bench-1"))
    with pytest.raises(Conflict, match="from no Git repository"):
        lab.reporting.record_commit(_submit(lab).id, COMMIT)


def test_a_team_may_have_its_runs_in_a_cluster_unless_they_say_otherwise(lab: Lab, pods: FakeClusters) -> None:
    teams = (TeamPolicy("chassis", executor=ExecutorName.KUBERNETES),)
    lab.policing.replace(ANONYMOUS, Policy(teams=teams))
    attach(lab, report("bench-1"), report("bench-2"), report("bench-3"))
    theirs = _submit(lab, team="chassis", executor=None)
    assert (theirs.executor, theirs.cluster) == (ExecutorName.KUBERNETES, "lab-a")
    assert _submit(lab, executor=None).executor is ExecutorName.PROCESS
    assert _submit(lab, team="chassis", executor=ExecutorName.PROCESS).executor is ExecutorName.PROCESS


def test_a_runner_reports_nothing_for_another_run(lab: Lab, pods: FakeClusters) -> None:
    attach(lab, report("bench-1"), report("bench-2"))
    one, two = _submit(lab), _submit(lab)
    web = TestClient(application(lab), base_url="http://labd.test/api/v1/")
    bearer = {"Authorization": f"Bearer {pods.jobs[0].token}"}
    body = {"document": RESULT, "junit": "<testsuites/>"}
    refused = web.put(f"runs/{two.id}/result", json=body, headers=bearer)
    assert refused.status_code == 403
    assert web.put(f"runs/{two.id}/commit", json={"commit": COMMIT}, headers=bearer).status_code == 403
    assert lab.running.get(two.id).run.state is RunState.RUNNING
    pods.die(one.id, "the node was drained", Cause.EVICTED)
    settle(lab)
    late = web.put(f"runs/{one.id}/result", json=body, headers=bearer)
    assert (late.status_code, "attempt 1 of the run is over" in late.json()["detail"]) == (403, True)
    shown = web.get(f"runs/{one.id}").json()
    assert [(each["number"], each["cause"]) for each in shown["attempts"]] == [(1, "Evicted"), (2, None)]


def test_a_run_from_git_over_the_api_is_named_after_its_script_and_shows_its_commit(
    lab: Lab, pods: FakeClusters
) -> None:
    attach(lab, report("bench-1"))
    web = TestClient(application(lab), base_url="http://labd.test/api/v1/")
    source = {"url": GIT.url, "path": GIT.path}
    run = web.post("runs", json={"git": source, "executor": "kubernetes", "holder": "ci"}).json()
    assert (run["name"], run["git"], run["commit"]) == ("identify.lua", {**source, "revision": "HEAD"}, None)
    settle(lab)
    bearer = {"Authorization": f"Bearer {pods.jobs[0].token}"}
    assert web.get(f"runs/{run['id']}/assignment", headers=bearer).json()["git"] == {**source, "revision": "HEAD"}
    assert web.put(f"runs/{run['id']}/commit", json={"commit": COMMIT}, headers=bearer).json()["commit"] == COMMIT


def test_a_run_again_goes_to_the_same_cluster(lab: Lab, pods: FakeClusters) -> None:
    attached = attach(lab, report("bench-1"))
    run = _submit(lab, cluster="lab-b")
    lab.reporting.put_result(run.id, RESULT, "")
    _fence(lab, attached)
    again = lab.running.again(ANONYMOUS, run.id, "ci").run
    assert (again.executor, again.cluster, again.attempt) == (ExecutorName.KUBERNETES, "lab-b", 1)


def test_old_attempts_go_with_their_run(lab: Lab, pods: FakeClusters, clock: FakeClock) -> None:
    attached = attach(lab, report("bench-1"))
    run = _submit(lab)
    pods.die(run.id, "the node was drained", Cause.EVICTED)
    settle(lab)
    _fence(lab, attached)
    lab.reporting.put_result(run.id, RESULT, "", attempt=2)
    with lab.core.view() as unit:
        assert unit.old_leases("default", clock.now() + 1) == [], "its run is kept"
    with lab.core.transaction() as ledger:
        ledger.unit.remove_runs([run.id])
        assert ledger.unit.former_attempts(run.id) == []
