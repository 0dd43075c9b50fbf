"""``labctl token``: API tokens, for scripts and for people."""

import click

from labd.cli.options import duration
from labd.cli.output import ago, format_option, print_json, print_record, print_table
from labd.cli.session import Session, pass_session
from labd.client.types import ApiToken

_SCOPES = ["read", "lease", "run", "operate", "admin"]


@click.group()
def token() -> None:
    """Make, list and revoke API tokens."""


@token.command()
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice(_SCOPES),
    help="Narrow it to this; may be given several times. Without it: all that its owner may.",
)
@click.option(
    "--expires",
    "lifetime_s",
    type=duration,
    default="90d",
    show_default=True,
    metavar="TIME",
    help="How long it is good for: 12h, 30d; at most 366d.",
)
@click.option("--user", "owner", help="For another user; takes an admin of the lab.")
@format_option
@pass_session
def create(
    session: Session, name: str, scopes: tuple[str, ...], lifetime_s: float, owner: str | None, as_json: bool
) -> None:
    """Make a token, and show it: this once. NAME says what it is for.

    The token is alone on stdout, so that a script can take it: LABD_TOKEN=$(labctl token create nightly --scope run)
    """
    made = session.lab.create_token(name, scopes=scopes or None, lifetime_s=lifetime_s, owner=owner)
    if as_json:
        print_json(made)
        return
    click.echo(made["token"])
    click.echo(
        f"token {made['prefix']} of {made['owner']}, {_scopes(made)}; it ends {ago(made['expires_at'])}", err=True
    )


@token.command("ls")
@click.option("-a", "--all", "everybody", is_flag=True, help="Those of all users; takes an admin of the lab.")
@format_option
@pass_session
def list_tokens(session: Session, everybody: bool, as_json: bool) -> None:
    """List tokens, without their texts."""
    found = session.lab.tokens(everybody=everybody)
    if as_json:
        print_json(found)
        return
    rows = [
        (one["prefix"], one["owner"], one["name"], _scopes(one), _state(one), ago(one["last_used_at"])) for one in found
    ]
    print_table(["token", "owner", "name", "scopes", "state", "last used"], rows, empty="no tokens")


@token.command()
@click.argument("prefix")
@click.option("--reason", default="", help="Why; needed for a token of another's.")
@format_option
@pass_session
def revoke(session: Session, prefix: str, reason: str, as_json: bool) -> None:
    """End a token now. PREFIX is what follows labd_ in it, as 'labctl token ls' shows it."""
    ended = session.lab.revoke_token(prefix.removeprefix("labd_").partition("_")[0], reason)
    if as_json:
        print_json(ended)
    else:
        print_record({"token": ended["prefix"], "owner": ended["owner"], "name": ended["name"], "state": _state(ended)})


def _scopes(one: ApiToken) -> str:
    return "all scopes" if one["scopes"] is None else " ".join(one["scopes"])


def _state(one: ApiToken) -> str:
    if one["revoked_at"]:
        return f"revoked {ago(one['revoked_at'])}"
    when = ago(one["expires_at"])
    return f"expired {when}" if when.endswith("ago") else f"ends {when}"
