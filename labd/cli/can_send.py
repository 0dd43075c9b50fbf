"""``labctl can send`` and ``labctl can restbus``: what a bench's agent sends, once or by itself."""

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from labd.cli.can import candump_line
from labd.cli.completion import complete_benches, complete_buses
from labd.cli.exits import ExitCode, Failure, Interrupted
from labd.cli.leasing import open_bench, using
from labd.cli.options import duration, lease_options
from labd.cli.output import format_option, print_json, print_table
from labd.cli.session import Session, pass_session
from labd.client import Heartbeats

if TYPE_CHECKING:
    from bench_agent.client import CyclicState, Frame, RestBusClient

_TICK_S = 0.5
"""How often the lease and the bus are looked at while the agent sends."""
_EXTENDED = 0x8000_0000


@click.command()
@click.argument("bench_name", metavar="BENCH", shell_complete=complete_benches)
@click.argument("bus_name", metavar="BUS", shell_complete=complete_buses)
@click.argument("what", metavar="FRAME|MESSAGE")
@click.argument("signals", metavar="[SIGNAL=VALUE]...", nargs=-1)
@click.option("--cyclic", "period_s", type=duration, metavar="TIME", help="Again and again with this period: 10ms.")
@click.option("--for", "for_s", type=duration, metavar="TIME", help="With --cyclic: stop after this time.")
@click.option("--force", is_flag=True, help="Take values outside the DBC's bounds, as far as the signal's bits go.")
@lease_options
@pass_session
def send(
    session: Session,
    bench_name: str,
    bus_name: str,
    what: str,
    signals: tuple[str, ...],
    period_s: float | None,
    for_s: float | None,
    force: bool,
    lease_id: str | None,
    timeout_s: float | None,
    holder: str,
    priority: str,
) -> None:
    """Send a frame, or a message of the bus' DBC, once or cyclically.

    \b
      labctl can send bench-1 powertrain 123#1122
      labctl can send bench-1 powertrain 18DAF110##1AABBCC             29-bit ID, CAN FD with bit-rate switch
      labctl can send bench-1 powertrain EngineControl TargetSpeed=1500 --cyclic 10ms --for 30s

    Signals that are not given have the DBC's initial values. With --cyclic, the bench's agent keeps the period, until
    Ctrl-C (which ends with 0) or for the time given with --for. Leases the bench and releases it at the end; with
    --lease, a lease that you hold is used.

    Ends with 1 when the bus did not take some of the frames.
    """
    if for_s is not None and period_s is None:
        raise click.UsageError("--for goes with --cyclic")
    frame = _frame(what)
    if frame is not None and (signals or force):
        raise click.UsageError(f"{what} is a frame; signals and --force go with a message of the DBC")
    values = dict(map(_signal, signals))
    lab = session.lab
    holding = using(lab, bench_name, lease_id=lease_id, holder=holder, priority=priority, timeout_s=timeout_s)
    with holding as (lease, heartbeats), open_bench(lab, lease, bench_name) as bench:
        bus = bench.bus(bus_name)
        if period_s is None:
            if frame is not None:
                sent = frame._replace(timestamp_ns=bus.send(frame))
            else:
                sent = bus.send_message(what, values, force=force).frame
            click.echo(candump_line(bus_name, sent))
            return
        cyclic = bus.cyclic(frame if frame is not None else what, values, period_s=period_s, force=force)
        what = f"{cyclic.name} every {period_s * 1000:g} ms"
        _stay(what, heartbeats, for_s, lambda: cyclic.state, lambda: [cyclic.stop()])


