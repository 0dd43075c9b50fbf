"""Leases."""

from collections.abc import AsyncIterator
from dataclasses import replace
from http import HTTPStatus
from typing import Annotated

from fastapi import Depends, Path, Query
from fastapi.sse import EventSourceResponse, ServerSentEvent

from labd.api import schemas
from labd.api.answers import lease_answer, lease_summary, shared_answer, wanted_of, why_answer
from labd.api.context import ActorOf, FilterOf, LabOf, LeaseId, ReasonOf
from labd.api.events import LastEventId, follow_many, follow_thing
from labd.api.idempotency import REPEATABLE
from labd.api.paging import Page, PagingOf
from labd.api.problems import body_responses, responses
from labd.api.routing import Router, waits_for, waits_while_queued
from labd.api.times import to_seconds
from labd.model.lease import LeaseState, Share
from labd.services.identifiers import LEASE
from labd.services.tenancy import holder_for, team_for

router = Router(prefix="/leases", tags=["leases"])


@router.post(
    "",
    status_code=HTTPStatus.CREATED,
    openapi_extra=waits_while_queued(),
    responses=body_responses(HTTPStatus.CONFLICT),
    summary="Ask for a bench",
)
def create_lease(lab: LabOf, actor: ActorOf, wish: schemas.LeaseRequest) -> schemas.Lease:
    """Queues a lease; it is GRANTED at once when all its benches are free. Keep it alive with heartbeats."""
    team = team_for(actor, wish.team)
    return lease_answer(
        lab.leasing.create(
            actor,
            selector=wish.selector,
            benches=wanted_of(wish.benches),
            same_site=wish.same_site,
            affinity=wish.affinity,
            holder=holder_for(actor, wish.holder, team),
            team=team,
            duration_s=wish.duration_s,
            ttl_s=wish.ttl_s,
            priority=wish.priority,
            held=wish.held,
            avoid=wish.avoid,
            starts_at=None if wish.starts_at is None else to_seconds(wish.starts_at),
        ),
        actor,
    )


@router.get("", responses=responses(), summary="List leases")
def list_leases(
    lab: LabOf,
    paging: PagingOf,
    where: FilterOf,
    state: Annotated[list[LeaseState], Query(description="Only in these states.")] = [],  # noqa: B006 - FastAPI copies
) -> Page[schemas.LeaseSummary]:
    """Newest first. The order in which QUEUED ones are served is their `position`."""
    views = lab.leasing.newest(replace(where, states=state), paging.limit + 1, paging.after_number)
    return paging.page(views, lambda view: view.lease.seq, lease_summary)


@router.get(
    "/events",
    response_class=EventSourceResponse,
    responses=responses(),
    summary="Follow all leases",
)
async def follow_leases(
    lab: LabOf,
    where: FilterOf,
    state: Annotated[list[LeaseState], Query(description="Only in these states.")] = [],  # noqa: B006 - FastAPI copies
) -> AsyncIterator[ServerSentEvent]:
    """Server-sent events: `ready`, then `lease` with each lease that has changed, as it is by then.

    List the leases after `ready`: from then on no change is missed. The stream ends after 15 minutes, or when its
    reader falls too far behind: come back, and list again.
    """

    def look(ids: list[str]) -> list[schemas.LeaseSummary]:
        views = lab.leasing.newest(replace(where, states=state, ids=ids), len(ids))
        return [lease_summary(view) for view in reversed(views)]

    async for event in follow_many(lab, "lease", LEASE, look):
        yield event


@router.get(
    "/{lease_id}", openapi_extra=waits_for("lease_id"), responses=responses(HTTPStatus.NOT_FOUND), summary="One lease"
)
def get_lease(lab: LabOf, actor: ActorOf, lease_id: LeaseId) -> schemas.Lease:
    """A lease; its holder sees its tokens, while it is held, and who shares it sees theirs."""
    view = lab.leasing.get(lease_id)
    is_shared = any(one.holder == actor.name for one in view.shares)
    return lease_answer(view, actor, lab.holding.shared_with(lease_id, actor.name) if is_shared else None)


def _exists(lab: LabOf, lease_id: LeaseId) -> None:
    # Before the stream begins: afterwards no problem document can be sent.
    lab.leasing.get(lease_id)


