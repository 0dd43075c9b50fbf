"""Environments, and the secrets in them."""

from dataclasses import asdict
from http import HTTPStatus
from typing import Annotated

from fastapi import Path, Query

from labd.api import schemas
from labd.api.context import ActorOf, LabOf
from labd.api.paging import Page, PagingOf
from labd.api.problems import body_responses, responses
from labd.api.routing import Router
from labd.api.times import to_text
from labd.model.environment import Environment, SecretInfo
from labd.services.tenancy import own_team

secrets = Router(prefix="/secrets", tags=["environments"])
router = Router(prefix="/environments", tags=["environments"])
_Name = Annotated[str, Path(max_length=100, examples=["staging"])]
_Team = Annotated[
    str | None,
    Query(min_length=1, max_length=63, description="Whose it is; else `default`, or the first team of yours."),
]


@secrets.get("", responses=responses(), summary="List secrets")
def list_secrets(lab: LabOf, actor: ActorOf, paging: PagingOf) -> Page[schemas.Secret]:
    """Names, never values."""
    return paging.cut(lab.environments.secrets(actor), lambda secret: f"{secret.team}/{secret.name}", _secret)


@secrets.put("/{name}", responses=body_responses(HTTPStatus.FORBIDDEN), summary="Add or change a secret")
def put_secret(
    lab: LabOf, actor: ActorOf, name: _Name, body: schemas.SecretRequest, team: _Team = None
) -> schemas.Secret:
    """Sealed before it is stored. Runs that start from now on get it; those that run keep what they were given."""
    return _secret(lab.environments.set_secret(actor, team or own_team(actor), name, body.value))


@secrets.delete(
    "/{name}",
    status_code=HTTPStatus.NO_CONTENT,
    responses=responses(HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT),
    summary="Remove a secret",
)
def remove_secret(lab: LabOf, actor: ActorOf, name: _Name, team: _Team = None) -> None:
    """Refused while an environment has it."""
    lab.environments.remove_secret(actor, team or own_team(actor), name)


@router.get("", responses=responses(), summary="List environments")
def list_environments(lab: LabOf, actor: ActorOf, paging: PagingOf) -> Page[schemas.Environment]:
    """By team and name."""
    return paging.cut(lab.environments.environments(actor), lambda one: f"{one.team}/{one.name}", _environment)


@router.post(
    "",
    status_code=HTTPStatus.CREATED,
    responses=body_responses(HTTPStatus.FORBIDDEN, HTTPStatus.CONFLICT),
    summary="Add an environment",
)
def create_environment(lab: LabOf, actor: ActorOf, body: schemas.EnvironmentRequest) -> schemas.Environment:
    """A run that names it is given its variables and secrets."""
    environment = Environment(body.team or own_team(actor), body.name, body.variables, body.secrets)
    return _environment(lab.environments.put_environment(actor, environment, new=True))


@router.get("/{name}", responses=responses(HTTPStatus.NOT_FOUND), summary="One environment")
def get_environment(lab: LabOf, actor: ActorOf, name: _Name, team: _Team = None) -> schemas.Environment:
    """Its variables, and the names of its secrets."""
    return _environment(lab.environments.environment(actor, team or own_team(actor), name))


@router.put("/{name}", responses=body_responses(HTTPStatus.FORBIDDEN), summary="Add or replace an environment")
def put_environment(
    lab: LabOf, actor: ActorOf, name: _Name, body: schemas.EnvironmentBody, team: _Team = None
) -> schemas.Environment:
    """All of it: what the body does not have is removed."""
    environment = Environment(team or own_team(actor), name, body.variables, body.secrets)
    return _environment(lab.environments.put_environment(actor, environment))


@router.delete(
    "/{name}",
    status_code=HTTPStatus.NO_CONTENT,
    responses=responses(HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND),
    summary="Remove an environment",
)
def remove_environment(lab: LabOf, actor: ActorOf, name: _Name, team: _Team = None) -> None:
    """Its secrets stay. Runs that wait with it end as ERROR when they get their bench."""
    lab.environments.remove_environment(actor, team or own_team(actor), name)


def _secret(secret: SecretInfo) -> schemas.Secret:
    return schemas.Secret(
        team=secret.team, name=secret.name, updated_at=to_text(secret.updated_at), updated_by=secret.updated_by
    )


def _environment(environment: Environment) -> schemas.Environment:
    return schemas.Environment(**asdict(environment))
