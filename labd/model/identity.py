"""Who does something in the lab, and how far their rights go."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

WHOLE_LAB = "*"
"""Stands for every team in `Actor.roles`."""
DEFAULT_TEAM = "default"
"""The team of whoever names none."""


class Role(StrEnum):
    """What somebody may do in a team; each may what the ones before it may.

    VIEWER reads. ENGINEER leases benches and runs scenarios. OPERATOR frees and drains benches and ends what others
    hold. ADMIN decides who may what.
    """

    VIEWER = "viewer"
    ENGINEER = "engineer"
    OPERATOR = "operator"
    ADMIN = "admin"

    @property
    def rank(self) -> int:
        """0 is the least."""
        return list(Role).index(self)


class Scope(StrEnum):
    """What a token may be narrowed to. It never gives more than its owner's roles do.

    READ sees benches, leases, runs and logs. LEASE leases benches. RUN submits and cancels runs. OPERATE frees and
    drains benches and ends what others hold. ADMIN decides who may what, and manages its owner's tokens.
    """

    READ = "read"
    LEASE = "lease"
    RUN = "run"
    OPERATE = "operate"
    ADMIN = "admin"


class ActorKind(StrEnum):
    """What kind of thing acts."""

    PERSON = "person"
    PROGRAM = "program"
    RUN = "run"
    AGENT = "agent"
    SYSTEM = "system"


@dataclass(frozen=True, slots=True)
class Actor:
    """Somebody who acts, as far as labd has made sure of it."""

    name: str
    kind: ActorKind
    roles: Mapping[str, Role] = field(default_factory=lambda: MappingProxyType({}))
    """By team; under WHOLE_LAB, in every team."""
    scopes: frozenset[str] | None = None
    """What the token was narrowed to; None: it was not."""
    run_id: str | None = None
    """The run that acts, when one does."""

    @property
    def trusted(self) -> bool:
        """Whether labd itself acts, or nobody is asked who they are: what they say of themselves is taken as it is."""
        return self is ANONYMOUS or self.kind is ActorKind.SYSTEM

    def is_holder(self, holder: str, run_id: str | None = None) -> bool:
        """Whether what the holder holds, or the run, is this one's own."""
        if self.trusted:
            return True
        return self.run_id == run_id if self.run_id is not None else self.name == holder

    def has_scope(self, scope: Scope) -> bool:
        """Whether the token was not narrowed, or not too far for this."""
        return self.scopes is None or scope in self.scopes

    def may_somewhere(self, role: Role) -> bool:
        """Whether this is at least a `role` in some team."""
        return any(held.rank >= role.rank for held in self.roles.values())

    def teams(self, role: Role = Role.VIEWER) -> frozenset[str] | None:
        """The teams in which this is at least a `role`; None: in every one there is."""
        if self.may(role, WHOLE_LAB):
            return None
        return frozenset(team for team in self.roles if self.may(role, team))

    def role_in(self, team: str) -> Role | None:
        """The highest role in a team; None without any."""
        held = [self.roles[key] for key in (team, WHOLE_LAB) if key in self.roles]
        return max(held, key=lambda role: role.rank, default=None)

    def may(self, role: Role, team: str) -> bool:
        """Whether this is at least a `role` in the team."""
        held = self.role_in(team)
        return held is not None and held.rank >= role.rank


def highest(*given: Mapping[str, Role]) -> dict[str, Role]:
    """The highest role in each team."""
    roles: dict[str, Role] = {}
    for some in given:
        for team, role in some.items():
            if team not in roles or role.rank > roles[team].rank:
                roles[team] = role
    return roles


SYSTEM = Actor("labd", ActorKind.SYSTEM, MappingProxyType({WHOLE_LAB: Role.ADMIN}))
"""labd itself: what happens by the clock."""
ANONYMOUS = Actor("anonymous", ActorKind.PERSON, MappingProxyType({WHOLE_LAB: Role.ADMIN}))
"""Everybody, where labd asks nobody who they are."""
LOCAL_OPERATOR = Actor("local operator", ActorKind.PERSON)
"""Somebody on labd's machine, whom it did not ask who they are. No user can have the name."""


@dataclass(frozen=True, slots=True)
class User:
    """A person or program that labd itself knows by name. Times are seconds since the Unix epoch."""

    name: str
    kind: ActorKind
    created_at: float
    removed_at: float | None = None


@dataclass(frozen=True, slots=True)
class ApiToken:
    """What labd keeps of a token: not the token itself. Times are seconds since the Unix epoch."""

    prefix: str
    """The part of the token that may be shown, and names it."""
    sha256: str
    """Of the whole token, in hexadecimal."""
    owner: str
    name: str
    """What it is for."""
    scopes: frozenset[Scope] | None
    """What it was narrowed to; None: it was not."""
    created_at: float
    expires_at: float
    revoked_at: float | None = None
    last_used_at: float | None = None
