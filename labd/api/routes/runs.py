"""Runs."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from http import HTTPStatus
from typing import Annotated

from fastapi import Depends, Header, Query, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent

from labd.api import schemas
from labd.api.answers import line_answer, run_answer, wanted_of
from labd.api.context import ActorOf, FilterOf, LabOf, ReasonOf, RunId
from labd.api.events import LastEventId, follow_thing
from labd.api.following import follow_log
from labd.api.paging import Page, PagingOf
from labd.api.problems import body_responses, responses
from labd.api.routing import Router, waits_for
from labd.model.run import LogLine, RunState
from labd.model.source import GitSource
from labd.services.tenancy import holder_for, team_for

router = Router(prefix="/runs", tags=["runs"])
_NOT_FOUND = responses(HTTPStatus.NOT_FOUND)


@router.post(
    "",
    status_code=HTTPStatus.CREATED,
    responses=body_responses(),
    summary="Submit a scenario",
)
def create_run(lab: LabOf, actor: ActorOf, wish: schemas.RunRequest) -> schemas.Run:
    """Queues a run; it is RUNNING at once when a matching bench is free."""
    team = team_for(actor, wish.team)
    git = None if wish.git is None else GitSource(wish.git.url, wish.git.path, wish.git.revision)
    return run_answer(
        lab.running.create(
            actor,
            script=wish.script,
            git=git,
            name=wish.name or ("scenario.lua" if git is None else git.name[:200]) or "scenario.lua",
            files=wish.files,
            data_files=wish.data_files,
            selector=wish.selector,
            benches=wanted_of(wish.benches),
            same_site=wish.same_site,
            affinity=wish.affinity,
            holder=holder_for(actor, wish.holder, team),
            team=team,
            priority=wish.priority,
            timeout_s=wish.timeout_s,
            executor=wish.executor,
            cluster=wish.cluster,
            environment=wish.environment,
        )
    )


@router.get("", responses=responses(), summary="List runs")
def list_runs(
    lab: LabOf,
    paging: PagingOf,
    where: FilterOf,
    state: Annotated[list[RunState], Query(description="Only in these states.")] = [],  # noqa: B006 - FastAPI copies
) -> Page[schemas.Run]:
    """Newest first."""
    views = lab.running.newest(replace(where, states=state), paging.limit + 1, paging.after_number)
    return paging.page(views, lambda view: view.run.seq, run_answer)


@router.get("/{run_id}", openapi_extra=waits_for("run_id"), responses=_NOT_FOUND, summary="One run")
def get_run(lab: LabOf, run_id: RunId) -> schemas.Run:
    """A run and how it went."""
    return run_answer(lab.running.get(run_id))


@router.post(
    "/{run_id}/again",
    status_code=HTTPStatus.CREATED,
    responses=body_responses(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT),
    summary="Run a scenario again",
)
def run_again(lab: LabOf, actor: ActorOf, run_id: RunId, wish: schemas.AgainRequest) -> schemas.Run:
    """Queues a run with the same script, files, benches wanted, environment and timeout, once the run is over.

    Where it ended in `ERROR`, the new one keeps away from its benches, if others do as well.
    """
    team = lab.running.get(run_id).run.team
    return run_answer(lab.running.again(actor, run_id, holder_for(actor, wish.holder, team)))


@router.post("/{run_id}/cancel", responses=_NOT_FOUND, summary="Cancel a run")
def cancel_run(lab: LabOf, actor: ActorOf, run_id: RunId, reason: ReasonOf) -> schemas.Run:
    """Ends a run before its time. A run that is over stays as it is."""
    return run_answer(lab.running.cancel(actor, run_id, reason))


def _exists(lab: LabOf, run_id: RunId) -> None:
    # Before the stream begins: afterwards no problem document can be sent.
    lab.running.get(run_id)


@router.get(
    "/{run_id}/events",
    response_class=EventSourceResponse,
    dependencies=[Depends(_exists)],
    responses=_NOT_FOUND,
    summary="Follow a run",
)
async def follow_run(lab: LabOf, run_id: RunId, last_event_id: LastEventId = None) -> AsyncIterator[ServerSentEvent]:
    """Server-sent events: `run` with each version (as of `ETag`) that was not seen, at last `end` with the run.

    The stream ends without `end` after 15 minutes, or when labd stops: come back with `Last-Event-ID`.
    """

    def look() -> tuple[schemas.Run, bool]:
        view = lab.running.get(run_id)
        return run_answer(view), view.run.state.final

    async for event in follow_thing(lab, run_id, "run", look, last_event_id):
        yield event


@router.get(
    "/{run_id}/log",
    response_class=EventSourceResponse,
    dependencies=[Depends(_exists)],
    responses=_NOT_FOUND,
    summary="Follow a run's log",
)
async def get_log(
    lab: LabOf,
    run_id: RunId,
    after: Annotated[int, Query(ge=0, le=2**53, description="Only lines after this sequence number.")] = 0,
    follow: Annotated[bool, Query(description="Wait for more, until the run is over.")] = True,
    last_event_id: Annotated[
        int | None, Header(ge=0, le=2**53, description="Resumes after this line; goes before `after`.")
    ] = None,
) -> AsyncIterator[ServerSentEvent]:
    """Server-sent events: `line` with a log line each (its `id` is the sequence number), at last `end` with the run."""
    start = after if last_event_id is None else last_event_id
    async for item in follow_log(lab, run_id, start, follow):
        if isinstance(item, LogLine):
            data = line_answer(item).model_dump_json()
            yield ServerSentEvent(raw_data=data, event="line", id=str(item.seq))
        else:
            yield ServerSentEvent(raw_data=run_answer(item).model_dump_json(), event="end")


@router.get("/{run_id}/result", responses=_NOT_FOUND, summary="A run's result document")
def get_result(lab: LabOf, run_id: RunId) -> schemas.Result:
    """What the runner reported: each case with its steps, and why it did not pass."""
    return schemas.Result.model_validate(json.loads(lab.running.result(run_id).document))


@router.get(
    "/{run_id}/junit",
    response_class=Response,
    responses={
        **_NOT_FOUND,
        200: {"content": {"application/xml": {"schema": {"type": "string"}}}, "description": "JUnit XML"},
    },
    summary="A run's result as JUnit XML",
)
def get_junit(lab: LabOf, run_id: RunId) -> Response:
    """For CI systems."""
    return Response(lab.running.result(run_id).junit, media_type="application/xml")
