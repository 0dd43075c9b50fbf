"""``labctl can stats`` and ``labctl can recover``: how a bus does, and back from bus-off."""

from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from labd.cli.completion import complete_benches, complete_buses
from labd.cli.exits import ExitCode, Failure
from labd.cli.leasing import open_bench, using
from labd.cli.options import existing_lease_option, holder_option, lease_timeout_option, priority_option
from labd.cli.output import format_option, print_json, print_record
from labd.cli.session import Session, pass_session

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench_agent.client import BusClient, BusStats


def _on_a_bus(command: Callable[..., Any]) -> Callable[..., Any]:
    """The arguments and options of a command on one bus."""
    for decorate in (
        pass_session,
        format_option,
        priority_option,
        holder_option,
        lease_timeout_option,
        existing_lease_option,
        click.argument("bus_name", metavar="BUS", shell_complete=complete_buses),
        click.argument("bench_name", metavar="BENCH", shell_complete=complete_benches),
    ):
        command = decorate(command)
    return command


@click.command()
@_on_a_bus
def stats(session: Session, bench_name: str, bus_name: str, as_json: bool, **lease: Any) -> None:
    """Show the state of a bus' controller, its errors, its load, and what was lost.

    Counts are since the agent opened the bus. The load of the last second comes with as many stuff bits as random data
    have, and with as many as there can be. Leases the bench; with --lease, a lease that you hold is used.
    """
    with _bus(session, bench_name, bus_name, **lease) as bus:
        _print(bus.stats(), as_json=as_json)


@click.command()
@_on_a_bus
def recover(session: Session, bench_name: str, bus_name: str, as_json: bool, **lease: Any) -> None:
    """Bring a bus' controller back from bus-off; does nothing when it is on the bus.

    Then shows what `labctl can stats` shows.
    """
    with _bus(session, bench_name, bus_name, **lease) as bus:
        _print(bus.recover(), as_json=as_json)


@contextmanager
def _bus(
    session: Session,
    bench_name: str,
    bus_name: str,
    lease_id: str | None,
    timeout_s: float | None,
    holder: str,
    priority: str,
) -> "Iterator[BusClient]":
    """A bus of a leased bench. Raises Failure."""
    lab = session.lab
    buses = [bus["name"] for bus in lab.bench(bench_name)["buses"]]
    if bus_name not in buses:
        known = ", ".join(buses) or "none"
        raise Failure(f"bench {bench_name} has no bus {bus_name!r}; it has {known}", ExitCode.REFUSED)
    holding = using(lab, bench_name, lease_id=lease_id, holder=holder, priority=priority, timeout_s=timeout_s)
    with holding as (lease, _), open_bench(lab, lease, bench_name) as bench:
        yield bench.bus(bus_name)


def _print(stats: "BusStats", *, as_json: bool) -> None:
    if as_json:
        print_json(asdict(stats))
    else:
        print_record(_fields(stats))


def _fields(stats: "BusStats") -> dict[str, str]:
    since = f" since {_time(stats.since_ns)}" if stats.since_ns else ""
    rates = [f"{rate} bit/s" for rate in (stats.bitrate, stats.data_bitrate) if rate]
    load = f"{stats.frames_per_s:.0f} frames/s"
    if stats.load_typical is not None and stats.load_worst is not None:
        load += f", {stats.load_typical:.1f} % of the bit rate (at most {stats.load_worst:.1f} %)"
    return {
        "state": stats.state + since,
        "fault": stats.fault,
        "bit rate": ", data phase ".join(rates),
        "load": load,
        "received": str(stats.received),
        "sent": str(stats.sent) + (f", {stats.send_failed} failed" if stats.send_failed else ""),
        "lost": str(stats.lost),
        "error counters": f"tx {stats.tx_errors}, rx {stats.rx_errors}",
        "bus-off": f"{stats.bus_offs} times, {stats.recoveries} times back" if stats.bus_offs else "",
        "error frames": str(stats.error_frames) + "".join(f"\n{kind}: {count}" for kind, count in stats.errors.items()),
        "last errors": "\n".join(f"{_time(error.timestamp_ns)} {error.detail}" for error in stats.last_errors),
        "subscribers": "\n".join(
            f"{one.delivered} delivered, {one.dropped} dropped, {one.waiting} waiting" for one in stats.subscribers
        ),
    }


def _time(stamp_ns: int) -> str:
    """Of the agent's clock, in this machine's time zone."""
    moment = datetime.fromtimestamp(stamp_ns / 1e9, UTC).astimezone()
    return moment.isoformat(sep=" ", timespec="milliseconds")
