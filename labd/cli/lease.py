"""``labctl lease``: the right to a bench."""

import click

from labd.cli.completion import complete_leases
from labd.cli.exits import ExitCode, Failure, Interrupted
from labd.cli.filters import owner_options, selector_filter, span_options
from labd.cli.lease_holding import extend, share, transfer, unshare, why
from labd.cli.leasing import TTL_S, place, releasing, wait_until_granted, waiting, warn
from labd.cli.options import (
    affinity_option,
    duration,
    holder_option,
    moment,
    priority_option,
    selector_and_benches,
    selectors_option,
    team_option,
)
from labd.cli.output import ago, format_option, print_json, print_record, print_table, to_the_second, without_token
from labd.cli.output import duration as duration_text
from labd.cli.progress import Progress
from labd.cli.session import Session, pass_session
from labd.client import HELD, OVER, Heartbeats, Lease, end_text
from labd.client.types import WantedBenches

UNATTENDED_TTL_S = 3600.0
"""The longest TTL that labd grants: for leases to which nobody sends heartbeats."""
_STATES = ["QUEUED", "GRANTED", "ACTIVE", "ENDING", "ENDED"]


@click.group()
def lease() -> None:
    """Lease benches: acquire, book, renew, extend, share, transfer, release, list; ask why one waits."""


for _command in (extend, transfer, share, unshare, why):
    lease.add_command(_command)


@lease.command()
@selectors_option
@team_option
@affinity_option
@click.option(
    "--idle", "held", is_flag=True, help="It needs no heartbeats; it ends when you have not used it for a while."
)
@click.option(
    "--duration",
    "duration_s",
    type=duration,
    default="30m",
    show_default=True,
    metavar="TIME",
    help="How long it may last once granted: 30m, 1h30m, 90s.",
)
@click.option(
    "--ttl",
    "ttl_s",
    type=duration,
    metavar="TIME",
    show_default="30s with --hold, else --duration, an hour at most",
    help="It ends when no heartbeat came for this long.",
)
@click.option("--wait/--no-wait", default=True, show_default=True, help="Wait in the queue until a bench is free.")
@click.option("--timeout", "timeout_s", type=duration, metavar="TIME", help="Give up waiting, and leave the queue.")
@click.option("--hold", is_flag=True, help="Stay in the foreground and keep it alive; Ctrl-C releases it.")
@holder_option
@priority_option
@format_option
@pass_session
def acquire(
    session: Session,
    wanted: tuple[WantedBenches, ...],
    same_site: bool,
    team: str | None,
    affinity: str,
    held: bool,
    duration_s: float,
    ttl_s: float | None,
    wait: bool,
    timeout_s: float | None,
    hold: bool,
    holder: str,
    priority: str,
    as_json: bool,
) -> None:
    """Lease a bench, or several at once, and say how to use it.

    A lease lives on heartbeats. With --hold, labctl sends them, and the bench is free within 30 s should labctl die.
    Without --hold nobody does, so the --ttl is long: the lease stays until you release it, or its --duration is over,
    or an hour passes without a 'labctl lease renew'. Ctrl-C while waiting leaves the queue.
    """
    if hold and not wait:
        raise click.UsageError("--hold needs the lease to be granted: it does not go with --no-wait")
    if timeout_s is not None and not wait:
        raise click.UsageError("--timeout bounds the waiting: it does not go with --no-wait")
    lab = session.lab
    if ttl_s is None:
        ttl_s = TTL_S if hold else max(1.0, min(duration_s, UNATTENDED_TTL_S))
    selector, benches = selector_and_benches(wanted)
    asked = lab.create_lease(
        selector=selector,
        benches=benches,
        same_site=same_site,
        affinity=affinity,
        held=held,
        holder=holder,
        team=team,
        duration_s=duration_s,
        ttl_s=ttl_s,
        priority=priority,
    )
    with releasing(lab, asked) as release_at_end:
        if wait:
            with Progress(stdout_is_data=True) as progress:
                granted = wait_until_granted(lab, asked, progress, timeout_s)
        else:
            granted = asked
        if as_json:
            print_json(granted)
        else:
            print_record(_fields(granted) | usage(granted, session.url))
        if hold:
            _hold(session, granted)
        else:
            release_at_end.clear()


