"""``labctl can replay``: a recorded log on a bench's bus."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from labd.cli.completion import complete_benches, complete_buses
from labd.cli.exits import ExitCode, Failure
from labd.cli.leasing import open_bench, using
from labd.cli.options import can_filter, lease_options
from labd.cli.progress import Progress
from labd.cli.session import Session, pass_session
from labd.client import Heartbeats

if TYPE_CHECKING:
    from bench_agent.client import ReplayProgress

_SAY_S = 1.0
"""How often progress is told: a log of hours must not fill a CI job's."""


@click.command()
@click.argument("bench_name", metavar="BENCH", shell_complete=complete_benches)
@click.argument("bus_name", metavar="BUS", shell_complete=complete_buses)
@click.argument("log", metavar="FILE", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--speed", type=click.FloatRange(min=0, min_open=True, max=1000), default=1.0, show_default=True,
    help="2: twice as fast as recorded.",
)  # fmt: skip
@click.option("--as-fast-as-possible", "flat_out", is_flag=True, help="As fast as the bus takes the frames.")
@click.option("--loop", type=click.IntRange(min=1), default=1, show_default=True, help="So many times over.")
@click.option("--channel", metavar="NAME", help="Only frames that the log has on this channel: 1, can0, ...")
@click.option(
    "--filter",
    "filters",
    type=can_filter,
    multiple=True,
    metavar="ID[:MASK]",
    help="Only frames that match, hexadecimal; eight digits mean a 29-bit ID. May be repeated.",
)
@lease_options
@pass_session
def replay(
    session: Session,
    bench_name: str,
    bus_name: str,
    log: Path,
    speed: float,
    flat_out: bool,
    loop: int,
    channel: str | None,
    filters: tuple[tuple[int, int], ...],
    lease_id: str | None,
    timeout_s: float | None,
    holder: str,
    priority: str,
) -> None:
    """Play a BLF, ASC or candump log on a bus, with the times of the log.

    \b
      labctl can replay bench-1 powertrain drive.blf
      labctl can replay bench-1 powertrain drive.asc --channel 2 --speed 0.5 --loop 10

    The bench's agent keeps the time; at the end, stderr tells how many frames were sent, and how late the latest was.
    Leases the bench and releases it at the end; with --lease, a lease that you hold is used.

    Ends with 1 when the bus did not take some of the frames.
    """
    lab = session.lab
    holding = using(lab, bench_name, lease_id=lease_id, holder=holder, priority=priority, timeout_s=timeout_s)
    with holding as (lease, heartbeats), Progress() as progress:
        from bench_agent.client import FrameFilter

        said = time.monotonic()

        def told(now: "ReplayProgress") -> None:
            nonlocal said
            _still_held(heartbeats)
            if time.monotonic() - said >= _SAY_S:
                said = time.monotonic()
                progress.state(f"{now.sent} frames sent, {now.position_s:.0f} s into the log")

        with open_bench(lab, lease, bench_name) as bench:
            end = bench.bus(bus_name).replay(
                log,
                speed=0 if flat_out else speed,
                filters=[FrameFilter(identifier, mask) for identifier, mask in filters],
                channel=channel,
                loop=loop,
                on_progress=told,
            )
        progress.done()
    starved = f", {end.starved} times out of supply" if end.starved else ""
    click.echo(f"{end.sent} frames sent, {end.failed} refused, at most {end.late_ms:.1f} ms late{starved}", err=True)
    if end.failed:
        raise Failure(f"the bus did not take {end.failed} frames: {end.error}", ExitCode.FAILED)


def _still_held(heartbeats: Heartbeats) -> None:
    if heartbeats.lost.is_set():
        raise Failure(f"the lease is lost: {heartbeats.reason}", ExitCode.REFUSED)
