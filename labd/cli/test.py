"""``labctl test``: tests in a Kubernetes cluster, as TestRuns, which ``labd operator`` has labd run."""

import functools
import os
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from labd.cli.exits import ExitCode, Failure
from labd.cli.files import read_script
from labd.cli.options import duration, selectors_option
from labd.cli.output import ago, format_option, one_line, print_json, print_json_line, print_record, print_table
from labd.cli.progress import Progress
from labd.cli.run_text import print_line
from labd.cli.session import Session, pass_session
from labd.client.types import WantedBenches

if TYPE_CHECKING:
    from labd.client import LabClient
    from labd.operator.cluster import Place, TestRuns
    from labd.operator.testrun import TestRun

_LOOK_S = 1.0
"""Between two looks at a TestRun that is waited for."""
_PATIENCE_S = 60.0
"""How long the API server may be away while a TestRun is waited for."""
_CODES = {"Passed": ExitCode.OK, "Failed": ExitCode.FAILED, "Error": ExitCode.ERROR}


class Where:
    """The cluster and the namespace that a command works in."""

    def __init__(self, kubeconfig: str | None, context: str | None, namespace: str | None) -> None:
        self._kubeconfig, self._context, self._namespace = kubeconfig, context, namespace

    @functools.cached_property
    def _place(self) -> "Place":
        from labd.operator.cluster import connect

        return connect(self._kubeconfig, self._context)

    @functools.cached_property
    def tests(self) -> "TestRuns":
        """The TestRuns. Raises ClusterError."""
        from labd.operator.cluster import TestRuns

        return TestRuns(self._place)

    @property
    def namespace(self) -> str:
        """The one that is named, or else the kubeconfig's."""
        return self._namespace or self._place.namespace

    def get(self, name: str) -> "TestRun":
        """One TestRun. Raises Failure when there is none of that name."""
        from labd.operator.cluster import Missing

        try:
            return self.tests.get(self.namespace, name)
        except Missing as error:
            self.tests.all(self.namespace)  # raises NoCrd, if it is that
            text = f"there is no TestRun {name!r} in the namespace {self.namespace!r}"
            raise Failure(text, ExitCode.REFUSED) from error


def _where_options(command: Callable[..., None]) -> Callable[..., None]:
    """Adds ``--kubeconfig``, ``--context``, ``--namespace``; the command gets them as ``where``. Errors of the cluster
    end it with a line.
    """

    @functools.wraps(command)
    def collect(*, kubeconfig: str | None, context: str | None, namespace: str | None, **others: Any) -> None:
        from labd.operator.cluster import ClusterAway, ClusterError

        try:
            command(where=Where(kubeconfig, context, namespace), **others)
        except ClusterAway as error:
            raise Failure(one_line(str(error)), ExitCode.UNAVAILABLE) from error
        except ClusterError as error:
            raise Failure(one_line(str(error)), ExitCode.REFUSED) from error

    for option in (
        click.option("-n", "--namespace", metavar="NAME", help="Of the cluster; default: that of the kubeconfig."),
        click.option("--context", metavar="NAME", help="Of the kubeconfig; default: its current one."),
        click.option(
            "--kubeconfig",
            type=click.Path(exists=True, dir_okay=False),
            help="Default: KUBECONFIG, ~/.kube/config, or the cluster around this pod.",
        ),
    ):
        collect = option(collect)
    return collect


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
@format_option
@_where_options
def schedule(
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
    as_json: bool,
) -> None:
    """Have a scenario run, from a file or from a Git repository."""
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
    made = where.tests.create(where.namespace, metadata, spec)
    if wait:
        _follow(where, made, as_json)
    elif as_json:
        print_json(made.document)
    else:
        click.echo(made.name)
        click.echo(f"follow it with: labctl test logs -f {made.name}", err=True)


@test.command()
@click.argument("name", required=False)
@format_option
@_where_options
def status(where: Where, name: str | None, as_json: bool) -> None:
    """Show how a test does, or list all of the namespace."""
    if name is None:
        _list(where, as_json)
        return
    found = where.get(name)
    if as_json:
        print_json(found.document)
        return
    told, git = found.status, found.spec.get("git")
    print_record(
        {
            "test": found.name,
            "app": found.spec.get("appName", ""),
            "state": told.get("state", "Pending"),
            "reason": told.get("reason", ""),
            "result": told.get("result", ""),
            "bench": told.get("bench", ""),
            "source": f"{git['url']} {git['path']} at {git.get('revision', 'HEAD')}" if git else "script",
            "commit": told.get("commit", ""),
            "created": f"{found.metadata['creationTimestamp']} ({ago(found.metadata['creationTimestamp'])})",
            "took": told.get("duration", ""),
            "run": told.get("runID", ""),
            "log": told.get("log", ""),
        }
    )


