"""``labctl can``: what passes on a bench's buses."""

import time
from typing import TYPE_CHECKING

import click

from labd.cli.completion import complete_benches, complete_buses
from labd.cli.exits import ExitCode, Failure, Interrupted
from labd.cli.lazy import LazyGroup
from labd.cli.leasing import open_bench, using
from labd.cli.options import can_filter, duration, lease_options
from labd.cli.output import format_option
from labd.cli.session import Session, pass_session
from labd.client import Heartbeats

if TYPE_CHECKING:
    from bench_agent.client import Frame, FrameStream

_TICK_S = 0.5
"""How often a quiet bus is left to look at the clock and the lease."""


_ELSEWHERE = {
    "bridge": "labd.cli.can_bridge:bridge",
    "recover": "labd.cli.can_stats:recover",
    "replay": "labd.cli.can_replay:replay",
    "restbus": "labd.cli.can_send:restbus",
    "send": "labd.cli.can_send:send",
    "stats": "labd.cli.can_stats:stats",
}


@click.group(cls=LazyGroup, lazy=_ELSEWHERE)
def can() -> None:
    """Listen to CAN buses, see how they do, send on them, and play logs."""


@can.command()
@click.argument("bench_name", metavar="BENCH", shell_complete=complete_benches)
@click.argument("bus_name", metavar="BUS", shell_complete=complete_buses)
@click.option("-n", "--count", type=click.IntRange(min=1), help="Stop after so many frames.")
@click.option("--duration", "duration_s", type=duration, metavar="TIME", help="Stop after this time: 10s.")
@click.option(
    "--filter",
    "filters",
    type=can_filter,
    multiple=True,
    metavar="ID[:MASK]",
    help="Only frames that match, hexadecimal; eight digits mean a 29-bit ID. May be repeated.",
)
@click.option("--own/--no-own", default=True, show_default=True, help="Frames that the agent itself sends, too.")
@lease_options
@format_option
@pass_session
def dump(
    session: Session,
    bench_name: str,
    bus_name: str,
    count: int | None,
    duration_s: float | None,
    filters: tuple[tuple[int, int], ...],
    own: bool,
    lease_id: str | None,
    timeout_s: float | None,
    holder: str,
    priority: str,
    as_json: bool,
) -> None:
    """Print the frames of a bus as candump -L does, until Ctrl-C.

    \b
      (1699999999.123456) powertrain 123#1122
      (1699999999.124456) powertrain 456##1AABBCC        a CAN FD frame

    -o json prints one object a line. At the end, stderr tells how many frames there were, and how many were dropped
    because this end was too slow. Leases the bench and releases it at the end; with --lease, a lease that you hold is
    used. Ctrl-C is the usual way to end it, and ends with 0.
    """
    buses = [bus["name"] for bus in session.lab.bench(bench_name)["buses"]]
    if bus_name not in buses:
        raise Failure(
            f"bench {bench_name} has no bus {bus_name!r}; it has {', '.join(buses) or 'none'}", ExitCode.REFUSED
        )
    lab = session.lab
    holding = using(lab, bench_name, lease_id=lease_id, holder=holder, priority=priority, timeout_s=timeout_s)
    with holding as (lease, heartbeats):
        from bench_agent.client import FrameFilter

        with open_bench(lab, lease, bench_name) as bench:
            passing = [FrameFilter(identifier, mask) for identifier, mask in filters]
            with bench.bus(bus_name).stream(passing, own_frames=own) as stream:
                _dump(stream, heartbeats, bus_name, count, duration_s, as_json)


def _dump(
    stream: "FrameStream", heartbeats: Heartbeats, bus: str, count: int | None, duration_s: float | None, as_json: bool
) -> None:
    end = time.monotonic() + duration_s if duration_s is not None else None
    seen = 0
    line = _json_line if as_json else candump_line
    try:
        while (count is None or seen < count) and (end is None or time.monotonic() < end):
            if heartbeats.lost.is_set():
                raise Failure(f"the lease is lost: {heartbeats.reason}", ExitCode.REFUSED)
            block = stream.read(_TICK_S if end is None else min(_TICK_S, max(0.0, end - time.monotonic())))
            if block is None:
                continue
            frames = block.frames if count is None else block.frames[: count - seen]
            seen += len(frames)
            click.echo("\n".join(line(bus, frame) for frame in frames))
    except KeyboardInterrupt as interrupt:
        if isinstance(interrupt, Interrupted):
            raise
    finally:
        click.echo(f"{seen} frames, {stream.dropped} dropped", err=True)


def candump_line(bus: str, frame: "Frame") -> str:
    """A line of a candump log: ``(seconds since the Unix epoch) bus frame``."""
    seconds, ns = divmod(frame.timestamp_ns, 1_000_000_000)
    return f"({seconds}.{ns // 1000:06d}) {bus} {frame}"


def _json_line(bus: str, frame: "Frame") -> str:
    import json

    from bench_agent.protocol.frames import ERROR, EXTENDED, FD, OWN, REMOTE

    return json.dumps(
        {
            "time_ns": frame.timestamp_ns,
            "bus": bus,
            "id": frame.arbitration_id,
            "extended": bool(frame.can_id & EXTENDED),
            "fd": bool(frame.flags & FD),
            "remote": bool(frame.can_id & REMOTE),
            "error": bool(frame.can_id & ERROR),
            "own": bool(frame.flags & OWN),
            "data": frame.data.hex().upper(),
        },
        separators=(",", ":"),
    )
