"""The operator: each TestRun is one run of labd, and says how that goes."""

import copy
import dataclasses
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from labd.operator.cluster import TestRuns, connect
from labd.operator.election import NotLeading
from labd.operator.reconciler import Rules
from labd.operator.service import Operator
from labd.operator.testrun import run_name
from tests.kubernetes.cluster import Cluster, Server, namespaced
from tests.kubernetes.fake import FakeApiServer
from tests.kubernetes.operating import Labd, Operators, Tests, eventually, installed, uninstall


@pytest.fixture
def labd(tmp_path: Path) -> Iterator[Labd]:
    folder = tmp_path / "labd"
    folder.mkdir()
    labd = Labd(folder)
    try:
        yield labd
    finally:
        labd.close()


@pytest.fixture
def tests(cluster: Cluster) -> Iterator[Tests]:
    with installed(cluster):
        yield Tests(cluster)


@pytest.fixture
def operators(cluster: Cluster, labd: Labd) -> Iterator[Operators]:
    operators = Operators(cluster, labd)
    try:
        yield operators
    finally:
        operators.close()


def conditions(status: Any) -> dict[str, tuple[str, str]]:
    return {one["type"]: (one["status"], one["reason"]) for one in status["conditions"]}


def test_a_testrun_becomes_a_run_and_says_how_it_goes(labd: Labd, tests: Tests, operators: Operators) -> None:
    operators.start(team=None)
    made = tests.create(benches=[{"selector": "platform=meb"}], timeout="2m", priority="high")
    waiting = tests.until(lambda test: test.run_id is not None)
    (run,) = labd.runs()
    assert (waiting.status["state"], waiting.run_id) == ("Pending", run["id"])
    assert waiting.held
    assert (run["timeout_s"], run["priority"], run["selector"]) == (120, "high", "platform=meb")
    assert run["name"].startswith(f"{made.namespace}/smoke [testrun ")

    labd.free()
    running = tests.reach("Running")
    assert running.status["bench"] == "hil-3"
    assert running.status["log"] == f"{labd.url}/api/v1/runs/{run['id']}/log"

    labd.end(run["id"])
    passed = tests.until(lambda test: test.finished_at is not None and not test.held)
    assert (passed.status["state"], passed.status["result"]) == ("Passed", "1 passed")
    assert "duration" in passed.status
    assert conditions(passed.status) == {"Synced": ("True", "Synced"), "Finished": ("True", "Passed")}
    assert len(labd.runs()) == 1


def test_what_labd_refuses_ends_in_error_and_says_why(labd: Labd, tests: Tests, operators: Operators) -> None:
    operators.start()
    tests.create(priority="best")
    ended = tests.reach("Error")
    assert "best" in ended.status["reason"]
    assert conditions(ended.status)["Finished"] == ("True", "Refused")
    assert labd.runs() == []


def test_a_script_of_many_wide_characters_is_too_large(labd: Labd, tests: Tests, operators: Operators) -> None:
    operators.start()
    tests.create(script="-- " + "ä" * 131_072)
    assert tests.reach("Error").status["reason"] == "the script has 262147 bytes; a TestRun takes at most 262144"


def test_deleting_it_cancels_the_run(labd: Labd, tests: Tests, operators: Operators) -> None:
    labd.free()
    operators.start()
    tests.create()
    tests.reach("Running")
    tests.delete()
    tests.gone()
    (run,) = labd.runs()
    assert run["state"] == "CANCELLED"


def test_the_same_name_again_is_another_run(labd: Labd, tests: Tests, operators: Operators) -> None:
    operators.start()
    tests.create()
    first = tests.until(lambda test: test.run_id is not None)
    tests.delete()
    tests.gone()
    tests.create()
    second = tests.until(lambda test: test.run_id is not None)
    assert first.run_id != second.run_id
    assert [run["state"] for run in labd.runs()] == ["PENDING", "CANCELLED"]


