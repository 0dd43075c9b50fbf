"""Options of the commands that list: what to list."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import click

from labd.cli.options import duration
from labd.cli.output import parse_time

Command = TypeVar("Command", bound=Callable[..., object])


def moment(text: str) -> str:
    """An RFC 3339 time from one, or from how long ago it is (``2h``). Raises click.BadParameter."""
    try:
        return parse_time(text).isoformat()
    except ValueError:
        return (datetime.now(UTC) - timedelta(seconds=duration(text))).isoformat()


def span_options(command: Command) -> Command:
    """Adds ``--since`` and ``--until``."""
    until = click.option("--until", type=moment, metavar="TIME", help="Only before this.")
    since = click.option(
        "--since", type=moment, metavar="TIME", help="Only from then on: 2026-11-21T09:00Z, or 2h for so long ago."
    )
    return since(until(command))


def owner_options(command: Command) -> Command:
    """Adds ``--team`` and ``--holder``."""
    team = click.option("--team", metavar="TEAM", help="Only this team's.")
    return team(click.option("--holder", metavar="NAME", help="Only this holder's.")(command))


def selector_filter(command: Command) -> Command:
    """Adds ``-l/--selector``."""
    return click.option(
        "-l", "--selector", metavar="SELECTOR", help="Only on benches whose labels match: 'platform=meb'."
    )(command)
