"""``labctl top``: the lab, live."""

import sys
import time
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from labd.cli.lab_picture import Lab, Part, fitted, headline, look, parts
from labd.cli.output import clean, columns, format_option, one_line, print_json, style
from labd.cli.patience import is_away
from labd.cli.session import Session, pass_session
from labd.client import LabUnreachable, ProblemError

if TYPE_CHECKING:
    from rich.console import RenderableType


@click.command()
@click.option(
    "--interval",
    "interval_s",
    type=click.FloatRange(0.5, 3600),
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    help="How often labd is asked.",
)
@click.option("--once", is_flag=True, help="Show the lab as it is now, and end; so it is without a terminal.")
@format_option
@pass_session
def top(session: Session, interval_s: float, once: bool, as_json: bool) -> None:
    """Show benches, queue and runs, and keep them up to date, until Ctrl-C.

    Benches: who has each, what for, and how long at most. Queue: who waits since when, and why. Runs: those under way,
    then the last that ended. What does not fit the terminal is counted.
    """
    if as_json:
        print_json(asdict(look(session.lab)))
    elif once or not sys.stdout.isatty():
        _print(look(session.lab))
    else:
        _follow(session, interval_s)


def _print(lab: Lab) -> None:
    click.echo(headline(lab))
    for part in parts(lab, datetime.now(UTC)):
        click.echo(f"\n{part.title}:" + ("" if part.rows else " none"))
        if part.rows:
            rows = [[one_line(cell) for cell in row] for row in part.rows]
            click.echo("\n".join(columns([[heading.upper() for heading in part.headings], *rows])))


def _follow(session: Session, interval_s: float) -> None:
    from rich.console import Console
    from rich.live import Live

    console, lab, since = Console(), look(session.lab), time.monotonic()
    with Live(
        _screen(session.lab.url, lab, console.height, ""), console=console, screen=True, auto_refresh=False
    ) as live:
        while True:
            time.sleep(interval_s)
            try:
                lab, since, trouble = look(session.lab), time.monotonic(), ""
            except (LabUnreachable, ProblemError) as error:
                if not is_away(error):
                    raise
                trouble = f"as it was {time.monotonic() - since:.0f} s ago: {error}"
            live.update(_screen(session.lab.url, lab, console.height, trouble), refresh=True)


def _screen(url: str, lab: Lab, height: int, trouble: str) -> "RenderableType":
    from rich.console import Group
    from rich.text import Text

    now = datetime.now(UTC)
    first = Text(f"{url}  {now:%H:%M:%S} UTC  {headline(lab)}", style="bold", no_wrap=True, overflow="ellipsis")
    below = Text(clean(trouble), style="red", no_wrap=True, overflow="ellipsis")
    return Group(first, below, *(piece for part in fitted(parts(lab, now), height - 2) for piece in _table(part)))


def _table(part: Part) -> "list[RenderableType]":
    from rich.table import Table
    from rich.text import Text

    if not part.rows:
        return [Text(f"{part.title}: none", style="bold cyan")]
    table = Table(box=None, pad_edge=False, header_style="dim", expand=True)
    for number, heading in enumerate(part.headings):
        table.add_column(
            heading, no_wrap=True, overflow="ellipsis", ratio=2 if number == len(part.headings) - 1 else None
        )
    for row in part.rows:
        table.add_row(*(Text(one_line(cell), style=style(cell)) for cell in row))
    left_out = Text(f"… and {part.left_out} more" if part.left_out else "", style="dim")
    return [Text(part.title, style="bold cyan"), table, left_out]