def test_a_run_that_is_cancelled_in_labd_ends_in_error(labd: Labd, tests: Tests, operators: Operators) -> None:
    operators.start()
    tests.create()
    run_id = str(tests.until(lambda test: test.run_id is not None).run_id)
    labd.client.cancel_run(run_id, "not now")
    ended = tests.reach("Error")
    assert ended.status["reason"].startswith("Cancelled: ")
    assert conditions(ended.status)["Finished"] == ("True", "Cancelled")


def test_finished_ones_go_after_their_time(labd: Labd, tests: Tests, operators: Operators) -> None:
    labd.free()
    operators.start(rules=Rules(ttl_s=0.5))
    tests.create()
    run_id = str(tests.reach("Running").run_id)
    labd.end(run_id, "failed")
    tests.gone()
    assert labd.client.run(run_id)["state"] == "FAILED"
    assert labd.client.result(run_id)["verdict"] == "failed"


def test_a_finished_one_stays_while_labd_cannot_say_that_it_has_the_result(
    labd: Labd, tests: Tests, operators: Operators
) -> None:
    labd.free()
    keeping = operators.start()
    tests.create()
    run_id = str(tests.reach("Running").run_id)
    labd.end(run_id)
    tests.until(lambda test: test.finished_at is not None and not test.held)
    operators.stop(keeping)
    labd.go()

    removing = operators.start(rules=Rules(ttl_s=0.001))
    eventually(lambda: removing.state()["labd"] != "ok")
    assert tests.get() is not None
    labd.come()
    tests.gone()


# labd away


def test_while_labd_is_away_they_wait_and_say_so(labd: Labd, tests: Tests, operators: Operators) -> None:
    labd.free()
    labd.go()
    operators.start()
    tests.create()
    waiting = tests.until(lambda test: "conditions" in test.status)
    assert waiting.status["state"] == "Pending"
    assert conditions(waiting.status) == {"Synced": ("False", "LabdUnreachable")}
    assert labd.url in waiting.status["reason"]

    labd.come()
    running = tests.reach("Running")
    assert conditions(running.status)["Synced"] == ("True", "Synced")

    labd.go()
    away = tests.until(lambda test: conditions(test.status)["Synced"][0] == "False")
    assert (away.status["state"], away.status["bench"]) == ("Running", "hil-3")
    labd.come()
    labd.end(str(running.run_id))
    tests.reach("Passed")


def test_a_deleted_one_goes_while_labd_is_away_and_its_run_is_cancelled_later(
    labd: Labd, tests: Tests, operators: Operators
) -> None:
    operators.start(rules=Rules(patience_s=1))
    tests.create()
    run_id = str(tests.until(lambda test: test.run_id is not None).run_id)
    labd.go()
    tests.delete()
    tests.gone()
    labd.come()
    eventually(lambda: labd.client.run(run_id)["state"] == "CANCELLED")


def test_a_run_of_somebody_else_is_left_alone(labd: Labd, tests: Tests, operators: Operators) -> None:
    labd.client.create_run(script="print(1)", name="identify.lua")
    foreign = "elsewhere/smoke [testrun ffffffff-00000000]"  # of another operator
    labd.client.create_run(script="print(1)", name=foreign)
    operators.start()
    tests.create()
    tests.until(lambda test: test.run_id is not None)
    assert {run["state"] for run in labd.runs()} == {"PENDING"}


def test_a_run_that_labd_does_not_know_any_more_is_lost(labd: Labd, tests: Tests, operators: Operators) -> None:
    """As after labd was restored from a backup that is older than the run."""
    made = tests.create()
    TestRuns(connect(str(tests.kubeconfig))).save_status(made, {"state": "Running", "runID": "r-gone"})
    operators.start()
    ended = tests.reach("Error")
    assert ended.status["reason"] == "labd does not know run r-gone any more"
    assert conditions(ended.status)["Finished"] == ("True", "RunLost")
    tests.until(lambda test: not test.held)
    assert labd.runs() == []


# Namespaces, clusters


