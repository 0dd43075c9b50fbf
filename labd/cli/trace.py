"""``labctl trace``: what the agent has recorded of a bench's buses and consoles during a lease."""

import re
from datetime import datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click

from labd.cli.completion import complete_benches, complete_buses, complete_consoles
from labd.cli.exits import ExitCode, Failure
from labd.cli.leasing import open_bench
from labd.cli.options import duration, held_lease_option, holder_option
from labd.cli.output import format_option, one_line, print_json, print_table
from labd.cli.session import Session, pass_session
from labd.client import held_lease

if TYPE_CHECKING:
    from bench_agent.client import BenchClient, TraceInfo

_NS = 1_000_000_000


@click.group()
def trace() -> None:
    """List and fetch what the agent has recorded during a lease."""


@trace.command("ls")
@click.argument("bench_name", metavar="BENCH", shell_complete=complete_benches)
@held_lease_option
@holder_option
@format_option
@pass_session
def list_traces(session: Session, bench_name: str, lease_id: str | None, holder: str, as_json: bool) -> None:
    """List the traces of the lease that you hold, one for each bus."""
    with _bench(session, bench_name, lease_id, holder) as bench:
        traces = bench.traces.list()
    if as_json:
        from dataclasses import asdict

        print_json([asdict(one) for one in traces])
        return
    print_table(
        ["BUS", "FRAMES", "FROM", "TO", "SIZE", "FORMATS", "MISSING"],
        [
            [
                one.bus,
                str(one.frames),
                _time(one.first_ns),
                _time(one.last_ns),
                f"{one.bytes / 1e6:.1f} MB",
                ",".join(one.formats),
                _missing(one),
            ]
            for one in traces
        ],
        empty="the bench has no bus",
    )


@trace.command()
@click.argument("bench_name", metavar="BENCH", shell_complete=complete_benches)
@click.argument("bus_name", metavar="BUS", shell_complete=complete_buses)
@click.option(
    "-o",
    "--output",
    "path",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Where to: .blf, .log (candump) or .asc.",
)
@click.option("--format", "file_format", type=click.Choice(["blf", "candump", "asc"]), help="Whatever FILE is called.")
@click.option("--from", "since", metavar="TIME", help="Only frames from this time on.")
@click.option("--to", "until", metavar="TIME", help="Only frames up to this time.")
@held_lease_option
@holder_option
@pass_session
def fetch(
    session: Session,
    bench_name: str,
    bus_name: str,
    path: Path,
    file_format: str | None,
    since: str | None,
    until: str | None,
    lease_id: str | None,
    holder: str,
) -> None:
    """Fetch the trace of a bus, up to now, as a file.

    \b
      labctl trace fetch bench-1 powertrain -o drive.blf
      labctl trace fetch bench-1 powertrain -o end.asc --from -10s
      labctl trace fetch bench-1 powertrain -o part.log --from 2026-11-21T14:03:10 --to +90s

    A TIME is a date and time (local unless it names its zone), seconds since 1970, '+90s' after the trace's first
    frame, or '-10s' before its last. A trace can be fetched as long as its lease lasts: fetch it before you release.
    """
    with _bench(session, bench_name, lease_id, holder) as bench:
        span = (0, 0)
        if since or until:
            known = next((one for one in bench.traces.list() if one.bus == bus_name), None)
            span = (known.first_ns, known.last_ns) if known is not None else span
        from_ns = _to_ns(since, span, "--from") if since else 0
        to_ns = _to_ns(until, span, "--to") if until else 0
        try:
            fetched = bench.traces.fetch(bus_name, path, file_format=file_format or "", from_ns=from_ns, to_ns=to_ns)
        except ValueError as error:
            raise Failure(str(error), ExitCode.USAGE) from None
    click.echo(f"{path}: {fetched.frames} frames, {fetched.bytes} bytes", err=True)


@trace.command("console")
@click.argument("bench_name", metavar="BENCH", shell_complete=complete_benches)
@click.argument("console_name", metavar="NAME", shell_complete=complete_consoles)
@click.option(
    "-o", "--output", "output", type=click.File("wb"), default="-", metavar="FILE", help="Where to, instead of stdout."
)
@held_lease_option
@holder_option
@pass_session
def console_log(
    session: Session, bench_name: str, console_name: str, output: IO[bytes], lease_id: str | None, holder: str
) -> None:
    """Print the log of a serial console, up to now: every line in either direction, with its time.

    \b
      2026-11-21T14:03:10.123Z < login:
      2026-11-21T14:03:11.456Z > root

    It can be had as long as its lease lasts: fetch it before you release.
    """
    with _bench(session, bench_name, lease_id, holder) as bench:
        for part in bench.console(console_name).log():
            output.write(part)


def _bench(session: Session, bench_name: str, lease_id: str | None, holder: str) -> "BenchClient":
    return open_bench(session.lab, held_lease(session.lab, bench_name, lease_id=lease_id, holder=holder), bench_name)


def _time(time_ns: int) -> str:
    if not time_ns:
        return ""
    return datetime.fromtimestamp(time_ns / _NS).astimezone().strftime("%H:%M:%S.%f")[:-3]


def _missing(one: "TraceInfo") -> str:
    counts = {
        "too fast": one.dropped,
        "beyond its bounds": one.beyond_limit,
        "made room": one.overwritten,
        "refused by the disk": one.failed,
    }
    parts = [f"{count} {why}" for why, count in counts.items() if count]
    return one_line("; ".join([*parts, *([one.fault] if one.fault else [])]))


def _to_ns(text: str, span: tuple[int, int], option: str) -> int:
    """A time of the command line, in ns since the Unix epoch. Raises click.BadParameter."""
    if text[0] in "+-":
        away_ns = round(duration(text[1:]) * _NS)
        return max(span[0] + away_ns if text[0] == "+" else span[1] - away_ns, 1)
    if re.fullmatch(r"\d+(\.\d+)?", text):
        seconds, _, fraction = text.partition(".")
        return int(seconds) * _NS + int(fraction.ljust(9, "0")[:9])
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(
            f"{text!r} is no time; write 2026-11-21T14:03:10, seconds since 1970, +90s or -10s", param_hint=option
        ) from None
    return round(moment.timestamp() * _NS)
