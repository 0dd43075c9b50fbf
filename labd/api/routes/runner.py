"""What only the runner of a run may do, with the run's token, and how one in a test pod gets it."""

from http import HTTPStatus
from typing import Annotated

from fastapi import Path, Response
from fastapi.requests import HTTPConnection

from labd.api import schemas
from labd.api.answers import assignment_answer, run_answer
from labd.api.context import AttemptOf, LabOf, RunId, RunnerOnly
from labd.api.guard import bearer
from labd.api.idempotency import REPEATABLE
from labd.api.problems import body_responses, responses
from labd.api.routing import Router
from labd.api.times import to_seconds
from labd.model.run import LogLevel
from labd.services.reporting import NewLine

_REFUSALS = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT)
router = Router(prefix="/runs/{run_id}", tags=["runner"], dependencies=[RunnerOnly])
pods = Router(prefix="/runs/{run_id}", tags=["runner"])


@pods.post(
    "/runner-token",
    openapi_extra=REPEATABLE,
    responses=body_responses(HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.CONFLICT),
    summary="The run's token for its pod",
)
def exchange_token(
    lab: LabOf, run_id: RunId, wish: schemas.RunnerTokenRequest, connection: HTTPConnection
) -> schemas.RunnerToken:
    """A test pod sends the token of its service account, as `Authorization: Bearer`: a projected one with the audience
    `labd`, which is bound to the pod. labd has it reviewed by the API server of the run's cluster (TokenReview).
    """
    return schemas.RunnerToken(token=lab.attempt_tokens.exchange(run_id, wish.attempt, bearer(connection.scope)))


@router.get("/assignment", responses=responses(*_REFUSALS), summary="What to execute, and where")
def get_assignment(lab: LabOf, run_id: RunId, attempt: AttemptOf) -> schemas.Assignment:
    """Script, bench, lease token and limits of a RUNNING run."""
    return assignment_answer(lab.reporting.assignment(run_id, attempt))


@router.get(
    "/data-files/{path:path}",
    response_class=Response,
    responses={
        **responses(*_REFUSALS),
        200: {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}},
    },
    summary="A data file of the run",
)
def get_data_file(
    lab: LabOf, run_id: RunId, path: Annotated[str, Path(max_length=200, examples=["logs/trip.blf"])]
) -> Response:
    """A file that came with the run, as it is."""
    return Response(lab.reporting.data_file(run_id, path), media_type="application/octet-stream")


@router.put("/commit", responses=body_responses(*_REFUSALS), summary="Report the commit that runs")
def put_commit(lab: LabOf, run_id: RunId, attempt: AttemptOf, report: schemas.CommitReport) -> schemas.Run:
    """Records what the Git revision of the run was when its runner fetched it; another one is refused with 409."""
    return run_answer(lab.reporting.record_commit(run_id, report.commit, attempt))


@router.post("/log", openapi_extra=REPEATABLE, responses=body_responses(*_REFUSALS), summary="Append to the run's log")
def append_log(lab: LabOf, run_id: RunId, attempt: AttemptOf, batch: schemas.LogBatch) -> schemas.LogReceipt:
    """Stores consecutive lines. Lines that are stored already are ignored; a gap is refused with 409."""
    lines = [NewLine(to_seconds(line.time), LogLevel(line.level), line.text) for line in batch.lines]
    return schemas.LogReceipt(acknowledged=lab.reporting.append_log(run_id, batch.first_seq, lines, attempt))


@router.put("/result", responses=body_responses(*_REFUSALS), summary="Report the run's result")
def put_result(lab: LabOf, run_id: RunId, attempt: AttemptOf, report: schemas.ResultReport) -> schemas.Run:
    """Ends the run with this verdict and frees its bench."""
    return run_answer(lab.reporting.put_result(run_id, report.document.model_dump(), report.junit, attempt))