def test_an_operator_serves_its_namespaces_and_no_others(
    cluster: Cluster, labd: Labd, tests: Tests, operators: Operators
) -> None:
    with namespaced(cluster.kubeconfig, cluster.fake) as elsewhere, installed(elsewhere):
        others = Tests(elsewhere)
        others.create()
        operators.start()
        tests.create()
        tests.until(lambda test: test.run_id is not None)
        found = others.get()
        assert found is not None
        assert (found.status, found.held) == ({}, False)

        operators.start(namespaces=(None,), lease_namespace=elsewhere.namespace)
        others.until(lambda test: test.run_id is not None)
        assert len(labd.runs()) == 2


def test_operators_of_two_clusters_for_one_labd_keep_to_their_own(
    cluster: Cluster, server: Server, labd: Labd, tests: Tests, operators: Operators, tmp_path: Path
) -> None:
    second = FakeApiServer()
    try:
        with namespaced(second.kubeconfig(tmp_path / "second"), second) as made:
            twin = dataclasses.replace(made, namespace=cluster.namespace)
            twin.core.create_namespace({"metadata": {"name": twin.namespace}})
            with installed(twin):
                there, others = Operators(twin, labd), Tests(twin)
                try:
                    operators.start()
                    there.start()
                    tests.create()
                    others.create()
                    mine = str(tests.until(lambda test: test.run_id is not None).run_id)
                    theirs = str(others.until(lambda test: test.run_id is not None).run_id)
                    assert mine != theirs
                    tests.delete()
                    tests.gone()
                    assert labd.client.run(mine)["state"] == "CANCELLED"
                    labd.free()
                    others.reach("Running")
                    assert len(labd.runs()) == 2
                finally:
                    there.close()
    finally:
        second.close()


# Restarts, replicas


def test_an_operator_that_is_killed_at_any_write_leaves_one_run_and_nothing_to_do(
    labd: Labd, tests: Tests, operators: Operators
) -> None:
    """Each time it gets one write further than the time before, until there is nothing left to write."""
    labd.free()
    tests.create()
    for writes in itertools.count():
        assert writes < 20, "it never comes to an end"
        operator = operators.new()
        lead(operator)
        if not killed_after(operator, writes):
            break
        tests.get()
    found = tests.reach("Running")
    assert [run["id"] for run in labd.runs()] == [found.run_id]


def test_two_operators_make_one_run_of_each(labd: Labd, tests: Tests, operators: Operators) -> None:
    first, second = operators.start(), operators.start()
    eventually(lambda: first.ready and second.ready)
    for number in range(5):
        tests.create(f"smoke-{number}")
    for number in range(5):
        tests.until(lambda test: test.run_id is not None, f"smoke-{number}")
    assert len(labd.runs()) == 5
    assert not (first.election.leading and second.election.leading)

    leader, other = (first, second) if first.election.leading else (second, first)
    operators.stop(leader)
    labd.free()
    eventually(lambda: other.election.leading)
    tests.create("smoke-5")
    tests.until(lambda test: test.run_id is not None, "smoke-5")
    assert len(labd.runs()) == 6


def test_two_that_both_take_themselves_for_the_leader_make_one_run(
    labd: Labd, tests: Tests, operators: Operators
) -> None:
    """The Lease failed altogether: runs are made under one key, and writes are to the version that was read."""
    tests.create()
    both = [operators.new(), operators.new()]
    for operator in both:
        lead(operator)
        operator._followers[0].relist()
    for _ in range(4):
        for operator in both:
            operator._reconciler.step()
    assert len(labd.runs()) == 1


def test_a_paused_leader_does_nothing_once_another_took_over(labd: Labd, tests: Tests, operators: Operators) -> None:
    paused, next_one = operators.new(), operators.new()
    paused.election.attempt()
    assert paused.election.leading
    for follower in paused._followers:
        follower.relist()
    tests.create()
    eventually(lambda: not paused.election.leading)  # it does not renew: as if stopped

    def takes_over() -> bool:
        next_one.election.attempt()
        return next_one.election.leading

    eventually(takes_over)
    for follower in paused._followers:
        follower.relist()
    with pytest.raises(NotLeading):
        paused._reconciler.step()
    assert labd.runs() == []
    found = tests.get()
    assert found is not None
    assert not found.held


