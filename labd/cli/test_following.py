"""A TestRun that was made, followed to its end: its state, its log from labd, its verdict."""

import os
from collections.abc import Callable
from time import sleep
from typing import TYPE_CHECKING, NoReturn

import click
from click.core import ParameterSource

from labd.cli.cluster import LOOK_S, Where
from labd.cli.exits import OF_RUN, ExitCode, Failure
from labd.cli.output import one_line
from labd.cli.progress import Progress
from labd.cli.session import Session
from labd.cli.test_text import reason_of
from labd.client import LogLine

if TYPE_CHECKING:
    from labd.client import LabClient
    from labd.operator.testrun import TestRun

_CODES = {"Passed": ExitCode.OK, "Failed": ExitCode.FAILED, "Error": ExitCode.ERROR}


def until(where: Where, test: "TestRun", progress: Progress, holds: Callable[["TestRun"], bool]) -> "TestRun":
    """The test once this holds of it, or it is over; shows meanwhile how it does."""
    while not (holds(test) or test.finished_at is not None):
        word = one_line(test.status.get("bench", "")) or reason_of(test)
        progress.state(f"test {test.name} {test.state} {word}".rstrip())
        sleep(LOOK_S)
        test = where.look(test)
    return test


def follow_log(lab: "LabClient", run_id: str, show: Callable[[LogLine], None]) -> ExitCode:
    """Shows the log of a run as it grows, until the run has ended; its verdict as an exit code."""
    log = lab.follow_log(run_id)
    while True:
        try:
            show(next(log))
        except StopIteration as end:
            return OF_RUN[end.value["state"]]


def labd_of(ctx: click.Context, session: Session, test: "TestRun") -> "LabClient":
    """The labd to ask for a log. The status of a TestRun is others' word: no token of LABD_TOKEN goes where it says."""
    address = str(test.status.get("log", ""))
    base, _, rest = address.partition("/api/v1/runs/")
    if ctx.find_root().get_parameter_source("url") is ParameterSource.DEFAULT and rest:
        if os.environ.get("LABD_TOKEN"):
            text = f"LABD_TOKEN is set, but not for which labd; if the one of the log is right: LABD_URL={base}"
            raise Failure(text, ExitCode.USAGE)
        session.url = base
    return session.lab


def exit_as(test: "TestRun") -> NoReturn:
    """Ends labctl with the verdict of a test that is over."""
    word = (test.condition("Finished") or {}).get("reason")
    raise click.exceptions.Exit(ExitCode.CANCELLED if word == "Cancelled" else _CODES[test.status["state"]])
