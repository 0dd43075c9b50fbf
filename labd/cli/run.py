"""``labctl run``: scenarios, submitted and looked after."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from labd.cli.completion import complete_runs
from labd.cli.exits import OF_RUN
from labd.cli.files import data_files, files_beside, read_script
from labd.cli.filters import owner_options, selector_filter, span_options
from labd.cli.leasing import place, waiting
from labd.cli.options import (
    affinity_option,
    duration,
    holder_option,
    priority_option,
    selector_and_benches,
    selectors_option,
    team_option,
)
from labd.cli.output import (
    ago,
    elapsed,
    format_option,
    print_json,
    print_json_line,
    print_record,
    print_table,
)
from labd.cli.progress import Progress
from labd.cli.run_following import Waiting, follow_up, result_of, waiting_options
from labd.cli.run_text import counts, print_attempts, print_cases, print_failures, print_line
from labd.cli.session import Session, pass_session
from labd.client import ExecutorName, LogLine, Run
from labd.client.types import GitSource, WantedBenches

_STATES = ["PENDING", "RUNNING", *OF_RUN]


class ScriptOrCommand(click.Group):
    """A group that is a command too: its first argument is one of its commands, or else a script to run.

    A script that has the name of a command is given as ``./ls``.
    """

    script: click.Command

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """The context of the group, or of the script command under the group's name."""
        if not args or args[0] in self.commands or args[0] in ("-h", "--help"):
            return super().make_context(info_name, args, parent, **extra)
        return self.script.make_context(info_name, args, parent, **extra)

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Both ways to call it."""
        formatter.write_usage(ctx.command_path, "SCRIPT [OPTIONS]")
        formatter.write_usage(ctx.command_path, f"{'|'.join(self.list_commands(ctx))} ...")

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The script command's options, then the commands."""
        self.script.format_options(ctx, formatter)
        self.format_commands(ctx, formatter)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Commands, files and the script command's options."""
        if incomplete.startswith("-"):
            return self.script.shell_complete(ctx, incomplete)
        return [*super().shell_complete(ctx, incomplete), CompletionItem(incomplete, type="file")]


@click.group(cls=ScriptOrCommand)
def run() -> None:
    """Run a Lua scenario on a bench, or look after runs.

    \b
      labctl run identify.lua --selector platform=meb --wait
      labctl run timing.lua --on bench --wait
      labctl run nightly.lua --on kubernetes --wait
      labctl run --git https://git.example.com/tests.git --git-path smoke.lua --on kubernetes
      labctl run gateway.lua -l role=sender -l '2*role=receiver' --same-site --wait
      labctl run again r-5f3a9c01d2e4 --wait
      labctl run ls
      labctl run ./ls            (a script whose file is called ls)

    The script goes up with all other *.lua files in its folder and below (at most 256 files and 1 MiB in all),
    where its require() finds them. Other files go up with --file, under their path relative to the script's folder,
    or by their mere name if they lie elsewhere: --file trip.blf for bus:replay("trip.blf").

    With --wait, labctl follows the log and ends with the run's verdict as exit code: 0 passed, 1 failed, 2 error,
    3 cancelled. Ctrl-C or SIGTERM then cancels the run, waits until it has ended, and exits with 130 or 143;
    with --detach, the run goes on.
    """


