"""What the routes depend on."""

from typing import Annotated

from fastapi import Depends, Path
from fastapi.requests import HTTPConnection
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from labd.model.identity import ANONYMOUS, Actor
from labd.services.lab import Lab

_bearer = HTTPBearer(
    auto_error=False, scheme_name="run token", description="Given to the runner of a run as LABD_RUN_TOKEN."
)


def _lab(connection: HTTPConnection) -> Lab:
    lab: Lab = connection.app.state.lab
    return lab


LabOf = Annotated[Lab, Depends(_lab)]
LeaseId = Annotated[str, Path(max_length=64, examples=["l-5f3a9c01d2e4"])]
RunId = Annotated[str, Path(max_length=64, examples=["r-0b6e7715c9aa"])]


def _actor() -> Actor:
    return ANONYMOUS


ActorOf = Annotated[Actor, Depends(_actor)]
"""Who asks."""


def _runner(
    lab: LabOf, run_id: RunId, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> None:
    lab.running.authorise(run_id, None if credentials is None else credentials.credentials)


RunnerOnly = Depends(_runner)