@lease.command()
@selectors_option
@team_option
@click.option(
    "--from",
    "starts_at",
    type=moment,
    required=True,
    metavar="TIME",
    help="2026-11-21T09:30 (this machine's time), 2026-11-21T09:30Z, 09:30 (the next), or +2h (from now).",
)
@click.option("--for", "duration_s", type=duration, required=True, metavar="TIME", help="30m, 1h30m.")
@holder_option
@priority_option
@format_option
@pass_session
def book(
    session: Session,
    wanted: tuple[WantedBenches, ...],
    same_site: bool,
    team: str | None,
    starts_at: str,
    duration_s: float,
    holder: str,
    priority: str,
    as_json: bool,
) -> None:
    """Book a bench, or several at once, from a time on.

    It is promised to you at once, or refused with the lease in the way and the next free slot. The lease begins and
    ends by itself then, and needs no heartbeats; when you do not use the bench for a while, it ends before, as with
    'acquire --idle'. 'labctl bench calendar BENCH' shows what is free; 'labctl lease release ID' gives the booking up.
    """
    selector, benches = selector_and_benches(wanted)
    booked = session.lab.create_lease(
        selector=selector,
        benches=benches,
        same_site=same_site,
        starts_at=starts_at,
        held=True,
        holder=holder,
        team=team,
        duration_s=duration_s,
        priority=priority,
    )
    if as_json:
        print_json(booked)
    else:
        print_record(_fields(booked) | usage(booked, session.url))


def _hold(session: Session, held: Lease) -> None:
    try:
        with Heartbeats(session.lab, held, warn) as heartbeats:
            click.echo("held until Ctrl-C", err=True)
            heartbeats.lost.wait()
    except KeyboardInterrupt as interrupt:
        if isinstance(interrupt, Interrupted):
            raise  # ended from outside, and the exit code says so
        click.echo("\nreleasing", err=True)
    else:
        raise Failure(f"lease {held['id']} is lost: {heartbeats.reason}", ExitCode.REFUSED)


@lease.command()
@click.argument("lease_id", metavar="ID", shell_complete=complete_leases)
@format_option
@pass_session
def renew(session: Session, lease_id: str, as_json: bool) -> None:
    """Send a lease one heartbeat: it lives for another TTL, up to its hard end."""
    renewed = session.lab.heartbeat(lease_id)
    if renewed["state"] in OVER:
        raise Failure(f"lease {lease_id} has ended: {end_text(renewed)}", ExitCode.REFUSED)
    if as_json:
        print_json(renewed)
    else:
        print_record(_fields(renewed))


@lease.command()
@click.argument("lease_ids", metavar="ID...", nargs=-1, required=True, shell_complete=complete_leases)
@click.option("--reason", default="", help="Why; needed for what another holds.")
@format_option
@pass_session
def release(session: Session, lease_ids: tuple[str, ...], reason: str, as_json: bool) -> None:
    """Give benches back, or leave the queue. Releasing an ended lease changes nothing."""
    ended = []
    try:
        for lease_id in lease_ids:
            one = session.lab.release(lease_id, reason)
            ended.append(one)
            if not as_json:
                click.echo(f"{one['id']} {_benches(one) or one['selector'] or 'any bench'}: {end_text(one)}")
    finally:
        if as_json and ended:
            print_json([without_token(one) for one in ended])


@lease.command("ls")
@click.option(
    "--state", type=click.Choice(_STATES, case_sensitive=False), help="Only those in this state; else the live ones."
)
@click.option("-a", "--all", "everything", is_flag=True, help="Ended ones too.")
@owner_options
@selector_filter
@span_options
@click.option("--limit", type=click.IntRange(1), help="The newest so many; else all.")
@format_option
@pass_session
def list_leases(
    session: Session,
    state: str | None,
    everything: bool,
    holder: str | None,
    team: str | None,
    selector: str | None,
    since: str | None,
    until: str | None,
    limit: int | None,
    as_json: bool,
) -> None:
    """List who holds what, and who waits."""
    states = [state] if state else [] if everything else [*HELD, "ENDING", "QUEUED"]
    leases = session.lab.leases(
        *states, holder=holder, team=team, selector=selector, since=since, until=until, limit=limit
    )
    if as_json:
        print_json(leases)
        return
    rows = [
        (
            one["id"],
            one["state"],
            _benches(one),
            one["holder"],
            one["selector"],
            one["priority"],
            _note(one),
        )
        for one in leases
    ]
    print_table(["lease", "state", "bench", "holder", "selector", "prio", "note"], rows, empty="no leases")


