"""What labctl prints: tables for people, plain columns for pipes, JSON for programs.

Text that comes from elsewhere (log lines, names, reasons) is cleaned of control characters first, so that a script's
log cannot drive the reader's terminal.
"""

import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., object])

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_STYLES = {
    "available": "green",
    "healthy": "green",
    "GRANTED": "green",
    "ACTIVE": "green",
    "ENDING": "yellow",
    "PASSED": "green",
    "passed": "green",
    "leased": "yellow",
    "recovering": "yellow",
    "QUEUED": "yellow",
    "PENDING": "yellow",
    "RUNNING": "cyan",
    "CANCELLED": "magenta",
    "warning": "yellow",
    "unavailable": "red",
    "unhealthy": "red",
    "offline": "red",
    "FAILED": "red",
    "failed": "red",
    "ERROR": "bold red",
    "error": "bold red",
}


def format_option(command: Command) -> Command:
    """Adds ``-o table|json``; the command gets it as ``as_json``."""
    return click.option(
        "-o",
        "--output",
        "as_json",
        type=click.Choice(["table", "json"]),
        default="table",
        callback=lambda _context, _parameter, value: value == "json",
        help="For people, or for programs.",
        show_default=True,
    )(command)


def clean(text: str) -> str:
    """``text`` without control characters, tab and newline excepted: they are shown as ``\\x1b``."""
    return _CONTROL.sub(lambda match: f"\\x{ord(match.group()):02x}", text)


def one_line(text: str) -> str:
    """``text`` cleaned, on one line."""
    return " ".join(clean(text).split())


def print_json(value: object) -> None:
    """One JSON document on stdout."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def print_json_line(value: object) -> None:
    """One JSON document on one line of stdout, for endless output."""
    click.echo(json.dumps(value, ensure_ascii=False, separators=(",", ":")))


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]], *, empty: str) -> None:
    """A table on stdout: coloured and fitted to a terminal, or whole plain columns into a pipe.

    Without rows, ``empty`` goes to stderr and stdout stays empty, so that ``wc -l`` counts right.
    """
    if not rows:
        click.echo(empty, err=True)
        return
    cleaned = [[one_line(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        _print_rich_table(headings, cleaned)
    else:
        click.echo("\n".join(columns([[heading.upper() for heading in headings], *cleaned])))


def print_record(fields: Mapping[str, str]) -> None:
    """``name  value`` lines on stdout; empty values are left out, further lines of a value are indented."""
    shown = {name: clean(value) for name, value in fields.items() if value}
    width = max(map(len, shown), default=0)
    for name, value in shown.items():
        first, *rest = value.splitlines() or [""]
        click.echo(f"{click.style(name.ljust(width), dim=True)}  {first}")
        for line in rest:
            click.echo(f"{' ' * width}  {line}")


def style(word: str) -> str:
    """The rich style for a state or verdict."""
    return _STYLES.get(word, "")


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """The rows as aligned text; an empty cell is shown as ``-`` so that the columns can be counted."""
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    return [
        "  ".join((cell or "-").ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def labels(values: Mapping[str, str]) -> str:
    """``a=b,c=d``."""
    return ",".join(f"{key}={value}" if value else key for key, value in sorted(values.items()))


def duration(seconds: float) -> str:
    """``850 ms``, ``12.3 s``, ``4 min 05 s``, ``2 h 10 min``, ``30 d 00 h``."""
    if seconds < 1:
        return f"{seconds * 1e3:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes:02d} min"
    return f"{hours // 24} d {hours % 24:02d} h"


def ago(moment: str | None) -> str:
    """How long ago an RFC 3339 time was, or how far ahead it is."""
    if not moment:
        return ""
    seconds = (datetime.now(UTC) - parse_time(moment)).total_seconds()
    if abs(seconds) < 1:
        return "now"
    rounded = duration(round(abs(seconds)))
    return f"{rounded} ago" if seconds > 0 else f"in {rounded}"


def parse_time(moment: str) -> datetime:
    """An RFC 3339 time of the API, in UTC when it names no zone."""
    parsed = datetime.fromisoformat(moment)
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


def to_the_second(moment: str) -> str:
    """An RFC 3339 time of the API as people need it: ``2026-11-21T09:30:00Z``."""
    return parse_time(moment).isoformat(timespec="seconds").replace("+00:00", "Z")


def elapsed(start: str | None, end: str | None) -> str:
    """The time between two RFC 3339 times, or since the first while there is no second."""
    if not start:
        return ""
    until = parse_time(end) if end else datetime.now(UTC)
    return duration(max(0.0, (until - parse_time(start)).total_seconds()))


def _print_rich_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell, style=style(cell)) for cell in row))
    Console().print(table)


def without_token(lease: Mapping[str, Any]) -> dict[str, Any]:
    """A lease's fields, its secrets left out."""
    benches = [{key: value for key, value in one.items() if key != "token"} for one in lease.get("benches", [])]
    return {key: value for key, value in lease.items() if key != "token"} | {"benches": benches}
