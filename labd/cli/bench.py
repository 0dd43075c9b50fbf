"""``labctl bench``: what benches there are."""

import time

import click

from labd.cli.completion import complete_benches
from labd.cli.exits import ExitCode, Failure
from labd.cli.filters import owner_options
from labd.cli.options import duration
from labd.cli.output import ago, format_option, labels, print_json, print_record, print_table, to_the_second
from labd.cli.output import duration as duration_text
from labd.cli.session import Session, pass_session
from labd.cli.versions import if_match_option, with_etag
from labd.client import Bench, Bus, Did, PowerChannel

_CLEAR_WAIT_S = 20.0
"""How long the agent may take to bring a bench to its safe state."""
_CLEAR_POLL_S = 0.25


@click.group()
def bench() -> None:
    """Look at the benches and their calendars; take them out of service and back."""


@bench.command("ls")
@click.option("-l", "--selector", metavar="SELECTOR", default="", help="Only those whose labels match: platform=meb")
@click.option("--state", metavar="STATE", help="Only those in this state: available, leased, drained, ...")
@click.option("--health", metavar="HEALTH", help="Only those of this health: healthy, unhealthy, quarantined, ...")
@owner_options
@click.option("--agent", metavar="NAME", help="Only those at this agent.")
@format_option
@pass_session
def list_benches(
    session: Session,
    selector: str,
    state: str | None,
    health: str | None,
    holder: str | None,
    team: str | None,
    agent: str | None,
    as_json: bool,
) -> None:
    """List the benches."""
    benches = session.lab.benches(
        selector or None,
        states=[state] if state else [],
        health=[health] if health else [],
        holder=holder,
        team=team,
        agent=agent,
    )
    if as_json:
        print_json(benches)
        return
    rows = [
        (
            one["name"],
            one["state"],
            one["health"],
            one["holder"] or "",
            ",".join(ecu["name"] for ecu in one["ecus"]),
            labels(one["labels"]),
            "; ".join(filter(None, (one["health_reason"], _draining(one)))),
        )
        for one in benches
    ]
    headings = ["bench", "state", "health", "holder", "ecus", "labels", "reason"]
    filtered = selector or state or health or holder or team or agent
    empty = "no bench is like that" if filtered else "no bench has ever attached to this labd"
    if selector and filtered == selector:
        empty = f"no bench matches {selector!r}"
    print_table(headings, rows, empty=empty)


@bench.command("show")
@click.argument("bench_name", metavar="BENCH", shell_complete=complete_benches)
@format_option
@pass_session
def show_bench(session: Session, bench_name: str, as_json: bool) -> None:
    """Show a bench: its labels, state, buses, ECUs, consoles, power channels and adapters."""
    found = session.lab.bench(bench_name)
    if as_json:
        print_json(with_etag(found))
    else:
        print_record(_fields(found))


@bench.command("calendar")
@click.argument("bench_name", metavar="BENCH", shell_complete=complete_benches)
@click.option(
    "--for",
    "duration_s",
    type=duration,
    default="1h",
    show_default=True,
    metavar="TIME",
    help="How long you would like to have it: when it is next free for so long.",
)
@format_option
@pass_session
def show_calendar(session: Session, bench_name: str, duration_s: float, as_json: bool) -> None:
    """Show who has a bench when, and when it is next free.

    A lease is shown until its hard end, which most do not reach. 'kept': free for whoever has waited longest.
    """
    found = session.lab.calendar(bench_name, duration_s)
    if as_json:
        print_json(found)
        return
    rows = [
        (
            to_the_second(one["starts_at"]),
            to_the_second(one["ends_at"]),
            one["taken"],
            one["holder"] or "another team",
            one["lease_id"] or "",
        )
        for one in found["entries"]
    ]
    empty = f"nobody has {bench_name}, and nobody has booked it"
    print_table(["from", "until", "taken", "holder", "lease"], rows, empty=empty)
    start = found["next_free"]
    when = f"from {to_the_second(start)} ({ago(start)})" if start else "never, as things are"
    click.echo(f"free for {duration_text(duration_s)}: {when}")


@bench.command("clear")
@click.argument("bench_name", metavar="BENCH", shell_complete=complete_benches)
@click.option("--reason", default="", help="What you have found; kept in the audit log.")
@pass_session
def clear_quarantine(session: Session, bench_name: str, reason: str) -> None:
    """End the quarantine of a bench that you have looked at.

    Its agent brings the bench to its safe state once more; when that fails again, the quarantine stays.
    """
    session.lab.clear_quarantine(bench_name, reason)
    deadline = time.monotonic() + _CLEAR_WAIT_S
    while (found := session.lab.bench(bench_name))["health"] == "quarantined":
        if time.monotonic() >= deadline:
            raise Failure(
                f"{bench_name} is still in quarantine after {_CLEAR_WAIT_S:g} s: {found['health_reason']}",
                ExitCode.REFUSED,
            )
        time.sleep(_CLEAR_POLL_S)
    click.echo(f"{bench_name} is {found['health']}")


