"""Leases."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from labd.api.schemas.common import (
    DAY_S,
    OBSTACLE,
    Affinity,
    Holder,
    Priority,
    Request,
    SameSite,
    Selector,
    Team,
    Time,
    Wanted,
    WantedBenches,
)
from labd.model.lease import DEFAULT_PRIORITY, LeaseEnd, LeaseState


class LeaseRequest(Request):
    """A wish for a bench, or for several at once."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"selector": "platform=meb", "holder": "ada", "duration_s": 1800, "ttl_s": 30}}
    )
    selector: Selector = ""
    benches: Wanted = Field(default=[])
    same_site: SameSite = False
    affinity: Affinity = ""
    holder: Holder = None
    team: Team | None = None
    duration_s: Annotated[float, Field(gt=0, le=30 * DAY_S, description="How long it may last once granted.")] = 3600.0
    ttl_s: Annotated[float, Field(ge=1, le=3600, description="It ends when no heartbeat came for this long.")] = 30.0
    priority: Priority = DEFAULT_PRIORITY
    held: Annotated[
        bool,
        Field(
            description="For people: it needs no heartbeats once granted, and ends when nothing went to or from its "
            "benches for the time that the policy names."
        ),
    ] = False


class LeasedBench(BaseModel):
    """A bench that a lease has."""

    name: str
    address: str | None = Field(description="host:port of the agent's gRPC door, while the lease is held.")
    epoch: int
    selector: str = Field(description="What it was asked for by.")
    token: str | None = Field(default=None, description="While it is held; only in answers about one lease.")


class LeaseSummary(BaseModel):
    """A lease, waiting, live or ended."""

    id: str
    state: LeaseState
    selector: str = Field(description="What it asks for, as text.")
    wanted: list[WantedBenches]
    same_site: bool
    affinity: str
    holder: str
    team: str
    priority: str
    held: bool
    run_id: str | None
    duration_s: float
    ttl_s: float
    position: int | None = Field(description="While QUEUED: 1 is next in the queue.")
    obstacle: str | None = Field(description=OBSTACLE)
    bench: str | None = Field(description="The bench of a lease of a single one; null with several.")
    address: str | None
    epoch: int | None
    benches: list[LeasedBench]
    created_at: Time
    granted_at: Time | None
    active_at: Time | None = Field(description="When its holder first showed up.")
    expires_at: Time | None = Field(description="Hard end of a granted lease.")
    heartbeat_by: Time
    revoke_at: Time | None = Field(description="The holder has to be gone by then.")
    revoke_reason: str
    ending_at: Time | None = Field(description="When the end was decided.")
    ended_at: Time | None = Field(description="When every agent had confirmed it.")
    end_reason: LeaseEnd | None
    end_note: str = Field(description="What whoever ended it said of why.")


class Lease(LeaseSummary):
    """A lease with its token."""

    token: str | None = Field(description="The signed lease token, of a single bench, while it is held.")