def _list(where: Where, as_json: bool) -> None:
    tests, _ = where.tests.all(where.namespace)
    if as_json:
        print_json([one.document for one in tests])
        return
    rows = [
        (
            one.name,
            one.status.get("state", "Pending"),
            one.status.get("result", ""),
            one.status.get("duration", ""),
            one.status.get("bench", ""),
            ago(one.metadata["creationTimestamp"]),
            one_line(one.status.get("reason", "")),
        )
        for one in sorted(tests, key=lambda one: -one.created_at)
    ]
    print_table(["test", "state", "result", "duration", "bench", "created", "reason"], rows, empty="no tests")


@test.command()
@click.argument("name")
@click.option("-f", "--follow", is_flag=True, help="Wait for its start, and go on until it has ended.")
@format_option
@_where_options
@pass_session
@click.pass_context
def logs(ctx: click.Context, session: Session, where: Where, name: str, follow: bool, as_json: bool) -> None:
    """Print a test's log; as JSON, one object a line. Ctrl-C stops following, never the test.

    The log comes from labd: that of --labd or LABD_URL, or else the one that the test's status names.
    """
    found = where.get(name)
    with Progress() as progress:
        while follow and found.run_id is None and found.finished_at is None:
            progress.state(f"test {name} waits: {one_line(found.status.get('reason', 'no operator has seen it yet'))}")
            sleep(_LOOK_S)
            found = _look(where, found)
        if found.run_id is None:
            told = f"{found.status.get('state', 'Pending')} {found.status.get('reason', '')}"
            raise Failure(f"test {name!r} has no log: it is {one_line(told)}", ExitCode.REFUSED)
        lab = _labd(ctx, session, found)
        for line in (lab.follow_log if follow else lab.log)(found.run_id):
            if as_json:
                print_json_line(line)
            else:
                print_line(progress, line)


def _labd(ctx: click.Context, session: Session, found: "TestRun") -> "LabClient":
    """The labd to ask for a log. The status of a TestRun is others' word: no token of LABD_TOKEN goes where it says."""
    from labd.client import LabClient

    address = str(found.status.get("log", ""))
    base, _, rest = address.partition("/api/v1/runs/")
    root = ctx.find_root()
    if root.get_parameter_source("url") is not ParameterSource.DEFAULT or not rest:
        return session.lab
    if os.environ.get("LABD_TOKEN"):
        text = f"LABD_TOKEN is set, but not for which labd; if the one of the log is right: LABD_URL={base}"
        raise Failure(text, ExitCode.USAGE)
    session.url = base
    lab: LabClient = session.lab
    return lab


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


def _follow(where: Where, test: "TestRun", as_json: bool) -> None:
    """Shows how the test goes until it has ended, and exits with its verdict."""
    said = ""
    with Progress(stdout_is_data=as_json) as progress:
        while test.finished_at is None:
            told = test.status
            now = (
                f"test {test.name} {told.get('state', 'Pending')} {one_line(told.get('bench', told.get('reason', '')))}"
            )
            if now != said:
                progress.state(now.rstrip())
            said = now
            sleep(_LOOK_S)
            test = _look(where, test)
    if as_json:
        print_json(test.document)
    else:
        told = test.status
        parts = [told["state"], test.name, told.get("result", ""), one_line(told.get("reason", ""))]
        click.echo("  ".join(part for part in parts if part))
    condition = test.condition("Finished") or {}
    cancelled = condition.get("reason") == "Cancelled"
    raise click.exceptions.Exit(ExitCode.CANCELLED if cancelled else _CODES.get(test.status["state"], ExitCode.ERROR))


def _look(where: Where, test: "TestRun") -> "TestRun":
    """The test as it is now. Raises Failure when it was deleted, ClusterAway when nobody answers for long."""
    from labd.operator.cluster import ClusterAway, Missing

    give_up_at = monotonic() + _PATIENCE_S
    while True:
        try:
            found = where.tests.get(test.namespace, test.name)
        except Missing:
            found = None
        except ClusterAway:
            if monotonic() > give_up_at:
                raise
            sleep(_LOOK_S)
            continue
        if found is None or found.uid != test.uid:
            raise Failure(f"test {test.name!r} was deleted meanwhile", ExitCode.CANCELLED)
        return found