@click.command()
@click.argument("script", type=click.Path(path_type=Path), required=False)
@click.option("--git", "git_url", metavar="URL", help="Take the script from this Git repository, instead of a file.")
@click.option("--git-path", metavar="PATH", help="Of the script in the repository.")
@click.option("--git-revision", metavar="REVISION", help="Branch, tag or whole commit; else the default branch.")
@selectors_option
@waiting_options
@click.option(
    "--timeout",
    "timeout_s",
    type=duration,
    default="5m",
    show_default=True,
    metavar="TIME",
    help="How long it may run, from its start on a bench.",
)
@click.option(
    "--on",
    "--at",
    "executor",
    type=click.Choice(["process", "bench", "kubernetes"]),
    help="Where the script runs: a process beside labd, on the bench's own machine beside the bus, for timing that "
    "cannot cross a network, or in a pod. Else as the policy says of the team: a process, unless it says otherwise; "
    "with --git or --cluster, in a pod.",
)
@click.option(
    "--cluster", metavar="NAME", help="For a pod: in which cluster, by its name at labd; else the default one."
)
@click.option("--name", help="What to call it; else the script's file name.")
@click.option(
    "--file",
    "named",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    multiple=True,
    metavar="FILE",
    help="Upload a file that the script names: a log to replay, an image to flash. Repeatable; at most 16 MiB in all.",
)
@click.option("--env", "environment", metavar="NAME", help="Environment whose variables and secrets the script gets.")
@click.option("--no-files", is_flag=True, help="Upload no other *.lua files.")
@affinity_option
@holder_option
@team_option
@priority_option
@format_option
@pass_session
def submit(
    session: Session,
    script: Path | None,
    git_url: str | None,
    git_path: str | None,
    git_revision: str | None,
    wanted: tuple[WantedBenches, ...],
    same_site: bool,
    how: Waiting,
    timeout_s: float,
    executor: ExecutorName | None,
    cluster: str | None,
    name: str | None,
    named: tuple[Path, ...],
    environment: str | None,
    no_files: bool,
    affinity: str,
    holder: str,
    team: str | None,
    priority: str,
    as_json: bool,
) -> None:
    """Run a Lua scenario on a bench, or on several at once."""
    git = _git(script, git_url, git_path, git_revision)
    if git is not None and named:
        raise click.UsageError("--file goes up beside a script's file: a script from Git has those of its repository")
    if script is not None and not script.is_file():
        commands = ", ".join(sorted(run.commands))
        raise click.BadParameter(f"{str(script)!r} is no file, nor a command ({commands}).", param_hint="SCRIPT")
    selector, benches = selector_and_benches(wanted)
    submitted = session.lab.create_run(
        environment=environment,
        script=None if script is None else read_script(script),
        git=git,
        name=name or (None if script is None else script.name),
        files={} if no_files or script is None else files_beside(script),
        data_files={} if script is None else data_files(script, named),
        selector=selector,
        benches=benches,
        same_site=same_site,
        affinity=affinity,
        holder=holder,
        team=team,
        priority=priority,
        timeout_s=timeout_s,
        executor=executor,
        cluster=cluster,
    )
    follow_up(session.lab, submitted, how, as_json)


def _git(script: Path | None, url: str | None, path: str | None, revision: str | None) -> GitSource | None:
    """Where the script is in Git; None when it is a file."""
    if url is None:
        if script is None:
            raise click.UsageError("Missing SCRIPT: give a file, or --git URL --git-path PATH.")
        if path is not None or revision is not None:
            raise click.UsageError("--git-path and --git-revision go with --git URL.")
        return None
    if script is not None:
        raise click.UsageError(f"Give a script ({str(script)!r}) or --git, not both.")
    if path is None:
        raise click.UsageError("--git needs --git-path: which file of the repository is the script?")
    return GitSource(url=url, path=path, revision=revision or "HEAD")


run.script = submit


