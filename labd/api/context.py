"""What the routes depend on."""

from typing import Annotated

from fastapi import Depends, Path, Query
from fastapi.requests import HTTPConnection

from labd.api.guard import REASON_LENGTH_MAX, admission_to, bearer
from labd.api.times import to_seconds
from labd.model.filters import Filter
from labd.model.identity import Actor
from labd.services.errors import FieldError, Invalid
from labd.services.lab import Lab


def _lab(connection: HTTPConnection) -> Lab:
    lab: Lab = connection.app.state.lab
    return lab


LabOf = Annotated[Lab, Depends(_lab)]
LeaseId = Annotated[str, Path(max_length=64, examples=["l-5f3a9c01d2e4"])]
RunId = Annotated[str, Path(max_length=64, examples=["r-0b6e7715c9aa"])]


def _actor(connection: HTTPConnection) -> Actor:
    return admission_to(connection.scope).actor


ActorOf = Annotated[Actor, Depends(_actor)]
"""Who asks."""


def _filter(
    actor: ActorOf,
    holder: Annotated[str | None, Query(max_length=200, description="Only this holder's.", examples=["ada"])] = None,
    selector: Annotated[
        str, Query(description="Only with a bench whose labels match this selector.", examples=["platform=meb"])
    ] = "",
    since: Annotated[
        str | None,
        Query(max_length=64, description="Only created then or later (RFC 3339).", examples=["2026-11-21T09:30:00Z"]),
    ] = None,
) -> Filter:
    try:
        moment = None if since is None else to_seconds(since)
    except ValueError as error:
        raise Invalid(f"since: {error}", FieldError("since", since, str(error))) from None
    return Filter(holder=holder, selector=selector, since=moment, teams=actor.teams())


FilterOf = Annotated[Filter, Depends(_filter)]
"""What lists of leases and runs are filtered by, beside the state."""


def listed(connection: HTTPConnection) -> None:
    """Refuses a route that the authorisation table does not list."""
    admission_to(connection.scope)


def _reason(
    connection: HTTPConnection,
    _reason: Annotated[
        str | None,
        Query(
            alias="reason",
            max_length=REASON_LENGTH_MAX,
            description="Why: needed from those who force something on others, and kept in the audit log.",
        ),
    ] = None,
) -> str:
    return admission_to(connection.scope).reason


ReasonOf = Annotated[str, Depends(_reason)]
"""Why they do it, as far as they say."""


def _runner(lab: LabOf, run_id: RunId, connection: HTTPConnection) -> None:
    lab.running.authorise(run_id, bearer(connection.scope))


RunnerOnly = Depends(_runner)
