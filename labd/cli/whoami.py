"""``labctl whoami``: who labd takes you for."""

import click

from labd.cli.output import format_option, print_json, print_record
from labd.cli.session import Session, pass_session


@click.command()
@format_option
@pass_session
def whoami(session: Session, as_json: bool) -> None:
    """Show who labd takes you for, and what you may."""
    who = session.lab.whoami()
    if as_json:
        print_json(who)
        return
    roles = "\n".join(f"{role} in {'the whole lab' if team == '*' else team}" for team, role in who["roles"].items())
    print_record(
        {
            "name": who["name"],
            "kind": who["kind"],
            "roles": roles or "none",
            "scopes": "" if who["scopes"] is None else ", ".join(who["scopes"]) or "none",
            "labd": session.lab.url,
        }
    )
