"""``labctl test``: tests in a Kubernetes cluster, as TestRuns, which ``labd operator`` has labd run."""

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from labd.cli.cluster import Where, complete_tests, where_options
from labd.cli.exits import ExitCode, Failure
from labd.cli.files import read_script
from labd.cli.options import duration, selectors_option
from labd.cli.output import format_option, print_json_line
from labd.cli.progress import Progress
from labd.cli.run_text import print_line
from labd.cli.session import Session, pass_session
from labd.cli.test_following import exit_as, follow_log, labd_of, until
from labd.cli.test_text import print_test, print_tests, print_verdict, reason_of
from labd.client import LogLine
from labd.client.types import WantedBenches

if TYPE_CHECKING:
    from labd.operator.testrun import TestRun

_STATES = ["Pending", "Running", "Passed", "Failed", "Error"]


@click.group()
def test() -> None:
    """Run tests from a Kubernetes cluster.

    \b
      labctl test schedule --script identify.lua --app my-app --wait
      labctl test schedule --git https://git.example.com/tests.git --git-path smoke.lua --app my-app
      labctl test status
      labctl test logs my-app-x7k2p -f

    A test is a TestRun in the cluster, which `labd operator` has labd run. It is found by kubeconfig, the log is
    labd's.
    """


@test.command()
@click.option("--script", type=click.Path(path_type=Path), help="The Lua scenario: one file of at most 256 KiB.")
@click.option("--git", "url", metavar="URL", help="Git repository with the scenario, instead of --script.")
@click.option("--git-path", "path", metavar="PATH", help="Of the scenario in the repository.")
@click.option("--git-revision", "revision", metavar="REVISION", help="Branch, tag or commit.  [default: HEAD]")
@click.option("--app", required=True, metavar="NAME", help="What is tested; the test's name begins with it.")
@click.option("--name", metavar="NAME", help="Of the test; default: the app's, and five characters more.")
@selectors_option
@click.option(
    "--timeout", "timeout_s", type=duration, metavar="TIME", help="How long it may run, from its start.  [default: 5m]"
)
@click.option("--priority", metavar="CLASS", help="Class of priority of the lab.  [default: normal]")
@click.option("--env", "environment", metavar="NAME", help="Environment whose variables and secrets it gets.")
@click.option("--wait", is_flag=True, help="Wait for its end; the exit code is the verdict. Ctrl-C leaves it running.")
@click.option("-f", "--follow", is_flag=True, help="Print its log as it comes, too; the log is labd's. Implies --wait.")
@format_option
@where_options
@pass_session
@click.pass_context
def schedule(
    ctx: click.Context,
    session: Session,
    where: Where,
    script: Path | None,
    url: str | None,
    path: str | None,
    revision: str | None,
    app: str,
    name: str | None,
    wanted: tuple[WantedBenches, ...],
    same_site: bool,
    timeout_s: float | None,
    priority: str | None,
    environment: str | None,
    wait: bool,
    follow: bool,
    as_json: bool,
) -> None:
    """Have a scenario run, from a file or from a Git repository."""
    from labd.operator.cluster import Changed
    from labd.operator.testrun import APP_LABEL

    if same_site:
        raise click.UsageError("a TestRun cannot ask for benches at the same site; labctl run --same-site can")
    spec: dict[str, Any] = {"appName": app} | _source(script, url, path, revision)
    if wanted:
        spec["benches"] = [dict(one) for one in wanted]
    if timeout_s is not None:
        spec["timeout"] = f"{max(1, round(timeout_s))}s"
    spec |= {key: value for key, value in (("priority", priority), ("environment", environment)) if value}
    metadata = {"labels": {APP_LABEL: app}} | ({"name": name} if name else {"generateName": f"{app[:57]}-"})
    try:
        made = where.tests.create(where.namespace, metadata, spec)
    except Changed as error:
        text = f"there is a TestRun {name!r} in the namespace {where.namespace!r} already; --name can be left out"
        raise Failure(text, ExitCode.REFUSED) from error
    if not (wait or follow):
        if as_json:
            print_test(made, as_json)
        else:
            click.echo(made.name)
            click.echo(f"follow it with: labctl test logs {where.options}-f {made.name}", err=True)
        return
    with Progress(stdout_is_data=as_json) as progress:
        if follow:
            made = until(where, made, progress, _has_log)
            if made.run_id is not None:
                follow_log(labd_of(ctx, session, made), made.run_id, functools.partial(print_line, progress))
        ended = until(where, made, progress, _is_over)
    print_verdict(ended, as_json)
    exit_as(ended)


