"""``labctl env``: environments, the named variables and secrets that runs are given."""

import click

from labd.cli.options import team_option
from labd.cli.output import format_option, print_json, print_record, print_table
from labd.cli.session import Session, pass_session
from labd.cli.versions import if_match_option, with_etag
from labd.client import Environment


@click.group()
def env() -> None:
    """Keep environments: variables and secrets that a run gets with 'labctl run --env NAME'."""


def _pairs(_context: click.Context, _parameter: click.Parameter, texts: tuple[str, ...]) -> dict[str, str]:
    pairs = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise click.BadParameter(f"{text!r}: write NAME=VALUE")
        pairs[name] = value
    return pairs


@env.command("set")
@click.argument("name")
@click.argument("variables", nargs=-1, metavar="[NAME=VALUE]...", callback=_pairs)
@click.option(
    "--secret",
    "secrets",
    multiple=True,
    metavar="NAME=SECRET",
    callback=_pairs,
    help="A secret, by a name.",
)
@team_option
@if_match_option
@pass_session
def set_environment(
    session: Session,
    name: str,
    variables: dict[str, str],
    secrets: dict[str, str],
    team: str | None,
    if_match: str | None,
) -> None:
    """Add an environment, or replace it as a whole.

    \b
      labctl env set staging DB_HOST=db.example.com --secret DB_PASSWORD=staging-db
    """
    kept = session.lab.put_environment(name, variables, secrets, team=team, if_match=if_match)
    click.echo(f"environment {name} of team {kept['team']} is set")


@env.command("ls")
@format_option
@pass_session
def list_environments(session: Session, as_json: bool) -> None:
    """List environments."""
    found = list(session.lab.environments())
    if as_json:
        print_json(found)
        return
    rows = [[one["team"], one["name"], " ".join(one["variables"]), " ".join(one["secrets"])] for one in found]
    print_table(["team", "name", "variables", "secrets"], rows, empty="there are no environments")


@env.command()
@click.argument("name")
@team_option
@format_option
@pass_session
def show(session: Session, name: str, team: str | None, as_json: bool) -> None:
    """Show an environment: its variables, and which secrets it has."""
    found = session.lab.environment(name, team=team)
    if as_json:
        print_json(with_etag(found))
    else:
        print_record(_fields(found))


@env.command("rm")
@click.argument("name")
@team_option
@if_match_option
@pass_session
def remove_environment(session: Session, name: str, team: str | None, if_match: str | None) -> None:
    """Remove an environment; its secrets stay."""
    session.lab.remove_environment(name, team=team, if_match=if_match)
    click.echo(f"environment {name} is gone")


def _fields(found: Environment) -> dict[str, str]:
    secrets = {variable: f"(secret {secret})" for variable, secret in found["secrets"].items()}
    return {"environment": found["name"], "team": found["team"], **found["variables"], **secrets}
