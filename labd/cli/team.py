"""``labctl team``: who shares leases, runs, and benches of their own."""

import click

from labd.cli.output import format_option, print_json, print_table
from labd.cli.session import Session, pass_session

_ROLES = ["viewer", "engineer", "operator", "admin"]


@click.group()
def team() -> None:
    """Add and remove teams, and say who may what in them. The team '*' is the whole lab."""


@team.command()
@click.argument("name")
@pass_session
def create(session: Session, name: str) -> None:
    """Add a team."""
    session.lab.create_team(name)
    click.echo(f"team {name}")


@team.command("ls")
@format_option
@pass_session
def list_teams(session: Session, as_json: bool) -> None:
    """List your teams; all of them, for who belongs to the whole lab."""
    found = session.lab.teams()
    if as_json:
        print_json(found)
    else:
        print_table(["team"], [(one,) for one in found], empty="no teams")


@team.command()
@click.argument("name")
@format_option
@pass_session
def members(session: Session, name: str, as_json: bool) -> None:
    """List who belongs to a team."""
    found = session.lab.members(name)
    if as_json:
        print_json(found)
    else:
        print_table(["member", "role"], [(one["name"], one["role"]) for one in found], empty="nobody")


@team.command()
@click.argument("name")
@click.argument("member")
@click.option("--role", type=click.Choice(_ROLES), default="engineer", show_default=True)
@pass_session
def add(session: Session, name: str, member: str, role: str) -> None:
    """Give somebody a role in a team, in the place of the one they had.

    MEMBER is a user, or who signs in through an identity provider: PROVIDER:NAME.
    """
    session.lab.save_member(name, member, role)
    click.echo(f"{member} is {role} in {'the whole lab' if name == '*' else name}")


@team.command()
@click.argument("name")
@click.argument("member")
@pass_session
def drop(session: Session, name: str, member: str) -> None:
    """Take somebody out of a team. Their leases and runs there end, unless another role is enough."""
    session.lab.remove_member(name, member)
    click.echo(f"{member} has no role in {'the whole lab' if name == '*' else name} any more")


@team.command()
@click.argument("name")
@click.option("--reason", required=True, help="Why; kept in the audit log.")
@pass_session
def remove(session: Session, name: str, reason: str) -> None:
    """Remove a team, and end its leases and runs. What it did stays, for who belongs to the whole lab to see."""
    session.lab.remove_team(name, reason)
    click.echo(f"team {name} is removed")
