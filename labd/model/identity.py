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

    def role_in(self, team: str) -> Role | None:
        """The highest role in a team; None without any."""
        held = [self.roles[key] for key in (team, WHOLE_LAB) if key in self.roles]
        return max(held, key=lambda role: role.rank, default=None)

    def may(self, role: Role, team: str) -> bool:
        """Whether this is at least a `role` in the team."""
        held = self.role_in(team)
        return held is not None and held.rank >= role.rank


SYSTEM = Actor("labd", ActorKind.SYSTEM, MappingProxyType({WHOLE_LAB: Role.ADMIN}))
"""labd itself: what happens by the clock."""
ANONYMOUS = Actor("anonymous", ActorKind.PERSON, MappingProxyType({WHOLE_LAB: Role.ADMIN}))
"""Everybody, where labd asks nobody who they are."""
