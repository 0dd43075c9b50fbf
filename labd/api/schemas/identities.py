"""Who is who: users, teams, tokens."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from labd.api.schemas.common import DAY_S, Name, Request, Time
from labd.model.identity import ActorKind, Role, Scope


class WhoAmI(BaseModel):
    """Who the request's token belongs to, and what it may."""

    name: str
    kind: ActorKind
    roles: dict[str, Role] = Field(description="By team; `*` is the whole lab.")
    scopes: list[Scope] | None = Field(description="What the token was narrowed to; null: it was not.")


class LoginProvider(BaseModel):
    """Where people sign in by themselves (OpenID Connect, RFC 8628)."""

    name: str
    issuer: str
    client_id: str
    scope: str = Field(description="What the device authorisation asks for.")


class Login(BaseModel):
    """How this labd wants to be signed in to."""

    insecure: bool = Field(description="It asks nobody who they are.")
    providers: list[LoginProvider]


class UserRequest(Request):
    """A new user."""

    model_config = ConfigDict(json_schema_extra={"example": {"name": "ada"}})
    name: Name
    kind: Annotated[Literal["person", "program"], Field(description="Who will use it.")] = "person"


class User(BaseModel):
    """A person or program that labd itself knows."""

    name: str
    kind: ActorKind
    created_at: Time
    roles: dict[str, Role] = Field(description="By team; `*` is the whole lab.")


class TeamRequest(Request):
    """A new team."""

    model_config = ConfigDict(json_schema_extra={"example": {"name": "powertrain"}})
    name: Name


class Team(BaseModel):
    """A team: who shares leases, runs, and benches of their own."""

    name: str


class MemberRequest(Request):
    """What somebody is to be in a team."""

    model_config = ConfigDict(json_schema_extra={"example": {"role": "engineer"}})
    role: Annotated[Role, Field(strict=False)]


class Member(BaseModel):
    """Somebody in a team."""

    team: str
    name: str
    role: Role


class TokenRequest(Request):
    """A new API token."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"name": "nightly", "scopes": ["read", "run"], "lifetime_s": 30 * DAY_S}}
    )
    name: Annotated[Name, Field(description="What it is for.")]
    scopes: Annotated[
        list[Annotated[Scope, Field(strict=False)]] | None,
        Field(min_length=1, max_length=len(Scope), description="What it is narrowed to; null: what its owner may."),
    ] = None
    lifetime_s: Annotated[float, Field(gt=0, le=366 * DAY_S)] = 90 * DAY_S
    owner: Annotated[Name | None, Field(description="Another user, for an admin of the lab.")] = None


class Token(BaseModel):
    """What labd keeps of a token."""

    prefix: str = Field(description="Names it: what follows `labd_` in the token itself.")
    owner: str
    name: str
    scopes: list[Scope] | None
    created_at: Time
    expires_at: Time
    revoked_at: Time | None
    last_used_at: Time | None = Field(description="To a minute.")


class NewToken(Token):
    """A token with its text."""

    token: str = Field(description="Shown this once.")
