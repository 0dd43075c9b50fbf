"""``labctl audit``: who did what, and whether the record of it is whole."""

import json
from datetime import UTC, datetime
from typing import TextIO

import click

from labd.cli.exits import ExitCode, Failure
from labd.cli.filters import span_options
from labd.cli.output import clean, format_option, print_json, print_table
from labd.cli.session import Session, pass_session
from labd.client import AuditEntry, AuditQuery

_LONGEST = 200
"""Characters of a value in a table; JSON has all of them."""


@click.group()
def audit() -> None:
    """Read, export and verify the audit log."""


def _filters(command: click.decorators.FC) -> click.decorators.FC:
    for option in (
        span_options,
        click.option("--team", default="", help="Only what was done to things of this team."),
        click.option("--actor", default="", help="Only what this person or program did."),
        click.option("--subject", default="", metavar="KIND/NAME", help="Only this, such as lease/l-5f3a9c01d2e4."),
        click.option("--action", default="", metavar="NOUN[.VERB]", help="Only this, such as lease, or run.cancelled."),
    ):
        command = option(command)
    return command


@audit.command("ls")
@_filters
@click.option("-n", "--limit", type=click.IntRange(1), default=50, show_default=True, help="At most so many.")
@format_option
@pass_session
def list_audit(
    session: Session,
    action: str,
    subject: str,
    actor: str,
    team: str,
    since: str | None,
    until: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """List what was done, newest first.

    An operator of a team sees what was done to its leases, runs, benches and members, one of the whole lab all.
    """
    query = AuditQuery(action, subject, actor, team, since, until)
    entries = list(session.lab.audit(query, limit))
    if as_json:
        print_json(entries)
        return
    print_table(
        ["seq", "time", "actor", "action", "subject", "what", "why"],
        [_row(entry) for entry in entries],
        empty="nothing like that is on record",
    )


@audit.command()
@_filters
@click.option(
    "--file", "target", type=click.File("w", encoding="utf-8", lazy=True), default="-", help="Instead of stdout."
)
@pass_session
def export(
    session: Session,
    action: str,
    subject: str,
    actor: str,
    team: str,
    since: str | None,
    until: str | None,
    target: TextIO,
) -> None:
    """Write the log as JSON lines, oldest first.

    Each line carries its own SHA-256 and that of the line before, so that an unfiltered export can be verified without
    labd.
    """
    query = AuditQuery(action, subject, actor, team, since, until, oldest_first=True)
    for entry in session.lab.audit(query):
        click.echo(json.dumps(entry, ensure_ascii=False, separators=(",", ":")), file=target)


@audit.command()
@click.option(
    "--expect",
    metavar="SEQ:HASH",
    help="The end of the log that an earlier verification gave. It shows that the log was not written anew as a whole.",
)
@format_option
@pass_session
def verify(session: Session, expect: str | None, as_json: bool) -> None:
    """Verify that no entry was altered, removed, inserted or cut off.

    Ends with exit code 1 and names the first entry that is wrong. Keep the SEQ:HASH that it prints where labd's
    database administrators cannot write, and pass it as --expect the next time.
    """
    verdict = session.lab.verify_audit(expect)
    if as_json:
        print_json(verdict)
    elif verdict["sound"]:
        click.echo(f"{verdict['checked']} entries are sound; the log ends at {verdict['head']}")
    if not verdict["sound"]:
        raise Failure(
            f"the audit log was tampered with: {verdict['detail']} ({verdict['checked']} entries before are sound)",
            ExitCode.FAILED,
        )


def _moment_text(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _row(entry: AuditEntry) -> list[str]:
    moment = _moment_text(entry["time"])
    actor = entry["actor"] if entry["kind"] == "person" else f"{entry['actor']} ({entry['kind']})"
    return [str(entry["seq"]), moment, actor, entry["action"], entry["subject"], _change(entry), entry["why"]]


def _change(entry: AuditEntry) -> str:
    before, after = entry["before"] or {}, entry["after"] or {}
    parts = [f"{name}: {_text(name, before[name])} → {_text(name, after[name])}" for name in before if name in after]
    parts += [f"{name}: {_text(name, value)}" for name, value in before.items() if name not in after]
    parts += [f"{name}: {_text(name, value)}" for name, value in after.items() if name not in before]
    return clean(", ".join(parts))


def _text(name: str, value: object) -> str:
    if name.endswith("_at") and isinstance(value, int | float):
        return _moment_text(value)
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
