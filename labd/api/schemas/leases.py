"""Leases."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from labd.api.schemas.common import (
    DAY_S,
    OBSTACLE,
    Affinity,
    Holder,
    Name,
    Priority,
    Request,
    SameSite,
    Selector,
    Team,
    Time,
    TimeText,
    Wanted,
    WantedBenches,
)
from labd.model.lease import DEFAULT_PRIORITY, LeaseEnd, LeaseState, ShareMode
from labd.scheduling.explain import Why


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
    avoid: Annotated[
        list[Name],
        Field(
            max_length=100, description="Benches that failed this request before: only taken where no others would do."
        ),
    ] = Field(default=[])
    starts_at: Annotated[
        TimeText | None,
        Field(description="Books the benches from then on, for `duration_s`; refused at once when that cannot be."),
    ] = None
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


class LeaseShare(BaseModel):
    """Somebody with whom a lease is shared."""

    holder: str
    mode: ShareMode


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
    starts_at: Time | None = Field(description="Of a booking.")
    reserved: list[str] = Field(description="Of a booking that waits: the benches that it is to get.")
    avoid: list[str]
    idle_release_at: Time | None = Field(
        description="A held lease ends then, unless something goes to or from its benches."
    )
    revoke_at: Time | None = Field(description="The holder has to be gone by then.")
    revoke_reason: str
    ending_at: Time | None = Field(description="When the end was decided.")
    ended_at: Time | None = Field(description="When every agent had confirmed it.")
    end_reason: LeaseEnd | None
    end_note: str = Field(description="What whoever ended it said of why.")


class Lease(LeaseSummary):
    """A lease with its token."""

    token: str | None = Field(description="The signed lease token, of a single bench, while it is held.")
    shares: list[LeaseShare] = Field(description="With whom it is shared.")


class ExtendRequest(Request):
    """A later hard end."""

    by_s: Annotated[float, Field(gt=0, le=30 * DAY_S, description="By how much to put the end off.", examples=[1800])]


class TransferRequest(Request):
    """Another holder."""

    holder: Name
    team: Team | None = None


class ShareRequest(Request):
    """Somebody who may look on, or act, beside the holder."""

    holder: Name
    mode: Annotated[ShareMode, Field(strict=False)] = ShareMode.OBSERVER


class SharedLease(BaseModel):
    """A lease for somebody with whom it is shared: the tokens are theirs, and end with the lease."""

    id: str
    holder: str
    mode: ShareMode
    expires_at: Time | None
    benches: list[LeasedBench]


class BenchInQuestion(BaseModel):
    """A bench that matches, and why a waiting lease does not have it."""

    bench: str
    why: Why = Field(description="`free`: others are missing, or somebody ahead gets it.")
    detail: str | None = Field(description="What an unusable bench lacks; why a drained one is drained.")
    by: str | None = Field(description="The lease that has it, or is to get it; this one, of what it has booked.")
    until: Time | None


class PartInQuestion(BaseModel):
    """One selector of a waiting lease."""

    selector: str
    count: int
    excluded: dict[str, list[str]] = Field(description="By term of the selector, the benches that do not meet it.")
    matching: list[BenchInQuestion]


class LeaseWhy(BaseModel):
    """Why a lease waits, and until when."""

    id: str
    position: int | None = Field(description="1 is next; null for a booking.")
    ahead: list[str] = Field(description="The leases before it that want a bench that it wants, in order.")
    parts: list[PartInQuestion]
    quota: str | None = Field(description="What its team would have too much of.")
    limit: str | None = Field(description="Of which runs in clusters there are as many as the policy allows.")
    held_for_it_from: Time | None = Field(description="It waited so long that benches are held for it from then on.")
    short_of: dict[str, list[str]] = Field(
        description="Of a lease whose benches are all at one site: by the site, the selectors for which it has too few "
        "benches that can be used. Benches without the label `site` are a site of their own, the empty text."
    )
    expected_start: Time | None = Field(
        description="An estimate from how long recent leases lasted, and from when its team may have so much; "
        "a booking's start; null: it cannot be served as things are."
    )