@click.command()
@click.argument("bench_name", metavar="BENCH", shell_complete=complete_benches)
@click.argument("bus_name", metavar="BUS", shell_complete=complete_buses)
@click.option(
    "--dbc",
    "database",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="DBC, KCD, ARXML or SYM file instead of the bus' own database.",
)
@click.option("--except", "absent", multiple=True, metavar="NODE", help="A node that is really there. Repeatable.")
@click.option("--include", multiple=True, metavar="NODE", help="A node to simulate although the bench has that ECU.")
@click.option("--except-message", multiple=True, metavar="NAME", help="A message that is not sent. Repeatable.")
@click.option("--for", "for_s", type=duration, metavar="TIME", help="Stop after this time.")
@lease_options
@format_option
@pass_session
def restbus(
    session: Session,
    bench_name: str,
    bus_name: str,
    database: Path | None,
    absent: tuple[str, ...],
    include: tuple[str, ...],
    except_message: tuple[str, ...],
    for_s: float | None,
    lease_id: str | None,
    timeout_s: float | None,
    holder: str,
    priority: str,
    as_json: bool,
) -> None:
    """Simulate the rest of a bus: send every message of the database, until Ctrl-C.

    \b
      labctl can restbus bench-1 powertrain --except TCU
      labctl can restbus bench-1 powertrain --dbc vehicle.dbc --except ECM --for 10m

    Left out are the messages of the nodes that --except names and of the bench's own ECUs. The bench's agent keeps the
    cycle times. First lists the messages that are sent, and those that are not, with the reason. Leases the bench and
    releases it at the end; with --lease, a lease that you hold is used.

    Ends with 1 when the bus did not take some of the frames.
    """
    lab = session.lab
    holding = using(lab, bench_name, lease_id=lease_id, holder=holder, priority=priority, timeout_s=timeout_s)
    with holding as (lease, heartbeats), open_bench(lab, lease, bench_name) as bench:
        rest = bench.bus(bus_name).restbus(absent, include=include, except_messages=except_message, database=database)
        _list(rest, as_json=as_json)
        numbers = {state.id for state in rest.begun}

        def stop() -> "list[CyclicState]":
            states = [state for state in bench.traffic() if state.id in numbers]
            rest.stop()
            return states

        _stay(f"{len(rest.messages)} messages", heartbeats, for_s, bench.traffic, stop)


def _stay(
    what: str,
    heartbeats: Heartbeats,
    for_s: float | None,
    look: Callable[[], object],
    stop: "Callable[[], list[CyclicState]]",
) -> None:
    """Has the agent send for a time, or until Ctrl-C; ``look`` asks it, and raises if it cannot go on.

    Then stops it and sums up. Raises Failure when frames were refused or the lease is lost.
    """
    end = None if for_s is None else time.monotonic() + for_s
    interrupted: Interrupted | None = None
    try:
        click.echo(what + (", until Ctrl-C" if for_s is None else f", for {for_s:g} s"), err=True)
        while end is None or time.monotonic() < end:
            left = _TICK_S if end is None else max(0.0, min(_TICK_S, end - time.monotonic()))
            if heartbeats.lost.wait(left):
                raise Failure(f"the lease is lost: {heartbeats.reason}", ExitCode.REFUSED)
            look()
    except KeyboardInterrupt as interrupt:
        interrupted = interrupt if isinstance(interrupt, Interrupted) else None
    states = stop()
    failed, late = sum(state.failed for state in states), sum(state.late for state in states)
    click.echo(
        f"{sum(state.sent for state in states)} frames sent, {failed} refused, {late} left out as late", err=True
    )
    if interrupted is not None:
        raise interrupted
    if failed:
        error = next(state.error for state in states if state.failed)
        raise Failure(f"the bus did not take {failed} frames: {error}", ExitCode.FAILED)


def _list(rest: "RestBusClient", *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "messages": [
                    {
                        "name": state.message,
                        "id": state.can_id & ~_EXTENDED,
                        "extended": bool(state.can_id & _EXTENDED),
                        "period_s": state.period_s,
                        "on_change": state.on_change,
                    }
                    for state in rest.begun
                ],
                "left_out": [{"name": name, "reason": reason} for name, reason in rest.left_out],
            }
        )
        return
    print_table(
        ["message", "id", "cycle", "on events"],
        [
            (
                state.message,
                f"{state.can_id & ~_EXTENDED:08X}" if state.can_id & _EXTENDED else f"{state.can_id:03X}",
                f"{state.period_s * 1000:g} ms" if state.period_s else "",
                "yes" if state.on_change else "",
            )
            for state in rest.begun
        ],
        empty="no message is sent",
    )
    if rest.left_out:
        click.echo()
        print_table(["not sent", "why"], list(rest.left_out), empty="")


def _frame(text: str) -> "Frame | None":
    """A frame in candump's notation; None for the name of a message. Raises click.BadParameter."""
    if "#" not in text:
        return None
    from bench_agent.protocol import candump

    try:
        return candump.parse(f"(0.0) can {text}").frame
    except ValueError:
        raise click.BadParameter(
            f"{text!r} is no frame; write it as candump does: 123#1122, 18DAF110#0102, or 123##1AABB for CAN FD"
        ) from None


def _signal(text: str) -> tuple[str, int | float | str]:
    name, mark, value = text.partition("=")
    if not mark or not name:
        raise click.BadParameter(f"{text!r} is no signal; write NAME=VALUE, for example TargetSpeed=1500")
    if re.fullmatch(r"[+-]?\d+|0[xX][0-9a-fA-F]+", value):
        return name, int(value, 16 if value[:2].lower() == "0x" else 10)
    try:
        return name, float(value)
    except ValueError:
        return name, value
