"""``labctl secret``: values that runs need and nobody reads."""

import sys
from pathlib import Path

import click

from labd.cli.exits import ExitCode, Failure
from labd.cli.options import team_option
from labd.cli.output import ago, format_option, print_json, print_table
from labd.cli.session import Session, pass_session


@click.group()
def secret() -> None:
    """Keep secrets for runs: set, list, remove.

    labd keeps them encrypted and shows their values to nobody. A run gets those of the environment that it names, and
    they are masked in its log and result.
    """


@secret.command("set")
@click.argument("name")
@team_option
@click.option(
    "--from-file",
    "file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Take the file's text as it is, the newline at its end too.",
)
@pass_session
def set_secret(session: Session, name: str, team: str | None, file: Path | None) -> None:
    """Add a secret, or give it another value.

    The value is read from the terminal without being shown, or from stdin (a newline at its end is left out), or from
    a file; never from an argument, which other users of the machine could see.
    """
    kept = session.lab.set_secret(name, _value(file), team=team)
    click.echo(f"secret {name} of team {kept['team']} is set")


@secret.command("ls")
@format_option
@pass_session
def list_secrets(session: Session, as_json: bool) -> None:
    """List secrets, without their values."""
    found = list(session.lab.secrets())
    if as_json:
        print_json(found)
        return
    rows = [[one["team"], one["name"], ago(one["updated_at"]), one["updated_by"]] for one in found]
    print_table(["team", "name", "set", "by"], rows, empty="there are no secrets")


@secret.command("rm")
@click.argument("name")
@team_option
@pass_session
def remove_secret(session: Session, name: str, team: str | None) -> None:
    """Remove a secret that no environment has any more."""
    session.lab.remove_secret(name, team=team)
    click.echo(f"secret {name} is gone")


def _value(file: Path | None) -> str:
    if file is not None:
        try:
            return file.read_bytes().decode()
        except UnicodeDecodeError as error:
            raise Failure(f"{file} is not UTF-8 text; encode it, for example with base64", ExitCode.USAGE) from error
    if sys.stdin.isatty():
        return str(click.prompt("Value", hide_input=True, confirmation_prompt=True))
    return sys.stdin.read().removesuffix("\n")
