"""For whom somebody asks: themselves or another, and which team pays."""

import re

from labd.model.bench import SHARED, TEAM_LABEL, Bench
from labd.model.identity import DEFAULT_TEAM, Actor, Role
from labd.services.errors import FieldError, Forbidden, Invalid

_TEAM = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,61}[a-z0-9])?")


def require_team_name(field: str, name: str) -> None:
    """Raises Invalid for what can be no name of a team, naming the field."""
    if not _TEAM.fullmatch(name) or name == SHARED:
        message = "expected up to 63 lower-case letters, digits, '.', '_' and '-', such as powertrain"
        raise Invalid(f"{name!r} is no name for a team: {message}", FieldError(field, name, message))


def holder_for(actor: Actor, asked: str | None, team: str) -> str:
    """The holder of what the actor asks for: the actor, or whom an operator of the team names. Raises Forbidden."""
    if asked is None or asked == actor.name:
        return actor.name
    if not actor.trusted and not actor.may(Role.OPERATOR, team):
        raise Forbidden(f"you are {actor.name!r}: asking for {asked!r} takes the role 'operator' in team {team!r}")
    return asked


def team_for(actor: Actor, asked: str | None, role: Role = Role.ENGINEER) -> str:
    """The team that the actor asks for, or the first in which they may: the default team before others.

    Raises Forbidden, and Invalid for what is no name of a team.
    """
    if asked is not None:
        require_team_name("team", asked)
        if not actor.may(role, asked):
            raise Forbidden(f"this takes the role {str(role)!r} in team {asked!r}")
        return asked
    teams = actor.teams(role)
    if teams is None or DEFAULT_TEAM in teams:
        return DEFAULT_TEAM
    if not teams:
        raise Forbidden(f"this takes the role {str(role)!r} in some team")
    return min(teams)


def own_team(actor: Actor) -> str:
    """Whose a thing is of which the actor names no team: one in which they may work, or else look. Raises Forbidden."""
    return team_for(actor, None, Role.ENGINEER if actor.may_somewhere(Role.ENGINEER) else Role.VIEWER)


def within(selector: str, team: str) -> str:
    """The selector, kept to benches that the team may lease: shared ones, and its own."""
    term = f"{TEAM_LABEL} in ({team},{SHARED})"
    return f"{selector},{term}" if selector else term


def may_see(actor: Actor, bench: Bench) -> bool:
    """Whether the bench is everybody's, or one of the actor's teams'."""
    return bench.owner is None or actor.may(Role.VIEWER, bench.owner)
