"""Leases."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from labd.api.schemas.common import DAY_S, OBSTACLE, Name, Priority, Request, Selector, Time
from labd.model.lease import LeaseEnd, LeaseState


class LeaseRequest(Request):
    """A wish for a bench."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"selector": "platform=meb", "holder": "ada", "duration_s": 1800, "ttl_s": 30}}
    )
    selector: Selector = ""
    holder: Name
    duration_s: Annotated[float, Field(gt=0, le=30 * DAY_S, description="How long it may last once granted.")] = 3600.0
    ttl_s: Annotated[float, Field(ge=1, le=3600, description="It ends when no heartbeat came for this long.")] = 30.0
    priority: Priority = 0


class LeaseSummary(BaseModel):
    """A lease, waiting, live or ended."""

    id: str
    state: LeaseState
    selector: str
    holder: str
    priority: int
    duration_s: float
    ttl_s: float
    position: int | None = Field(description="While QUEUED: 1 is next in the queue.")
    obstacle: str | None = Field(description=OBSTACLE)
    bench: str | None
    address: str | None
    epoch: int | None
    created_at: Time
    granted_at: Time | None
    expires_at: Time | None = Field(description="Hard end of a granted lease.")
    heartbeat_by: Time
    ended_at: Time | None
    end_reason: LeaseEnd | None


class Lease(LeaseSummary):
    """A lease with its token."""

    token: str | None = Field(description="The signed lease token, while GRANTED.")
