"""``labctl doctor``: what is wrong with the lab, and what to do about it."""

import click

from labd.cli.exits import ExitCode
from labd.cli.output import format_option, print_json, print_table
from labd.cli.session import Session, pass_session


@click.command()
@format_option
@pass_session
def doctor(session: Session, as_json: bool) -> None:
    """Look at the lab: configuration, database, disk, agents and their clocks, certificates, InfluxDB, clusters.

    Each finding says what to do about it. Ends with 1 when there is an error among them, and with 0 when there are
    warnings at most. For operators of the whole lab. Of several labds of one lab, this is about the one that answers.
    """
    checks = session.lab.doctor()["checks"]
    if as_json:
        print_json(checks)
    else:
        rows = [[check["state"], check["name"], check["message"], check["remedy"]] for check in checks]
        print_table(["state", "what", "found", "what to do"], rows, empty="nothing was looked at")
    if any(check["state"] == "error" for check in checks):
        raise click.exceptions.Exit(ExitCode.FAILED)
