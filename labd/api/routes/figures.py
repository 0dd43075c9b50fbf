"""Figures of the last day."""

from http import HTTPStatus
from typing import Annotated

from fastapi import Query

from labd.api import schemas
from labd.api.context import ActorOf, LabOf, SpanOf
from labd.api.problems import responses
from labd.api.routing import Router
from labd.api.times import to_text
from labd.services.figures import Wish
from labd.telemetry.day_query import Aggregate

router = Router(prefix="/series", tags=["labd"])
SERIES_MAX = 200


@router.get("", responses=responses(HTTPStatus.CONFLICT), summary="Figures of the last 24 hours")
def get_series(
    lab: LabOf,
    actor: ActorOf,
    span: SpanOf,
    measurement: Annotated[str, Query(max_length=64, description="As the manual names it.", examples=["can_bus"])],
    field: Annotated[str, Query(max_length=64, description="Of the measurement.", examples=["load_percent"])],
    tag: Annotated[
        list[str],
        Query(max_length=10, description="Only series with this tag, NAME=VALUE.", examples=[["bench=bench-1"]]),
    ] = [],  # noqa: B006 - FastAPI copies
    step_s: Annotated[
        float | None,
        Query(description="Seconds that a point stands for, a multiple of 10. Default: about 300 points."),
    ] = None,
    aggregate: Annotated[
        Aggregate | None,
        Query(description="Of the values in a step. Default: mean; last for texts and booleans."),
    ] = None,
    limit: Annotated[int, Query(ge=1, le=SERIES_MAX, description="Most series.")] = 50,
) -> schemas.Figures:
    """What labd itself keeps of the measurements, by steps of 10 s and more; of the labd that answers.

    Without times it is the last hour. Series of teams and benches that the asking one may not see are left out.
    """
    wish = Wish(measurement, field, tuple(tag), span.since, span.until, step_s, aggregate, limit)
    found = lab.last_day.figures(actor, wish)
    question = found.question
    return schemas.Figures(
        measurement=question.measurement,
        field=question.field,
        unit=found.unit,
        aggregate=question.aggregate,
        since=to_text(question.since),
        until=to_text(question.until),
        step_s=question.step_s,
        series=[schemas.Series(tags=dict(one.tags), points=list(one.points)) for one in found.series],
        more=found.more,
        replica=found.replica,
        others=list(found.others),
    )