@lease.command("show")
@click.argument("lease_id", metavar="ID", shell_complete=complete_leases)
@format_option
@pass_session
def show_lease(session: Session, lease_id: str, as_json: bool) -> None:
    """Show a lease and how to use it. Only -o json has its token in it: whoever has the token has the bench."""
    found = session.lab.lease(lease_id)
    if as_json:
        print_json(found)
    else:
        print_record(_fields(found) | usage(found, session.url))


def _note(one: Lease) -> str:
    if one["state"] == "QUEUED":
        return f"booked, starts {ago(one['starts_at'])}" if one["starts_at"] else place(one["position"])
    if one["state"] not in HELD:
        return end_text(one)
    return f"wanted back {ago(one['revoke_at'])}" if one["revoke_at"] else f"ends {ago(one['expires_at'])}"


def _benches(one: Lease) -> str:
    return ", ".join(bench["name"] for bench in one["benches"])


def _fields(one: Lease) -> dict[str, str]:
    notes = {
        "QUEUED": ", booked" if one["starts_at"] else f", {waiting(one)}",
        "ENDING": f", {end_text(one)}; its benches are being cleaned up",
        "ENDED": f" {ago(one['ended_at'])}: {end_text(one)}",
    }
    live, several = one["state"] in HELD, len(one["benches"]) > 1
    return {
        "lease": one["id"],
        "state": f"{one['state']}{notes.get(one['state'], '')}",
        "bench": "\n".join(f"{bench['name']} at {bench['address']}" for bench in one["benches"])
        if several and live
        else _benches(one),
        "address": one["address"] or "",
        "selector": one["selector"],
        "holder": one["holder"],
        "team": one["team"] if one["team"] != "default" else "",
        "priority": one["priority"] if one["priority"] != "normal" else "",
        "booked": f"{', '.join(one['reserved'])} from {to_the_second(one['starts_at'])} ({ago(one['starts_at'])}) "
        f"for {duration_text(one['duration_s'])}"
        if one["starts_at"] and one["reserved"]
        else "",
        "to end": f"{ago(one['revoke_at'])}: {one['revoke_reason']}" if live and one["revoke_at"] else "",
        "idle": f"released {ago(one['idle_release_at'])} unless used" if live and one["idle_release_at"] else "",
        "shared": "\n".join(f"with {each['holder']} ({each['mode']})" for each in one.get("shares", [])),
        "ends": f"{one['expires_at']} ({ago(one['expires_at'])})" if live else "",
        "heartbeat": f"due {ago(one['heartbeat_by'])}" if one["state"] not in OVER and not one["held"] else "",
    }


def usage(one: Lease, url: str) -> dict[str, str]:
    """How to go on with a lease of the lab at `url`: commands, and what opens its benches in Python."""
    if one["state"] == "QUEUED":
        return {"then": f"labctl lease show {one['id']}\nlabctl lease release {one['id']}"}
    if one["state"] not in HELD:
        return {}
    secure = url.startswith("https:")
    uses = [
        line
        for bench in one["benches"]
        for line in (
            f"labctl uds {bench['name']} ECU 22F190 --lease {one['id']}",
            f"labctl can dump {bench['name']} BUS --lease {one['id']}",
            f'BenchClient("{bench["address"]}", "{bench["name"]}", token{", tls=tls" if secure else ""})'
            f"  # token: labctl lease show {one['id']} -o json"
            + (f'; tls: lab.agent_tls("{one["id"]}", "{bench["name"]}")' if secure else ""),
        )
    ]
    return {"use it": "\n".join(uses), "end it": f"labctl lease release {one['id']}"}
