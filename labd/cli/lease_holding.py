"""``labctl lease extend|transfer|share|unshare|why``: what becomes of a lease, and what keeps it waiting."""

import click

from labd.cli.completion import complete_leases
from labd.cli.options import duration
from labd.cli.output import ago, format_option, print_json, print_record, to_the_second
from labd.cli.session import Session, pass_session
from labd.client.types import BenchInQuestion, LeaseWhy, ShareMode

_WHY = {
    "unusable": "cannot be used",
    "draining": "is drained",
    "failed_before": "failed this request before",
    "held": "is held",
    "cleaning_up": "is being cleaned up",
    "promised": "is promised",
    "booked": "is booked before this lease would surely be over",
    "free": "is free; others are missing, or somebody ahead gets it",
}


@click.command()
@click.argument("lease_id", metavar="ID", shell_complete=complete_leases)
@click.argument("by_s", metavar="TIME", type=duration)
@format_option
@pass_session
def extend(session: Session, lease_id: str, by_s: float, as_json: bool) -> None:
    """Put the end of a lease off by TIME: 30m, 1h30m.

    Refused beyond what the lab's policy allows, and where somebody has booked the bench, who is then named. What
    uses the lease goes on with the tokens that it has.
    """
    extended = session.lab.extend(lease_id, by_s)
    if as_json:
        print_json(extended)
    else:
        click.echo(f"{lease_id} ends {extended['expires_at']} ({ago(extended['expires_at'])})")


@click.command()
@click.argument("lease_id", metavar="ID", shell_complete=complete_leases)
@click.option("--to", "holder", required=True, metavar="NAME", help="Who gets it.")
@click.option("--team", metavar="TEAM", help="Whose quota pays from now on. Without it: the same as before.")
@pass_session
def transfer(session: Session, lease_id: str, holder: str, team: str | None) -> None:
    """Give a lease to another person or team.

    The bench is brought to its safe state in between, and your token is refused from then on.
    """
    given = session.lab.transfer(lease_id, holder, team)
    click.echo(f"{lease_id} is {given['holder']}'s (team {given['team']})")


@click.command()
@click.argument("lease_id", metavar="ID", shell_complete=complete_leases)
@click.option("--with", "holder", required=True, metavar="NAME", help="Who may join.")
@click.option(
    "--as",
    "mode",
    type=click.Choice(["observer", "co-driver"]),
    default="observer",
    show_default=True,
    help="An observer looks on; a co-driver acts as well.",
)
@format_option
@pass_session
def share(session: Session, lease_id: str, holder: str, mode: ShareMode, as_json: bool) -> None:
    """Let somebody join you on your benches until the lease ends.

    Only -o json has the tokens in it, which are for them: whoever has such a token is on the bench.
    """
    shared = session.lab.share(lease_id, holder, mode)
    if as_json:
        print_json(shared)
        return
    names = ", ".join(bench["name"] for bench in shared["benches"])
    click.echo(f"{holder} may join you on {names} as {mode} until {shared['expires_at']}")


@click.command()
@click.argument("lease_id", metavar="ID", shell_complete=complete_leases)
@click.argument("holder", metavar="WHO")
@click.option("--reason", default="", help="Why; needed for what another holds.")
@pass_session
def unshare(session: Session, lease_id: str, holder: str, reason: str) -> None:
    """Take back what WHO may do on your benches beside you.

    Their calls end at once, and the tokens that they have are refused. What they left running goes on.
    """
    left = session.lab.unshare(lease_id, holder, reason)
    others = ", ".join(one["holder"] for one in left.get("shares", []))
    click.echo(f"{lease_id} is not shared with {holder} any more" + (f", with {others} still" if others else ""))


@click.command()
@click.argument("lease_id", metavar="ID", shell_complete=complete_leases)
@format_option
@pass_session
def why(session: Session, lease_id: str, as_json: bool) -> None:
    """Say why a lease waits: its place, who is ahead, what keeps each bench from it, and when it may start."""
    found = session.lab.why(lease_id)
    if as_json:
        print_json(found)
    else:
        print_record(_fields(found))


def _fields(found: LeaseWhy) -> dict[str, str]:
    expected = found["expected_start"]
    booked = found["position"] is None
    estimate = "as booked" if booked else "by how long recent leases lasted"
    fields = {
        "lease": found["id"],
        "position": "a booking: in no queue" if booked else str(found["position"]),
        "ahead": "\n".join(found["ahead"]) or ("" if booked else "nobody who wants the same benches"),
        "start": f"{ago(expected)}, {estimate}" if expected else "never, as things are",
        "held for it": f"from {found['held_for_it_from']} on" if found["held_for_it_from"] else "",
        "quota": found["quota"] or "",
        "limit": found["limit"] or "",
    }
    for number, part in enumerate(found["parts"], start=1):
        lines = [f"{part['count']} of {part['selector'] or 'any bench'}"]
        lines += [f"{term} excludes {', '.join(names)}" for term, names in part["excluded"].items() if names]
        lines += [_line(bench, found["id"], booked) for bench in part["matching"]]
        fields["wants" if len(found["parts"]) == 1 else f"wants {number}"] = "\n".join(lines)
    fields["one site"] = "\n".join(
        f"{site or 'no site'} has too few of {', '.join(selectors)}" if selectors else f"{site or 'no site'} would do"
        for site, selectors in found["short_of"].items()
    )
    return fields


def _line(bench: BenchInQuestion, lease_id: str, booked: bool) -> str:
    until = f" until {to_the_second(bench['until'])} at the latest ({ago(bench['until'])})" if bench["until"] else ""
    if bench["by"] == lease_id:
        return f"{bench['bench']} is promised to it"
    if booked and bench["why"] == "free":
        return f"{bench['bench']} is free then"
    line = f"{bench['bench']} {_WHY[bench['why']]}" + (f": {bench['detail']}" if bench["detail"] else "")
    if not bench["by"]:
        return line + until
    who = "for" if bench["why"] == "promised" else "held by" if bench["why"] == "draining" else "by"
    return f"{line}, {who} {bench['by']}{until}"
