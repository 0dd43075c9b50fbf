"""A run that was submitted, followed to its end: log, verdict, files; Ctrl-C cancels it."""

import functools
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click

from labd.cli.exits import OF_RUN, ExitCode, Failure, Interrupted
from labd.cli.leasing import in_words, place, waiting
from labd.cli.output import print_json
from labd.cli.patience import news, patiently
from labd.cli.progress import Progress
from labd.cli.run_text import print_line, print_verdict
from labd.client import LabClient, LabError, ProblemError, Result, Run

_CANCEL_S = 15.0
"""How long Ctrl-C waits for a cancelled run to end, so that the bench is known to be free."""


@dataclass(frozen=True)
class Waiting:
    """Whether, and how, a command waits for the end of the run that it has submitted."""

    wait: bool
    detach: bool
    junit: Path | None
    result: Path | None

    def __post_init__(self) -> None:
        for file in (self.junit, self.result):
            if file is not None and not file.absolute().parent.is_dir():
                raise click.BadParameter(
                    f"the folder of {str(file)!r} does not exist; it is needed when the run has ended"
                )


def waiting_options(command: Callable[..., object]) -> Callable[..., object]:
    """Adds ``--wait``, ``--junit``, ``--result``, ``--detach``; the command gets them as ``how``."""

    @functools.wraps(command)
    def collect(*, wait: bool, detach: bool, junit: Path | None, result: Path | None, **others: object) -> object:
        return command(how=Waiting(wait, detach, junit, result), **others)

    for option in (
        click.option("--detach", is_flag=True, help="Ctrl-C stops waiting only; the run goes on."),
        click.option(
            "--result",
            type=click.Path(path_type=Path),
            metavar="FILE",
            help="Save run and result as JSON; implies --wait.",
        ),
        click.option(
            "--junit", type=click.Path(path_type=Path), metavar="FILE", help="Save JUnit XML; implies --wait."
        ),
        click.option("--wait", is_flag=True, help="Follow the log to the end; the exit code is the verdict."),
    ):
        collect = option(collect)
    return collect


def follow_up(lab: LabClient, submitted: Run, how: Waiting, as_json: bool) -> None:
    """Says what was submitted, or waits for its end and exits with the verdict's code."""
    if not (how.wait or how.junit or how.result):
        if as_json:
            print_json(submitted)
        else:
            waits = f", {place(submitted['position'])}" if submitted["position"] is not None else ""
            click.echo(f"{submitted['id']} {submitted['state']}{waits}")
            click.echo(f"follow it with: labctl run logs -f {submitted['id']}", err=True)
        return
    final = _wait(lab, submitted, detach=how.detach, as_json=as_json)
    document = result_of(lab, final)
    if as_json:
        print_json({"run": final, "result": document})
    else:
        print_verdict(final, document)
    saved = _save(lab, final, document, how.junit, how.result)
    code = OF_RUN[final["state"]]
    raise click.exceptions.Exit(ExitCode.OUTPUT if code == ExitCode.OK and not saved else code)


def _wait(lab: LabClient, submitted: Run, *, detach: bool, as_json: bool) -> Run:
    """Shows the run's progress and log until it has ended. Interrupted: cancels it, unless ``detach``."""
    run_id = submitted["id"]
    with Progress(stdout_is_data=as_json) as progress:
        try:
            return _follow(lab, submitted, progress)
        except KeyboardInterrupt as interrupt:
            progress.done()
            if detach:
                click.echo(f"\nrun {run_id} goes on; follow it with: labctl run logs -f {run_id}", err=True)
            else:
                click.echo(f"\ncancelling run {run_id}", err=True)
                _cancel(lab, run_id)
            raise interrupt if isinstance(interrupt, Interrupted) else KeyboardInterrupt from None


def _follow(lab: LabClient, current: Run, progress: Progress) -> Run:
    run_id = current["id"]
    while current["state"] == "PENDING":
        progress.state(f"run {run_id} waits for {in_words(current['selector'])}: {waiting(current)}")
        current = news(lab.run, run_id, current)
    if current["benches"]:
        progress.state(f"run {run_id} on {current['bench']}")
    log = lab.follow_log(run_id)
    while True:
        try:
            print_line(progress, next(log))
        except StopIteration as end:
            final: Run = end.value
            return final


def _cancel(lab: LabClient, run_id: str) -> None:
    deadline = time.monotonic() + _CANCEL_S
    try:
        run = lab.cancel_run(run_id)
        while run["state"] not in OF_RUN and (left_s := deadline - time.monotonic()) > 0:
            run = news(lab.run, run_id, run, left_s)
        late = "" if run["state"] in OF_RUN else f" still after {_CANCEL_S:g} s; labd goes on stopping it"
        click.echo(f"run {run_id} {run['state']}{late}", err=True)
    except LabError as error:
        raise Failure(f"run {run_id} is not cancelled, it may go on: {error}", ExitCode.UNAVAILABLE) from error


def result_of(lab: LabClient, final: Run) -> Result | None:
    """The result document, or None for a run that has not ended or ended without one."""
    if final["state"] not in OF_RUN:
        return None
    try:
        return patiently(lambda: lab.result(final["id"]))
    except ProblemError as problem:
        if problem.status in (404, 409):
            return None
        raise


def _save(lab: LabClient, final: Run, document: Result | None, junit: Path | None, result: Path | None) -> bool:
    """Writes the files asked for. False, with a line on stderr, when that failed."""
    try:
        if result is not None:
            result.write_text(json.dumps({"run": final, "result": document}, indent=2, ensure_ascii=False) + "\n")
        if junit is not None:
            junit.write_text(patiently(lambda: lab.junit(final["id"])))
    except OSError as error:
        click.echo(f"Error: {error.filename} cannot be written: {error.strerror}", err=True)
    except ProblemError as problem:
        click.echo(f"Error: {junit} is not written: {problem}", err=True)
    else:
        return True
    return False