@bench.command("drain")
@click.argument("bench_name", metavar="BENCH", shell_complete=complete_benches)
@click.option("--reason", default="", help="Told to those who wait, and kept in the audit log.")
@if_match_option
@pass_session
def drain_bench(session: Session, bench_name: str, reason: str, if_match: str | None) -> None:
    """Keep new leases from a bench; a present one ends as planned."""
    _tell_drain(session.lab.drain_bench(bench_name, reason, if_match=if_match))


@bench.command("undrain")
@click.argument("bench_name", metavar="BENCH", shell_complete=complete_benches)
@click.option("--reason", default="", help="Kept in the audit log.")
@if_match_option
@pass_session
def undrain_bench(session: Session, bench_name: str, reason: str, if_match: str | None) -> None:
    """Let a bench be leased again."""
    _tell_drain(session.lab.undrain_bench(bench_name, reason, if_match=if_match))


def _tell_drain(found: Bench) -> None:
    why = f" ({found['drain_reason']})" if found["drain_reason"] else ""
    rest = f", and gets no new lease{why}" if found["draining"] else ""
    click.echo(f"{found['name']} is {found['state']}{rest}")


def _draining(bench: Bench) -> str:
    """That it gets no new lease, and why; empty when it does."""
    why = f": {bench['drain_reason']}" if bench["drain_reason"] else ""
    return f"draining{why}" if bench["draining"] else ""


def _fields(bench: Bench) -> dict[str, str]:
    equipment = bench["equipment"]
    return {
        "bench": bench["name"],
        "state": ", ".join(filter(None, (bench["state"], _draining(bench)))),
        "health": f"{bench['health']}: {bench['health_reason']}" if bench["health_reason"] else bench["health"],
        "holder": f"{bench['holder']} (lease {bench['lease_id']})" if bench["lease_id"] else "",
        "labels": labels(bench["labels"]),
        "agent": f"{bench['agent']} at {bench['address']}, last heard of {ago(bench['last_seen']) or 'never'}",
        "epoch": str(bench["epoch"]),
        "last clean-up": "\n".join(
            f"{step['name']}: {step['fault'] or 'done'} ({step['elapsed_ms']} ms)" for step in bench["last_clean_up"]
        ),
        "buses": "\n".join(
            f"{bus['name']}: {bus['interface']} {bus['channel']}{', CAN FD' if bus['fd'] else ''}, {_condition(bus)}"
            + (f", messages {', '.join(bus['messages'])}" if bus["messages"] else "")
            for bus in bench["buses"]
        ),
        "ecus": "\n".join(
            f"{ecu['name']}: on {ecu['bus']}, request {_can_id(ecu['request_id'])}, "
            f"response {_can_id(ecu['response_id'])}{', simulated' if ecu['simulated'] else ''}"
            + "".join(f"\n  {did['did']:04X}  {did['name']}  {did['type']}{_unit(did)}" for did in ecu["dids"])
            for ecu in bench["ecus"]
        ),
        "consoles": "\n".join(
            f"{console['name']}: {console['port']}, {console['baudrate']} bit/s" for console in equipment["consoles"]
        ),
        "power": "\n".join(
            f"{channel['name']}: {_terminal(channel)}{channel['supply']} ({channel['driver']}), {_reading(channel)}"
            for channel in equipment["power"]
        ),
        "adapters": "\n".join(
            f"{adapter['name']}: {adapter['driver']}, methods {', '.join(adapter['methods'])}"
            for adapter in equipment["adapters"]
        ),
    }


def _terminal(channel: PowerChannel) -> str:
    return f"terminal {channel['terminal'].removeprefix('kl')}, " if channel["terminal"] else ""


def _condition(bus: Bus) -> str:
    counts = [
        f"{count} {what}" for count, what in ((bus["error_frames"], "error frames"), (bus["lost"], "lost")) if count
    ]
    return ", ".join([bus["state"], *counts])


def _reading(channel: PowerChannel) -> str:
    values = ((channel["measured_voltage"], "V"), (channel["measured_current"], "A"))
    measured = " ".join(f"{value:g} {unit}" for value, unit in values if value is not None)
    return channel["state"] + (f", {measured} {ago(channel['measured_at'])}" if measured else "")


def _unit(did: Did) -> str:
    return f" in {did['unit']}" if did["unit"] else ""


def _can_id(identifier: int) -> str:
    """As candump writes it: three digits, or eight for a 29-bit one (bit 31 set)."""
    return f"{identifier & 0x1FFF_FFFF:08X}" if identifier & 0x8000_0000 else f"{identifier:03X}"