@run.command("ls")
@click.option("--state", type=click.Choice(_STATES, case_sensitive=False), help="Only those in this state.")
@owner_options
@selector_filter
@span_options
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="The newest so many.")
@format_option
@pass_session
def list_runs(
    session: Session,
    state: str | None,
    holder: str | None,
    team: str | None,
    selector: str | None,
    since: str | None,
    until: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """List runs, the newest first."""
    runs = session.lab.runs(
        *([state] if state else []),
        holder=holder,
        team=team,
        selector=selector,
        since=since,
        until=until,
        limit=limit,
    )
    if as_json:
        print_json(runs)
        return
    rows = [
        (
            one["id"],
            one["state"],
            one["name"],
            ", ".join(one["benches"]),
            one["holder"],
            ago(one["created_at"]),
            elapsed(one["started_at"], one["ended_at"]),
            counts(one),
            one["reason"] or (place(one["position"]) if one["position"] is not None else one["obstacle"] or ""),
        )
        for one in runs
    ]
    headings = ["run", "state", "name", "bench", "holder", "created", "took", "cases", "reason"]
    print_table(headings, rows, empty="no runs")


@run.command("show")
@click.argument("run_id", metavar="ID", shell_complete=complete_runs)
@format_option
@pass_session
def show_run(session: Session, run_id: str, as_json: bool) -> None:
    """Show a run; once it has ended, its cases, and for those that did not pass the last frames before the failure."""
    found = session.lab.run(run_id)
    document = result_of(session.lab, found)
    if as_json:
        print_json({"run": found, "result": document})
        return
    print_record(
        {
            "run": found["id"],
            "name": found["name"],
            "state": _state_text(found),
            "reason": found["reason"],
            "bench": ", ".join(found["benches"]),
            "lease": found["lease_id"] or "",
            "selector": found["selector"],
            "holder": found["holder"],
            "team": found["team"] if found["team"] != "default" else "",
            "runs on": found["executor"] + (f", cluster {found['cluster']}" if found["cluster"] else ""),
            "git": _source_text(found),
            "priority": found["priority"] if found["priority"] != "normal" else "",
            "created": f"{found['created_at']} ({ago(found['created_at'])})",
            "took": elapsed(found["started_at"], found["ended_at"]),
            "cases": counts(found),
        }
    )
    if len(found["attempts"]) > 1:
        click.echo()
        print_attempts(found)
    if document is not None:
        if document["cases"]:
            click.echo()
            print_cases(document)
        print_failures(document)


def _state_text(one: Run) -> str:
    if one["position"] is not None:
        return f"{one['state']}, {waiting(one)}"
    return "; ".join(part for part in (one["state"], one["obstacle"]) if part)


def _source_text(one: Run) -> str:
    git = one["git"]
    if git is None:
        return ""
    commit = f", commit {one['commit']}" if one["commit"] else ""
    return f"{git['url']} {git['path']} at {git['revision']}{commit}"


@run.command("logs")
@click.argument("run_id", metavar="ID", shell_complete=complete_runs)
@click.option("-f", "--follow", is_flag=True, help="Go on until the run has ended.")
@click.option("--after", type=click.IntRange(min=0), default=0, metavar="N", help="Only the lines after the Nth.")
@format_option
@pass_session
def show_log(session: Session, run_id: str, follow: bool, after: int, as_json: bool) -> None:
    """Print a run's log; as JSON, one object a line. Ctrl-C stops following, never the run."""
    lines: Iterator[LogLine] = (session.lab.follow_log if follow else session.lab.log)(run_id, after)
    with Progress() as progress:
        for line in lines:
            if as_json:
                print_json_line(line)
            else:
                print_line(progress, line)


@run.command("again")
@click.argument("run_id", metavar="ID", shell_complete=complete_runs)
@waiting_options
@holder_option
@format_option
@pass_session
def run_again(session: Session, run_id: str, how: Waiting, holder: str, as_json: bool) -> None:
    """Run once more what a run executed that is over: script, files, benches wanted, environment, timeout.

    Where it ended in ERROR, its benches are avoided if others do as well.
    """
    follow_up(session.lab, session.lab.run_again(run_id, holder), how, as_json)


@run.command("cancel")
@click.argument("run_ids", metavar="ID...", nargs=-1, required=True, shell_complete=complete_runs)
@click.option("--reason", default="", help="Why; needed for what another holds.")
@format_option
@pass_session
def cancel(session: Session, run_ids: tuple[str, ...], reason: str, as_json: bool) -> None:
    """Stop runs, or take them out of the queue. An ended run stays as it is."""
    cancelled = [session.lab.cancel_run(run_id, reason) for run_id in run_ids]
    if as_json:
        print_json(cancelled)
        return
    for one in cancelled:
        click.echo(f"{one['id']} {one['name']}: {'being stopped' if one['state'] == 'RUNNING' else one['state']}")
