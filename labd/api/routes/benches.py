"""Benches."""

from http import HTTPStatus
from typing import Annotated

from fastapi import Path, Query

from labd.api import schemas
from labd.api.answers import bench_answer, calendar_answer
from labd.api.context import ActorOf, HolderFilter, LabOf, ReasonOf, SpanOf, TeamFilter
from labd.api.paging import Page, PagingOf
from labd.api.problems import responses
from labd.api.routing import Router
from labd.api.schemas.common import DAY_S
from labd.model.bench import BenchState, Health
from labd.services.fleet import BenchView
from labd.services.tenancy import may_see

BenchName = Annotated[str, Path(max_length=253, examples=["bench-1"])]
router = Router(prefix="/benches", tags=["benches"])


@router.get("", responses=responses(), summary="List benches")
def list_benches(
    lab: LabOf,
    actor: ActorOf,
    paging: PagingOf,
    heard_of: SpanOf,
    selector: Annotated[
        str, Query(description="Only those whose labels match this selector.", examples=["platform=meb"])
    ] = "",
    state: Annotated[list[BenchState], Query(description="Only in these states.")] = [],  # noqa: B006 - FastAPI copies
    health: Annotated[list[Health], Query(description="Only of this health.")] = [],  # noqa: B006 - FastAPI copies
    holder: HolderFilter = None,
    team: TeamFilter = None,
    agent: Annotated[
        str | None, Query(max_length=253, description="Only at this agent.", examples=["bench-host-1"])
    ] = None,
) -> Page[schemas.Bench]:
    """By name. A bench that no team owns is no team's."""

    def wanted(view: BenchView) -> bool:
        return (
            may_see(actor, view.bench)
            and (not state or view.state in state)
            and (not health or view.health in health)
            and (team is None or view.bench.owner == team)
            and (agent is None or view.bench.agent == agent)
            and heard_of.holds(view.last_seen)
            and (holder is None or bench_answer(view, actor).holder == holder)
        )

    views = filter(wanted, lab.fleet.benches(selector))
    return paging.cut(views, lambda view: view.bench.name, lambda view: bench_answer(view, actor))


@router.get("/{name}", responses=responses(HTTPStatus.NOT_FOUND), summary="One bench")
def get_bench(lab: LabOf, actor: ActorOf, name: BenchName) -> schemas.Bench:
    """A bench with its buses, ECUs and equipment."""
    return bench_answer(lab.fleet.bench(name), actor)


@router.post(
    "/{name}/clear-quarantine",
    status_code=HTTPStatus.ACCEPTED,
    responses=responses(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT),
    summary="End a quarantine",
)
def clear_quarantine(lab: LabOf, actor: ActorOf, name: BenchName, reason: ReasonOf) -> schemas.Bench:
    """Has the agent bring the bench to its safe state once more; the quarantine ends when that works.

    The answer shows the bench as it was before: ask again for the outcome.
    """
    return bench_answer(lab.fleet.clear_quarantine(actor, name, reason), actor)


@router.put("/{name}/drain", responses=responses(HTTPStatus.NOT_FOUND), summary="Drain a bench")
def drain_bench(lab: LabOf, actor: ActorOf, name: BenchName, reason: ReasonOf) -> schemas.Bench:
    """Nobody new gets the bench; who holds it keeps it until their lease ends as planned."""
    return bench_answer(lab.fleet.drain(actor, name, True, reason), actor)


@router.delete("/{name}/drain", responses=responses(HTTPStatus.NOT_FOUND), summary="End a bench's draining")
def undrain_bench(lab: LabOf, actor: ActorOf, name: BenchName, reason: ReasonOf) -> schemas.Bench:
    """It can be leased again, unless its agent is drained."""
    return bench_answer(lab.fleet.drain(actor, name, False, reason), actor)


@router.get("/{name}/calendar", responses=responses(HTTPStatus.NOT_FOUND), summary="Who has a bench when")
def get_calendar(
    lab: LabOf,
    actor: ActorOf,
    name: BenchName,
    duration_s: Annotated[
        float, Query(gt=0, le=30 * DAY_S, description="How long `next_free` has to be free for.", examples=[3600])
    ] = 3600.0,
) -> schemas.Calendar:
    """The present lease until its hard end, bookings, and what is kept for who has waited longest."""
    return calendar_answer(lab.calendar.of(name, duration_s), actor)
