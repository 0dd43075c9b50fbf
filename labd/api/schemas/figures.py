"""Figures of the last day."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from labd.api.schemas.common import Time
from labd.telemetry.day_query import Aggregate


class Series(BaseModel):
    """One series: what was measured of one thing."""

    tags: dict[str, str]
    points: list[tuple[float, float | str]] = Field(
        description="Each step in which there is a value: its beginning in seconds since the Unix epoch, and the value."
    )


class Figures(BaseModel):
    """One field of a measurement, by series."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "measurement": "can_bus",
                "field": "load_percent",
                "unit": "%",
                "aggregate": "mean",
                "since": "2026-11-21T09:30:00.000000Z",
                "until": "2026-11-21T10:30:00.000000Z",
                "step_s": 20,
                "series": [
                    {
                        "tags": {"agent": "bench-host-1", "bench": "bench-1", "bus": "powertrain"},
                        "points": [[1795253400.0, 31.5], [1795253420.0, 32.25]],
                    }
                ],
                "more": False,
                "replica": "labd",
                "others": [],
            }
        }
    )
    measurement: str
    field: str
    unit: str
    aggregate: Aggregate
    since: Time
    until: Time
    step_s: Annotated[int, Field(description="Seconds.")]
    series: list[Series]
    more: Annotated[bool, Field(description="Whether there may be more series than the limit.")]
    replica: Annotated[str, Field(description="The labd that answers; `labd` where there is only one.")]
    others: Annotated[
        list[str],
        Field(description="The other labds of the lab that live: they have the figures of their agents themselves."),
    ]
