"""``labctl policy``: who may ask for what, how much of it, and for how long."""

from typing import TextIO

import click

from labd.cli.output import duration, format_option, print_json, print_record
from labd.cli.session import Session, pass_session
from labd.cli.versions import taken, with_etag
from labd.client.types import Policy


@click.group()
def policy() -> None:
    """Show or replace the lab's policy."""


@policy.command("show")
@format_option
@pass_session
def show_policy(session: Session, as_json: bool) -> None:
    """Show the policy; -o json is the document that 'apply' takes."""
    found = session.lab.policy()
    if as_json:
        print_json(with_etag(found))
    else:
        print_record(_fields(found))


@policy.command("apply")
@click.argument("file", type=click.File(encoding="utf-8"))
@pass_session
def apply_policy(session: Session, file: TextIO) -> None:
    """Replace the policy by the one in a JSON FILE. What it leaves out has its default.

    A file that 'show -o json' has made has the `etag` of that version: it is refused when somebody has changed the
    policy since. Without `etag`, it replaces whatever there is. All mistakes are named at once, and nothing changes
    then.
    """
    document, etag = taken(file)
    session.lab.put_policy(document, if_match=etag)
    click.echo("the policy holds from now on")


def _fields(found: Policy) -> dict[str, str]:
    classes = [
        f"{one['name']}: rank {one['rank']}, for {one['role']}s"
        + (f" of {', '.join(one['teams'])}" if one["teams"] is not None else "")
        + (", preempts" if one["may_preempt"] else "")
        + (", can be preempted" if one["preemptible"] else "")
        for one in found["classes"]
    ]
    teams = [
        ", ".join(
            [f"{one['name']}: weight {one['weight']:g}"]
            + ([f"{one['benches']} benches at once"] if one["benches"] is not None else [])
            + (
                [f"{one['bench_hours_per_week']:g} bench-hours a week"]
                if one["bench_hours_per_week"] is not None
                else []
            )
            + ([f"classes {' '.join(one['classes'])}"] if one["classes"] is not None else [])
            + ([f"leases up to {one['longest_lease_s']:g} s"] if one["longest_lease_s"] is not None else [])
        )
        for one in found["teams"]
    ]
    lasts = {name: duration(value) for name, value in found.items() if isinstance(value, int | float)}
    return {
        "classes": "\n".join(classes),
        "teams": "\n".join(teams) or "all alike, without bounds",
        "longest lease": lasts["longest_lease_s"],
        "waits at most": f"{lasts['ageing_bound_s']}, then nobody who came later goes first",
        "idle release": f"{lasts['idle_release_s']} without use, told {lasts['idle_notice_s']} before",
        "preemption": f"{lasts['preemption_grace_s']} after the notice",
        "bookings": f"{lasts['booking_horizon_s']} ahead, {lasts['clean_up_s']} kept free before one",
    }
