"""``labctl user``: the people and programs that labd itself knows."""

import click

from labd.cli.output import ago, format_option, print_json, print_table
from labd.cli.session import Session, pass_session


@click.group()
def user() -> None:
    """Add, list and remove users. Who signs in through an identity provider needs no entry here."""


@user.command()
@click.argument("name")
@click.option("--program", is_flag=True, help="It is no person, but for example a CI system.")
@format_option
@pass_session
def create(session: Session, name: str, program: bool, as_json: bool) -> None:
    """Add a user, who has no role yet."""
    made = session.lab.create_user(name, "program" if program else "person")
    if as_json:
        print_json(made)
        return
    click.echo(f"user {made['name']}")
    click.echo(
        f"a role:  labctl team add TEAM {name} --role engineer\na token: labctl token create first --user {name}",
        err=True,
    )


@user.command("ls")
@format_option
@pass_session
def list_users(session: Session, as_json: bool) -> None:
    """List users with their roles."""
    found = session.lab.users()
    if as_json:
        print_json(found)
        return
    rows = [
        (
            one["name"],
            one["kind"],
            ", ".join(f"{team}: {role}" for team, role in one["roles"].items()),
            ago(one["created_at"]),
        )
        for one in found
    ]
    print_table(["user", "kind", "roles", "created"], rows, empty="no users")


@user.command()
@click.argument("name")
@click.option("--reason", required=True, help="Why; kept in the audit log.")
@pass_session
def remove(session: Session, name: str, reason: str) -> None:
    """Revoke a user's tokens and roles, for good: nobody else gets the name. Their leases, bookings and runs end.

    PROVIDER:NAME, as `labctl whoami` shows it, is let in no more, whatever the identity provider says of them, until
    `labctl user create PROVIDER:NAME`.
    """
    session.lab.remove_user(name, reason)
    click.echo(f"user {name} is removed")
