"""Which Events tell the story of a TestRun."""

from typing import Any

from labd.operator.news import News, news
from labd.operator.status import Trouble, ended_without, mirrored, waiting
from labd.operator.testrun import seconds
from tests.unit.operator.examples import CREATED, a_run, a_testrun

NOW = seconds(CREATED)
FIRST: dict[str, Any] = {"number": 1, "cause": "Evicted", "reason": ""}


def story(*statuses: Any) -> list[News]:
    """What is told while the status becomes one after the other."""
    told: list[News] = []
    before: dict[str, Any] = {}
    for status in statuses:
        told += news(a_testrun(before), status)
        before = status
    return told


def of_run(state: str, **more: Any) -> Any:
    return mirrored(a_testrun(), a_run(state, **more), "", NOW)


def test_of_one_that_passes() -> None:
    waits = of_run("PENDING", obstacle="all benches are offline")
    told = story(waits, of_run("RUNNING"), of_run("RUNNING"), of_run("PASSED"), of_run("PASSED"))
    assert [(one.reason, one.message, one.warning) for one in told] == [
        ("Scheduled", "labd has it as run r-1: all benches are offline", False),
        ("Started", "it runs on hil-3", False),
        ("Passed", "2 passed, after 1m12s", False),
    ]


def test_of_one_that_is_over_before_anybody_looks() -> None:
    told = story(of_run("FAILED", reason="VIN is wrong"))
    assert [one.reason for one in told] == ["Scheduled", "Started", "Failed"]
    assert "VIN is wrong" in told[-1].message
    assert told[-1].warning
    names = [one.name(a_testrun()) for one in told]
    assert names == sorted(names)


def test_of_one_whose_first_attempt_is_lost() -> None:
    again = of_run("PENDING", attempts=[FIRST, FIRST])
    told = story(of_run("RUNNING", attempts=[FIRST]), again, of_run("RUNNING", attempts=[FIRST, FIRST]))
    assert [one.reason for one in told] == ["Scheduled", "Started", "Retried", "Started"]
    assert told[2].message == "attempt 1 was lost: Evicted"
    assert len({one.name(a_testrun()) for one in told}) == 4


def test_of_one_that_ends_without_a_run_or_is_cancelled() -> None:
    (refused,) = story(ended_without(a_testrun(), "Refused", "there is no class 'best'", NOW))
    assert (refused.reason, refused.warning, "best" in refused.message) == ("Refused", True, True)
    assert [one.reason for one in story(of_run("CANCELLED", reason="not now", started_at=None))][-1] == "Cancelled"


def test_labd_away_is_told_each_time_anew_but_once() -> None:
    away = Trouble("LabdUnreachable", "labd at http://labd cannot be reached: refused")
    first = waiting(a_testrun(), away, NOW)
    told = story(
        first, waiting(a_testrun(first), away, NOW + 9), of_run("RUNNING"), waiting(a_testrun(), away, NOW + 60)
    )
    reasons = [one.reason for one in told]
    assert reasons == ["LabdUnreachable", "Scheduled", "Started", "LabdUnreachable"]
    assert told[0].name(a_testrun()) != told[-1].name(a_testrun())
