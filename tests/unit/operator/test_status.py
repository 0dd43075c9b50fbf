"""What a TestRun says of its run."""

from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labd.operator.status import Trouble, ended_without, mirrored, patch, waiting
from labd.operator.testrun import (
    TestRun,
    digits,
    duration_text,
    origin,
    run_name,
    seconds,
    timeout_s,
)
from tests.unit.operator.examples import CREATED, UID, a_run, a_testrun
from tests.unit.operator.test_crd import SCHEMA

_STATUS = SCHEMA["properties"]["status"]
_VALIDATOR = jsonschema.Draft202012Validator(_STATUS)
NOW = seconds(CREATED)
LOG = "https://labd.example.com/api/v1/runs/r-1/log"
AWAY = Trouble("LabdUnreachable", "labd at http://labd cannot be reached: refused")


def mirror(test: TestRun, state: str, **more: Any) -> dict[str, Any]:
    return mirrored(test, a_run(state, **more), LOG, NOW)


def conditions(status: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {one["type"]: (one["status"], one["reason"]) for one in status["conditions"]}


def test_of_a_run_that_passed() -> None:
    status = mirror(a_testrun(), "PASSED")
    shown = {name: value for name, value in status.items() if name != "conditions"}
    assert shown == {
        "state": "Passed",
        "result": "2 passed",
        "runID": "r-1",
        "bench": "hil-3",
        "startTime": "2026-11-22T05:00:10.5Z",
        "completionTime": "2026-11-22T05:01:22.6Z",
        "duration": "1m12s",
        "log": LOG,
        "observedGeneration": 1,
    }
    assert conditions(status) == {"Synced": ("True", "Synced"), "Finished": ("True", "Passed")}


@pytest.mark.parametrize(
    ("state", "reason", "shown", "said"),
    [
        ("FAILED", "VIN is wrong", "Failed", "VIN is wrong"),
        ("ERROR", "the pod is gone", "Error", "the pod is gone"),
        ("CANCELLED", "cancelled by ada: not now", "Error", "Cancelled: cancelled by ada: not now"),
        ("RUNNING", "", "Running", None),
    ],
)
def test_each_state(state: str, reason: str, shown: str, said: str | None) -> None:
    status = mirror(a_testrun(), state, reason=reason)
    assert (status["state"], status.get("reason")) == (shown, said)
    assert conditions(status)["Finished"][0] == ("False" if state == "RUNNING" else "True")


def test_a_waiting_one_says_what_it_waits_for() -> None:
    status = mirror(a_testrun(), "PENDING", obstacle="the benches that match are offline")
    assert (status["state"], status["reason"]) == ("Pending", "the benches that match are offline")


def test_one_that_is_tried_again_says_why() -> None:
    attempts = [{"number": 1, "cause": "PodLost", "reason": "its node is gone"}, {"number": 2, "cause": None}]
    waits = mirror(a_testrun(), "PENDING", attempts=attempts, obstacle="all benches are offline")
    assert (waits["reason"], waits["attempt"]) == ("attempt 1 was lost: PodLost; all benches are offline", 2)


def test_the_cause_of_an_end_comes_first() -> None:
    assert (
        mirror(a_testrun(), "ERROR", cause="PodLost", reason="its node is gone")["reason"]
        == "PodLost: its node is gone"
    )


def test_labd_away_is_said_and_the_rest_stays() -> None:
    fresh = waiting(a_testrun(), AWAY, NOW)
    assert (fresh["state"], fresh["reason"]) == ("Pending", AWAY.message)
    assert conditions(fresh) == {"Synced": ("False", "LabdUnreachable")}

    running = mirror(a_testrun(), "RUNNING")
    status = waiting(a_testrun(running), AWAY, NOW)
    assert (status["state"], status["bench"], status["runID"]) == ("Running", "hil-3", "r-1")
    assert conditions(status)["Synced"] == ("False", "LabdUnreachable")

    back = mirror(a_testrun(status), "RUNNING")
    assert conditions(back)["Synced"] == ("True", "Synced")


def test_nothing_is_written_when_nothing_changed() -> None:
    status = mirror(a_testrun(), "RUNNING")
    later = mirrored(a_testrun(status), a_run("RUNNING"), LOG, NOW + 60)
    assert patch(a_testrun(status), later) is None
    assert patch(a_testrun(waiting(a_testrun(), AWAY, NOW)), waiting(a_testrun(), AWAY, NOW)) is None


def test_a_reason_that_holds_no_more_goes() -> None:
    test = a_testrun(waiting(a_testrun(), AWAY, NOW))
    change = patch(test, mirror(test, "RUNNING"))
    assert change is not None
    assert change["reason"] is None
    assert change["state"] == "Running"


def test_a_condition_keeps_the_time_of_its_change() -> None:
    test = a_testrun(waiting(a_testrun(), AWAY, NOW))
    status = waiting(test, Trouble("Unauthorized", "the token is not valid"), NOW + 60)
    (condition,) = status["conditions"]
    assert (condition["lastTransitionTime"], condition["reason"]) == (CREATED, "Unauthorized")


@given(
    st.sampled_from(["PENDING", "RUNNING", "PASSED", "FAILED", "ERROR", "CANCELLED"]),
    st.text(max_size=3000),
    st.lists(st.text("ab-", min_size=1, max_size=63), max_size=300),
)
def test_every_status_is_one_that_the_cluster_takes(state: str, reason: str, benches: list[str]) -> None:
    run = a_run(state, reason=reason, benches=benches, obstacle=reason or None)
    for status in (
        mirrored(a_testrun(), run, LOG, NOW),
        waiting(a_testrun(), Trouble("LabdUnreachable", reason), NOW),
        ended_without(a_testrun(), "Refused", reason, NOW),
    ):
        assert next(_VALIDATOR.iter_errors(status), None) is None
        assert set(status) <= set(_STATUS["properties"])


def test_a_run_is_found_by_its_name() -> None:
    test = a_testrun()
    found = origin(run_name(test, "3fa2c1aa-0000-0000-0000-000000000000"))
    assert found is not None
    assert (found.namespace, found.name, found.owner, found.uid) == ("ci", "smoke", "3fa2c1aa", digits(UID))
    assert found.is_of(test)
    assert origin("identify.lua") is None


def test_two_testruns_of_one_name_have_runs_of_different_names() -> None:
    again = a_testrun()
    document = {**again.document, "metadata": {**again.metadata, "uid": "00000000-aaaa-4bad-9bdd-2b0d7b3dcb6d"}}
    name = run_name(TestRun(document), UID)
    assert name != run_name(again, UID)
    found = origin(name)
    assert found is not None
    assert not found.is_of(again)


@pytest.mark.parametrize(
    ("text", "expected_s"), [("90s", 90), ("5m", 300), ("1h30m", 5400), ("1h1m1s", 3661), ("168h", 604800)]
)
def test_timeouts(text: str, expected_s: float) -> None:
    assert timeout_s({"timeout": text}) == expected_s


@pytest.mark.parametrize("text", ["", "5", "0s", "5 m", "-5m", "m"])
def test_what_is_no_timeout(text: str) -> None:
    with pytest.raises(ValueError, match="timeout is"):
        timeout_s({"timeout": text})


@pytest.mark.parametrize(
    ("duration_s", "text"), [(0, "0s"), (59.6, "1m0s"), (72.1, "1m12s"), (3723, "1h2m"), (-1, "0s")]
)
def test_durations(duration_s: float, text: str) -> None:
    assert duration_text(duration_s) == text
