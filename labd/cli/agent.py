"""``labctl agent``: which agents there are, who may join, and who may not any more."""

import click

from labd.cli.filters import span_options
from labd.cli.options import duration
from labd.cli.output import ago, format_option, print_json, print_record, print_table
from labd.cli.session import Session, pass_session
from labd.client import Agent


@click.group()
def agent() -> None:
    """Enrol, list, drain and revoke bench agents."""


@agent.command("ls")
@click.option("--state", metavar="STATE", help="Only those in this state: invited, enrolled, revoked, unproved.")
@span_options
@format_option
@pass_session
def list_agents(session: Session, state: str | None, since: str | None, until: str | None, as_json: bool) -> None:
    """List the agents; --since and --until go by when they were last heard of."""
    agents = session.lab.agents(*([state] if state else []), since=since, until=until)
    if as_json:
        print_json(agents)
        return
    rows = [
        (
            one["name"],
            one["state"] + (", draining" if one["draining"] else ""),
            one["address"] or "away",
            ago(one["last_seen"]),
            one["certificate_expires_at"] or "",
            ",".join(one["benches"]),
        )
        for one in agents
    ]
    headings = ["agent", "state", "address", "last seen", "certificate until", "benches"]
    print_table(headings, rows, empty="no agent was enrolled; make a token for one with: labctl agent enrol NAME")


@agent.command("show")
@click.argument("name")
@format_option
@pass_session
def show_agent(session: Session, name: str, as_json: bool) -> None:
    """Show an agent, its certificate and its benches."""
    found = session.lab.agent(name)
    if as_json:
        print_json(found)
    else:
        print_record(_fields(found))


@agent.command("enrol")
@click.argument("name")
@click.option(
    "--for",
    "lifetime_s",
    type=duration,
    default="1h",
    show_default=True,
    metavar="TIME",
    help="How long it may be used: a week at most.",
)
@format_option
@pass_session
def enrol_agent(session: Session, name: str, lifetime_s: float, as_json: bool) -> None:
    """Make a one-time token with which the agent NAME can enrol: new, or anew.

    The token has the fingerprint of labd's certificate authority in it: the agent gives it to this labd only. Of an
    agent that was enrolled before, the present certificate is void once the token is used.
    """
    made = session.lab.invite_agent(name, lifetime_s)
    if as_json:
        print_json(made)
        return
    click.echo(made["token"])
    click.echo(f"\nOn the machine of {name}, before {made['expires_at']}, once:", err=True)
    click.echo(f"  bench-agent enrol agent.yaml --labd {session.lab.url} --token TOKEN", err=True)


@agent.command("revoke")
@click.argument("name")
@click.option("--reason", required=True, help="Goes into the audit log, and to the agent.")
@pass_session
def revoke_agent(session: Session, name: str, reason: str) -> None:
    """Put an agent out at once: its stream, the leases of its benches, and its certificate.

    It comes back only with a new token.
    """
    revoked = session.lab.revoke_agent(name, reason)
    click.echo(f"agent {revoked['name']} is revoked")


@agent.command("drain")
@click.argument("name")
@click.option("--reason", default="", help="Told to those who wait, and kept in the audit log.")
@pass_session
def drain_agent(session: Session, name: str, reason: str) -> None:
    """Keep new leases from an agent's benches, and from those that it attaches later; present ones end as planned."""
    found = session.lab.drain_agent(name, reason)
    click.echo(f"agent {name} is drained: {', '.join(found['benches']) or 'its benches'} get no new lease")


@agent.command("undrain")
@click.argument("name")
@click.option("--reason", default="", help="Kept in the audit log.")
@pass_session
def undrain_agent(session: Session, name: str, reason: str) -> None:
    """Let an agent's benches be leased again, but for those that are drained by themselves."""
    session.lab.undrain_agent(name, reason)
    click.echo(f"agent {name} is not drained any more")


def _fields(one: Agent) -> dict[str, str]:
    revoked = f"{one['revoked_at']} by {one['revoked_by']}: {one['revoked_reason']}" if one["revoked_at"] else ""
    return {
        "agent": one["name"],
        "state": one["state"],
        "address": one["address"] or "away",
        "last seen": ago(one["last_seen"]) or "never",
        "draining": (one["drain_reason"] or "yes") if one["draining"] else "",
        "benches": ", ".join(one["benches"]),
        "enrolled": one["enrolled_at"] or "",
        "certificate until": one["certificate_expires_at"] or "",
        "token until": one["invited_until"] or "",
        "revoked": revoked,
    }
