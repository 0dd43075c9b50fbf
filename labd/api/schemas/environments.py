"""Environments and secrets."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from labd.api.schemas.common import Request, Time
from labd.model.environment import VALUE_LENGTH_MAX, VARIABLES_MAX

_Short = Annotated[str, StringConstraints(max_length=100)]


class SecretRequest(Request):
    """A secret's value. No answer ever has it, not even one that refuses it."""

    model_config = ConfigDict(json_schema_extra={"example": {"value": "correct horse battery staple"}})
    value: str = Field(description=f"4 to {VALUE_LENGTH_MAX} characters.")


class Secret(BaseModel):
    """A secret of a team, without its value."""

    team: str
    name: str
    updated_at: Time
    updated_by: str


class EnvironmentBody(Request):
    """What is in an environment."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"variables": {"DB_HOST": "db.example.com"}, "secrets": {"DB_PASSWORD": "db"}}}
    )
    variables: Annotated[
        dict[_Short, Annotated[str, StringConstraints(max_length=VALUE_LENGTH_MAX)]],
        Field(max_length=VARIABLES_MAX, description="Values by the names that scripts use: `env.NAME`."),
    ] = Field(default={})
    secrets: Annotated[
        dict[_Short, _Short],
        Field(max_length=VARIABLES_MAX, description="Names of the team's secrets by the names that scripts use."),
    ] = Field(default={})


class EnvironmentRequest(EnvironmentBody):
    """A new environment."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"name": "staging", "variables": {"DB_HOST": "db.example.com"}, "secrets": {}}}
    )
    name: _Short
    team: Annotated[
        Annotated[str, StringConstraints(min_length=1, max_length=63)] | None,
        Field(description="Whose it is; else `default`, or the first team of yours."),
    ] = None


class Environment(BaseModel):
    """Variables and secrets that runs of a team may be given."""

    team: str
    name: str
    variables: dict[str, str]
    secrets: dict[str, str] = Field(description="Names of secrets by the names that scripts use.")
