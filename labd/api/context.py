"""What the routes depend on."""

from typing import Annotated

from fastapi import Depends, Path, Query
from fastapi.requests import HTTPConnection

from labd.api.guard import REASON_LENGTH_MAX, admission_to, bearer
from labd.api.times import to_seconds
from labd.model.filters import Filter, Span
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


def _span(
    since: Annotated[
        str | None,
        Query(
            max_length=64,
            description="Only from then on (RFC 3339): by when it was created, done, or last heard of.",
            examples=["2026-11-21T09:30:00Z"],
        ),
    ] = None,
    until: Annotated[
        str | None,
        Query(max_length=64, description="Only before then, as `since`.", examples=["2026-11-21T17:30:00Z"]),
    ] = None,
) -> Span:
    span = Span(_moment("since", since), _moment("until", until))
    if span.since is not None and span.until is not None and span.until < span.since:
        message = "expected a time after `since`"
        raise Invalid(f"until: {message}", FieldError("until", until, message))
    return span


def _moment(field: str, text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return to_seconds(text)
    except ValueError as error:
        hint = " (write + as %2B in a URL)" if " " in text.strip() else ""
        raise Invalid(f"{field} is {text!r}: {error}{hint}", FieldError(field, text, f"{error}{hint}")) from None


SpanOf = Annotated[Span, Depends(_span)]
"""`since` and `until` of a list."""
TeamFilter = Annotated[
    str | None, Query(min_length=1, max_length=63, description="Only this team's.", examples=["powertrain"])
]
HolderFilter = Annotated[
    str | None, Query(min_length=1, max_length=200, description="Only this holder's.", examples=["ada"])
]


def _filter(
    actor: ActorOf,
    span: SpanOf,
    holder: HolderFilter = None,
    team: TeamFilter = None,
    selector: Annotated[
        str, Query(description="Only with a bench whose labels match this selector.", examples=["platform=meb"])
    ] = "",
) -> Filter:
    return Filter(holder=holder, team=team, selector=selector, created=span, teams=actor.teams())


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


def _runner(lab: LabOf, run_id: RunId, connection: HTTPConnection) -> int:
    return lab.reporting.authorise(run_id, bearer(connection.scope))


RunnerOnly = Depends(_runner)
AttemptOf = Annotated[int, RunnerOnly]
"""Of the runner that asks."""
