"""What the operator makes of labd's answers."""

from typing import cast

import pytest

from labd.client import LabClient, ProblemError
from labd.operator.runs import LabdAway, Refused, RunOptions, Runs
from labd.operator.testrun import TestRun
from tests.unit.operator.examples import a_testrun


class Answering:
    """A labd that gives one answer to everything."""

    url = "https://labd.example.com"

    def __init__(self, status: int) -> None:
        self._status = status

    def run(self, run_id: str) -> None:
        raise ProblemError(self._status, f"status {self._status} for {run_id}")


def asked(status: int) -> Runs:
    return Runs(cast(LabClient, Answering(status)), RunOptions())


def test_a_run_is_lost_only_where_labd_says_so() -> None:
    assert asked(404).get("r-1") is None


@pytest.mark.parametrize(
    ("status", "word"), [(401, "Unauthorized"), (403, "Forbidden"), (429, "LabdBusy"), (500, "LabdBusy")]
)
def test_other_refusals_say_nothing_of_the_run(status: int, word: str) -> None:
    with pytest.raises(LabdAway) as caught:
        asked(status).get("r-1")
    assert caught.value.trouble.word == word


@pytest.mark.parametrize(
    "spec", [{}, {"script": "print(1)", "git": {"url": "https://g.example.com/t", "path": "a.lua"}}]
)
def test_what_an_old_cluster_lets_through_is_refused(spec: dict[str, object]) -> None:
    test = a_testrun()
    with pytest.raises(Refused, match="exactly one of script and git"):
        asked(404).submit(TestRun({**test.document, "spec": {"appName": "ecm", **spec}}), test.uid, test.created_at)
