"""What the operator does next about a TestRun."""

import pytest

from labd.operator.status import ended_without
from labd.operator.steps import Step, next_step
from labd.operator.testrun import TestRun, seconds
from tests.unit.operator.examples import CREATED, a_testrun

NOW, TTL_S = seconds(CREATED), 3600.0
ENDED = ended_without(a_testrun(), "Refused", "no bench matches", NOW)


@pytest.mark.parametrize(
    ("test", "step"),
    [
        (a_testrun(held=False), Step.HOLD),
        (a_testrun(), Step.SUBMIT),
        (a_testrun({"runID": "r-1", "state": "Running"}), Step.MIRROR),
        (a_testrun({"runID": "r-1"}, deleted=CREATED), Step.CANCEL),
        (a_testrun(deleted=CREATED), Step.CANCEL),
        (a_testrun(held=False, deleted=CREATED), Step.NOTHING),
        (a_testrun(ENDED), Step.LET_GO),
        (a_testrun(ENDED, deleted=CREATED), Step.LET_GO),
        (a_testrun(ENDED, held=False), Step.NOTHING),
        (a_testrun(ENDED, held=False, deleted=CREATED), Step.NOTHING),
    ],
)
def test_the_step(test: TestRun, step: Step) -> None:
    assert next_step(test, NOW, TTL_S) is step


def test_a_finished_one_goes_when_its_time_is_over() -> None:
    finished = a_testrun(ENDED, held=False)
    assert next_step(finished, NOW + TTL_S - 1, TTL_S) is Step.NOTHING
    assert next_step(finished, NOW + TTL_S, TTL_S) is Step.REMOVE


def test_an_unfinished_one_never_goes_by_itself() -> None:
    assert next_step(a_testrun({"runID": "r-1"}), NOW + 1e9, TTL_S) is Step.MIRROR
