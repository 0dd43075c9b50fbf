"""``labctl status``: how labd does."""

import click

from labd.cli.output import ago, format_option, print_json, print_record
from labd.cli.session import Session, pass_session


@click.command()
@format_option
@pass_session
def status(session: Session, as_json: bool) -> None:
    """Show how labd does, and how many connections and streams it has cut off, and why.

    Of several labds of one lab, this is about the one that answers.
    """
    found = session.lab.status()
    if as_json:
        print_json(found)
        return
    print_record(
        {
            "labd": session.lab.url,
            "version": found["version"],
            "started": f"{found['started_at']} ({ago(found['started_at'])})",
            "agents": f"{found['agents']} attached",
            "cut off": "\n".join(f"{count}: {reason}" for reason, count in found["cut"].items()) or "nobody",
        }
    )
