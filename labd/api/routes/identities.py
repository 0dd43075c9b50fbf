"""Who is who: signing in, users, teams, tokens."""

from http import HTTPStatus
from typing import Annotated

from fastapi import Path, Query

from labd.api import schemas
from labd.api.context import ActorOf, LabOf, ReasonOf
from labd.api.paging import Page, PagingOf, newest_first
from labd.api.problems import body_responses, responses
from labd.api.routing import Router
from labd.api.times import to_text
from labd.model.identity import ActorKind, ApiToken, Scope
from labd.services.identities import UserView

router = Router(tags=["identities"])

UserName = Annotated[str, Path(max_length=200, examples=["ada"])]
TeamName = Annotated[str, Path(max_length=63, examples=["powertrain"], description="`*` is the whole lab.")]
_UNKNOWN = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND)
_REFUSED = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)


@router.get("/login", responses=responses(), summary="How to sign in")
def get_login(lab: LabOf) -> schemas.Login:
    """Where people sign in by themselves; others use an API token or the token of their CI system."""
    providers = [] if lab.sign_in is None else lab.sign_in.logins()
    return schemas.Login(
        insecure=lab.sign_in is None,
        providers=[
            schemas.LoginProvider(name=one.name, issuer=one.issuer, client_id=one.client_id, scope=one.scope)
            for one in providers
        ],
    )


@router.get("/whoami", responses=responses(HTTPStatus.UNAUTHORIZED), summary="Who I am")
def get_whoami(actor: ActorOf) -> schemas.WhoAmI:
    """Whose token came with the request, and what it may."""
    scopes = None if actor.scopes is None else sorted(map(Scope, actor.scopes))
    return schemas.WhoAmI(name=actor.name, kind=actor.kind, roles=dict(actor.roles), scopes=scopes)


@router.get("/users", responses=responses(*_REFUSED), summary="List users")
def list_users(lab: LabOf, paging: PagingOf) -> Page[schemas.User]:
    """By name. Who signs in through an identity provider is no user of labd's own."""
    return paging.cut(lab.identities.users(), lambda view: view.user.name, _user)


@router.post(
    "/users",
    status_code=HTTPStatus.CREATED,
    responses=body_responses(*_REFUSED, HTTPStatus.CONFLICT),
    summary="Add a user",
)
def create_user(lab: LabOf, actor: ActorOf, request: schemas.UserRequest) -> schemas.User:
    """A user without any role: make them a member of a team, and a token for them.

    `PROVIDER:NAME` who was removed is let in again.
    """
    return _user(lab.identities.create_user(actor, request.name, ActorKind(request.kind)))


@router.delete(
    "/users/{member:path}",
    status_code=HTTPStatus.NO_CONTENT,
    responses=responses(*_UNKNOWN, HTTPStatus.CONFLICT),
    summary="Remove a user",
)
def remove_user(lab: LabOf, actor: ActorOf, member: UserName, reason: ReasonOf) -> None:
    """Revokes the user's tokens and memberships, and ends what they hold: leases, bookings, runs, what is shared with
    them. Nobody else gets the name.

    `PROVIDER:NAME` is let in no more, whatever the identity provider says, until a user of that name is added.
    """
    lab.identities.remove_user(actor, member, reason)


@router.get("/teams", responses=responses(*_REFUSED), summary="List teams")
def list_teams(lab: LabOf, actor: ActorOf, paging: PagingOf) -> Page[schemas.Team]:
    """Those that one belongs to; all, for who belongs to the whole lab."""
    return paging.cut(sorted(lab.identities.teams(actor)), str, lambda name: schemas.Team(name=name))


@router.post(
    "/teams",
    status_code=HTTPStatus.CREATED,
    responses=body_responses(*_REFUSED, HTTPStatus.CONFLICT),
    summary="Add a team",
)
def create_team(lab: LabOf, actor: ActorOf, request: schemas.TeamRequest) -> schemas.Team:
    """A team without members."""
    lab.identities.create_team(actor, request.name)
    return schemas.Team(name=request.name)