def test_a_run_made_by_an_operator_with_other_options_is_found(labd: Labd, tests: Tests, operators: Operators) -> None:
    made = tests.create()
    labd.client.create_run(
        script="print(1)",
        name=run_name(made, "0ddba11f-0000-4000-8000-000000000000"),
        idempotency_key=f"testrun-{made.uid}",
    )
    operators.start()
    found = tests.until(lambda test: test.run_id is not None)
    assert [run["id"] for run in labd.runs()] == [found.run_id]


# The cluster in trouble


def test_without_the_definition_it_says_how_to_install_it_and_waits(
    cluster: Cluster, server: Server, labd: Labd, operators: Operators, capsys: pytest.CaptureFixture[str]
) -> None:
    uninstall(cluster)
    operator = operators.start()
    said = ""

    def told() -> bool:
        nonlocal said
        said += capsys.readouterr().out
        return "labd operator --print-crd | kubectl apply -f -" in said

    eventually(told)
    assert not operator.ready
    with installed(cluster):
        tests = Tests(cluster)
        tests.create()
        tests.until(lambda test: test.run_id is not None)


def test_the_api_server_away_for_a_while(
    cluster: Cluster, server: Server, labd: Labd, tests: Tests, operators: Operators
) -> None:
    labd.free()
    operator = operators.start()
    tests.create()
    run_id = str(tests.reach("Running").run_id)
    with server.away():
        labd.end(run_id)
        eventually(lambda: not operator.election.leading)
    tests.reach("Passed")
    assert len(labd.runs()) == 1


def test_watches_that_are_closed_and_too_old_cost_nothing(
    cluster: Cluster, server: Server, labd: Labd, tests: Tests, operators: Operators
) -> None:
    operators.start()
    for number in range(4):
        server.drop_watches()
        server.compact()
        tests.create(f"smoke-{number}")
        tests.until(lambda test: test.run_id is not None, f"smoke-{number}")
    assert len(labd.runs()) == 4


def lead(operator: Operator) -> None:
    """Has it lead, whoever does: as if the Lease had been its own for long."""
    election = operator.election
    election.lease_uid = "00000000-0000-0000-0000-000000000000"
    election._until = float("inf")


class Killed(BaseException):
    """The process is no more."""


def killed_after(operator: Operator, writes: int) -> bool:
    """Runs its passes and kills it right after so many requests that change something; False: it had no more to do."""
    left = writes

    def count(function: Any) -> Any:
        def counted(*arguments: Any, **words: Any) -> Any:
            nonlocal left
            answer = function(*arguments, **words)
            if left == 0:
                raise Killed
            left -= 1
            return answer

        return counted

    reconciler = operator._reconciler
    cluster, runs = copy.copy(reconciler._cluster), copy.copy(reconciler._runs)
    for owner, names in ((cluster, ("save_status", "save_finalizers", "remove")), (runs, ("submit", "cancel"))):
        for name in names:
            setattr(owner, name, count(getattr(owner, name)))
    reconciler._cluster, reconciler._runs = cluster, runs
    for follower in operator._followers:
        follower.relist()
    try:
        for _ in range(6):
            reconciler.step()
    except Killed:
        return True
    return False


def test_a_test_from_git_is_a_run_from_git_or_says_why_not(labd: Labd, tests: Tests, operators: Operators) -> None:
    """The labd here has no cluster for pods, which is what it says."""
    operators.start(executor="kubernetes", cluster="lab")
    tests.create(git={"url": "https://git.example.com/tests.git", "path": "smoke.lua"})
    assert "cluster" in tests.reach("Error").status["reason"]
