"""What labd says of itself."""

from typing import Any, Literal

from pydantic import BaseModel, Field

from labd.api.schemas.common import Time
from labd.model.check import CheckState


class Version(BaseModel):
    """Which labd this is."""

    version: str


class HealthReport(BaseModel):
    """labd answers, and its database does."""

    status: Literal["ok"]


class Status(BaseModel):
    """How this labd does."""

    version: str
    started_at: Time
    agents: int = Field(description="That are attached to this labd.")
    cut: dict[str, int] = Field(
        description="Connections and streams that this labd has cut off since it started, by the reason.",
        examples=[{"reads nothing": 2, "too far behind": 1}],
    )


class Check(BaseModel):
    """One thing that was looked at."""

    name: str = Field(description="What was looked at.", examples=["InfluxDB"])
    state: CheckState
    message: str = Field(description="What was found.", examples=["took 48213 points, the last 4 s ago"])
    remedy: str = Field(description="What to do about it; empty where nothing is to be done.", examples=[""])


class Doctor(BaseModel):
    """How labd and what it depends on do."""

    checks: list[Check]


class JsonWebKeySet(BaseModel):
    """The public keys that sign lease tokens (RFC 7517)."""

    keys: list[dict[str, Any]]