@router.delete(
    "/teams/{team}",
    status_code=HTTPStatus.NO_CONTENT,
    responses=responses(*_UNKNOWN, HTTPStatus.CONFLICT),
    summary="Remove a team",
)
def remove_team(lab: LabOf, actor: ActorOf, team: TeamName, reason: ReasonOf) -> None:
    """Ends its leases, bookings and runs; what it did stays, for those to see who belong to the whole lab."""
    lab.identities.remove_team(actor, team, reason)


@router.get("/teams/{team}/members", responses=responses(*_UNKNOWN), summary="Who belongs to a team")
def list_members(lab: LabOf, team: TeamName, paging: PagingOf) -> Page[schemas.Member]:
    """By name."""
    members = lab.identities.members(team)
    return paging.cut(sorted(members), str, lambda name: schemas.Member(team=team, name=name, role=members[name]))


@router.put(
    "/teams/{team}/members/{member:path}",
    responses=body_responses(*_UNKNOWN, HTTPStatus.CONFLICT),
    summary="Give somebody a role in a team",
)
def save_member(
    lab: LabOf, actor: ActorOf, team: TeamName, member: UserName, request: schemas.MemberRequest
) -> schemas.Member:
    """In the place of the one they had. `PROVIDER:NAME` is somebody whom an identity provider vouches for."""
    lab.identities.save_member(actor, team, member, request.role)
    return schemas.Member(team=team, name=member, role=request.role)


@router.delete(
    "/teams/{team}/members/{member:path}",
    status_code=HTTPStatus.NO_CONTENT,
    responses=responses(*_UNKNOWN, HTTPStatus.CONFLICT),
    summary="Take somebody out of a team",
)
def remove_member(lab: LabOf, actor: ActorOf, team: TeamName, member: UserName) -> None:
    """What they hold stays theirs until it ends."""
    lab.identities.remove_member(actor, team, member)


@router.get("/tokens", responses=responses(*_REFUSED), summary="List API tokens")
def list_tokens(
    lab: LabOf,
    actor: ActorOf,
    paging: PagingOf,
    everybody: Annotated[bool, Query(alias="all", description="Those of all users, for an admin of the lab.")] = False,
) -> Page[schemas.Token]:
    """One's own, newest first, without their texts."""

    def key(token: ApiToken) -> str:
        return newest_first(token.created_at, token.prefix)

    return paging.cut(sorted(lab.identities.tokens(actor, everybody), key=key), key, _token)


@router.post(
    "/tokens",
    status_code=HTTPStatus.CREATED,
    responses=body_responses(*_UNKNOWN, HTTPStatus.CONFLICT),
    summary="Make an API token",
)
def create_token(lab: LabOf, actor: ActorOf, request: schemas.TokenRequest) -> schemas.NewToken:
    """The answer has the token's text, which cannot be asked for again. A token makes none that may more than it."""
    token, text = lab.identities.create_token(
        actor, request.name, scopes=request.scopes, lifetime_s=request.lifetime_s, owner=request.owner
    )
    return schemas.NewToken(**_token(token).model_dump(), token=text)


@router.delete("/tokens/{prefix}", responses=responses(*_UNKNOWN), summary="Revoke an API token")
def revoke_token(
    lab: LabOf, actor: ActorOf, prefix: Annotated[str, Path(max_length=16, examples=["5f3a9c01d2"])], reason: ReasonOf
) -> schemas.Token:
    """It opens nothing any more, from now on: one's own, or for an admin of the lab, another's."""
    return _token(lab.identities.revoke_token(actor, prefix, reason))


def _user(view: UserView) -> schemas.User:
    user = view.user
    return schemas.User(name=user.name, kind=user.kind, created_at=to_text(user.created_at), roles=view.roles)


def _token(token: ApiToken) -> schemas.Token:
    return schemas.Token(
        prefix=token.prefix,
        owner=token.owner,
        name=token.name,
        scopes=None if token.scopes is None else sorted(token.scopes),
        created_at=to_text(token.created_at),
        expires_at=to_text(token.expires_at),
        revoked_at=to_text(token.revoked_at),
        last_used_at=to_text(token.last_used_at),
    )