@router.get(
    "/{lease_id}/events",
    response_class=EventSourceResponse,
    dependencies=[Depends(_exists)],
    responses=responses(HTTPStatus.NOT_FOUND),
    summary="Follow a lease",
)
async def follow_lease(
    lab: LabOf, actor: ActorOf, lease_id: LeaseId, last_event_id: LastEventId = None
) -> AsyncIterator[ServerSentEvent]:
    """Server-sent events: `lease` with each version (as of `ETag`) that was not seen, at last `end` with the last one.

    The stream ends without `end` after 15 minutes, or when labd stops: come back with `Last-Event-ID`.
    """

    def look() -> tuple[schemas.Lease, bool]:
        view = lab.leasing.get(lease_id)
        return lease_answer(view, actor), view.lease.state is LeaseState.ENDED

    async for event in follow_thing(lab, lease_id, "lease", look, last_event_id):
        yield event


@router.post(
    "/{lease_id}/heartbeat",
    openapi_extra=REPEATABLE,
    responses=responses(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT),
    summary="Keep a lease alive",
)
def heartbeat(lab: LabOf, actor: ActorOf, lease_id: LeaseId) -> schemas.Lease:
    """Keeps a waiting or live lease for another `ttl_s`."""
    return lease_answer(lab.leasing.heartbeat(actor, lease_id), actor)


@router.delete(
    "/{lease_id}", openapi_extra=REPEATABLE, responses=responses(HTTPStatus.NOT_FOUND), summary="Give a bench back"
)
def release_lease(lab: LabOf, actor: ActorOf, lease_id: LeaseId, reason: ReasonOf) -> schemas.Lease:
    """Ends a live lease, or leaves the queue. An ended lease stays as it is."""
    return lease_answer(lab.leasing.release(actor, lease_id, reason), actor)


@router.get(
    "/{lease_id}/why", responses=responses(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT), summary="Why a lease waits"
)
def why_lease(lab: LabOf, lease_id: LeaseId) -> schemas.LeaseWhy:
    """Its place, who is ahead, what keeps each bench from it, and when it can be expected to start."""
    return why_answer(lab.explaining.why(lease_id))


@router.post(
    "/{lease_id}/extend",
    responses=body_responses(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT),
    summary="Put the end of a lease off",
)
def extend_lease(lab: LabOf, actor: ActorOf, lease_id: LeaseId, wish: schemas.ExtendRequest) -> schemas.Lease:
    """Gives a held lease a later hard end, if the policy and those who have booked its benches allow. The tokens in the
    answer are good until then.
    """
    return lease_answer(lab.holding.extend(actor, lease_id, wish.by_s), actor)


@router.post(
    "/{lease_id}/transfer",
    responses=body_responses(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT),
    summary="Give a lease to somebody else",
)
def transfer_lease(lab: LabOf, actor: ActorOf, lease_id: LeaseId, wish: schemas.TransferRequest) -> schemas.Lease:
    """To another person, or team. The benches are brought to their safe state, and the former tokens are refused."""
    team = None if wish.team is None else team_for(actor, wish.team)
    return lease_answer(lab.holding.transfer(actor, lease_id, wish.holder, team), actor)


@router.post(
    "/{lease_id}/shares",
    status_code=HTTPStatus.CREATED,
    responses=body_responses(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT),
    summary="Share a lease",
)
def share_lease(lab: LabOf, actor: ActorOf, lease_id: LeaseId, wish: schemas.ShareRequest) -> schemas.SharedLease:
    """Lets somebody look on (`observer`) or act (`co-driver`) beside the holder, until the lease ends.

    The tokens in the answer are for them; they see them at the lease, too.
    """
    share = Share(wish.holder, wish.mode)
    return shared_answer(lab.holding.share(actor, lease_id, share), share)


@router.delete(
    "/{lease_id}/shares/{holder:path}",
    responses=responses(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT),
    summary="Take a share back",
)
def unshare_lease(
    lab: LabOf,
    actor: ActorOf,
    lease_id: LeaseId,
    holder: Annotated[str, Path(max_length=200, description="With whom it is shared.", examples=["bob"])],
    reason: ReasonOf,
) -> schemas.Lease:
    """The lease goes on without them: agents end their calls at once, and refuse the tokens that they have."""
    return lease_answer(lab.holding.unshare(actor, lease_id, holder, reason), actor)
