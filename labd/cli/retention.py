"""``labctl retention``: how long runs, logs, traces and the audit log are kept."""

from typing import TextIO, cast

import click

from labd.cli.output import format_option, print_json
from labd.cli.session import Session, pass_session
from labd.cli.versions import taken, with_etag
from labd.client import Retention, Swept


@click.group()
def retention() -> None:
    """Say how long runs, logs, traces and the audit log are kept, by age and size, per team.

    \b
    A file for 'apply' looks like this; what is left out is kept for ever:
      {"default": {"runs_days": 365, "runs_mb": 50000, "logs_days": 90, "traces_days": 30},
       "teams": {"chassis": {"runs_days": 3650, "audit_days": 365}}, "audit_days": 1095, "audit_mb": 10000}
    """


@retention.command()
@pass_session
def show(session: Session) -> None:
    """Show the present rules, as JSON that 'apply' takes."""
    print_json(with_etag(session.lab.retention()))


@retention.command()
@click.argument("file", type=click.File(encoding="utf-8"))
@click.option("--dry-run", is_flag=True, help="Change nothing; say what these rules would remove now.")
@format_option
@pass_session
def apply(session: Session, file: TextIO, dry_run: bool, as_json: bool) -> None:
    """Set the rules of a JSON file; labd removes what they do not keep within the hour.

    A file that 'show' has made has the `etag` of that version: it is refused when somebody has changed the rules since.
    Without `etag`, it replaces whatever there is.
    """
    document, etag = taken(file)
    rules = cast(Retention, document)
    if dry_run:
        _tell("would be removed", session.lab.preview_retention(rules), as_json)
        return
    set_ = session.lab.set_retention(rules, if_match=etag)
    if as_json:
        print_json(set_)
    else:
        click.echo("the rules are set")


@retention.command()
@click.option("--dry-run", is_flag=True, help="Remove nothing; say what would be.")
@format_option
@pass_session
def sweep(session: Session, dry_run: bool, as_json: bool) -> None:
    """Remove what is not to be kept, now."""
    lab = session.lab
    if dry_run:
        _tell("would be removed", lab.preview_retention(lab.retention()), as_json)
    else:
        _tell("removed", lab.sweep_retention(), as_json)


def _tell(verb: str, swept: Swept, as_json: bool) -> None:
    if as_json:
        print_json(swept)
        return
    click.echo(
        f"{verb}: {swept['runs']} runs, {swept['leases']} leases, {swept['logs']} logs "
        f"({swept['log_bytes'] / 1e6:.1f} MB) of other runs, {swept['files']} files, "
        f"{swept['audit_entries']} audit entries"
    )