@test.command()
@click.argument("name", required=False, shell_complete=complete_tests)
@click.option("-A", "--all-namespaces", "everywhere", is_flag=True, help="List those of all namespaces.")
@click.option("--app", metavar="NAME", help="List only those of this app.")
@click.option("--state", type=click.Choice(_STATES, case_sensitive=False), help="List only those in this state.")
@format_option
@where_options
def status(where: Where, name: str | None, everywhere: bool, app: str | None, state: str | None, as_json: bool) -> None:
    """Show how a test does, or list those of the namespace, the newest first."""
    if name is None:
        tests, _ = where.tests.all(None if everywhere else where.namespace)
        chosen = [
            one
            for one in sorted(tests, key=lambda one: -one.created_at)
            if app in (None, one.spec.get("appName")) and state in (None, one.state)
        ]
        print_tests(chosen, as_json, namespaces=everywhere)
        return
    if everywhere or app or state:
        raise click.UsageError("--all-namespaces, --app and --state are for a list: leave NAME out")
    found = where.get(name)
    print_test(found, as_json)


@test.command()
@click.argument("name", shell_complete=complete_tests)
@click.option(
    "-f",
    "--follow",
    is_flag=True,
    help="Wait for its start, and go on until it has ended; the exit code is the verdict.",
)
@format_option
@where_options
@pass_session
@click.pass_context
def logs(ctx: click.Context, session: Session, where: Where, name: str, follow: bool, as_json: bool) -> None:
    """Print a test's log; as JSON, one object a line. Ctrl-C stops following, never the test.

    The log comes from labd: that of --labd or LABD_URL, or else the one that the test's status names.
    """
    found = where.get(name)
    with Progress() as progress:

        def show(line: LogLine) -> None:
            if as_json:
                print_json_line(line)
            else:
                print_line(progress, line)

        if follow:
            found = until(where, found, progress, _has_log)
        if found.run_id is None:
            text = f"test {name!r} has no log: it is {found.state}" + (f": {why}" if (why := reason_of(found)) else "")
            raise Failure(text, ExitCode.REFUSED)
        lab = labd_of(ctx, session, found)
        if follow:
            raise click.exceptions.Exit(follow_log(lab, found.run_id, show))
        for line in lab.log(found.run_id):
            show(line)


def _has_log(found: "TestRun") -> bool:
    return found.run_id is not None


def _is_over(found: "TestRun") -> bool:
    return found.finished_at is not None


def _source(script: Path | None, url: str | None, path: str | None, revision: str | None) -> dict[str, Any]:
    """The scenario, as a TestRun has it. Raises UsageError unless there is one of the two ways to name it."""
    from labd.operator.testrun import SCRIPT_BYTES_MAX

    if (script is None) == (url is None):
        raise click.UsageError("name the scenario by either --script or --git")
    if script is not None:
        if path or revision:
            raise click.UsageError("--git-path and --git-revision go with --git")
        text = read_script(script)
        size = len(text.encode())
        if size > SCRIPT_BYTES_MAX:
            raise Failure(
                f"{script} has {size} bytes; a TestRun takes at most {SCRIPT_BYTES_MAX}: put it into Git, or use "
                "labctl run",
                ExitCode.USAGE,
            )
        return {"script": text}
    if not path:
        raise click.UsageError("--git needs --git-path: the scenario in the repository")
    return {"git": {"url": url, "path": path} | ({"revision": revision} if revision else {})}
