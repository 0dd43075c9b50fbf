"""Whether somebody may do something: one pure decision on a rule, an actor, and the thing that it is done to."""

from dataclasses import dataclass
from enum import StrEnum

from labd.model.identity import WHOLE_LAB, Actor, ActorKind, Role, Scope


class Admits(StrEnum):
    """What kind of caller an operation is for."""

    PUBLIC = "public"
    """Everybody, known or not."""
    SIGNED_IN = "signed in"
    """Whoever labd knows, with or without a role."""
    MEMBER = "member"
    """People and programs with a role."""
    RUNNER = "runner"
    """The runner of the run, with the run's token."""
    AGENT = "agent"
    """A bench agent with its certificate."""
    HOLDER = "holder"
    """Whoever holds the bench, with a lease token that the agent verifies."""
    OBSERVER = "observer"
    """Whoever holds the bench, or was let watch by who does."""


class TeamOf(StrEnum):
    """In which team the role is asked for."""

    ANY = "any team"
    """Some team; the answer has only what the actor's teams may see, and a request names its team itself."""
    LEASE = "the lease's team"
    RUN = "the run's team"
    BENCH = "the bench's team"
    """The whole lab, when the bench is shared and more than looking at it is asked for."""
    PATH = "the team in the path"
    LAB = "the whole lab"


class Reason(StrEnum):
    """When a reason has to be given (the query parameter ``reason``)."""

    NEVER = "never"
    OTHERS = "another's"
    ALWAYS = "always"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Who may call one operation."""

    admits: Admits = Admits.MEMBER
    role: Role = Role.VIEWER
    scope: Scope = Scope.READ
    team: TeamOf = TeamOf.ANY
    own: bool = False
    """It is for the holder; to do it to what another holds takes an OPERATOR, and the scope ``operate``."""
    runner: bool = False
    """The run's own runner may, too."""
    reason: Reason = Reason.NEVER


@dataclass(frozen=True, slots=True)
class Resource:
    """What is acted on, as far as rights go."""

    team: str | None
    """None: it is everybody's."""
    holder: str = ""
    run_id: str | None = None


class Outcome(StrEnum):
    """What becomes of a call."""

    ALLOWED = "allowed"
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    HIDDEN = "hidden"
    """As if the thing did not exist."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The outcome, why, and whether something of another's is forced."""

    outcome: Outcome
    why: str = ""
    forced: bool = False
    needs_reason: bool = False


def decide(rule: Rule, actor: Actor | None, resource: Resource | None = None) -> Decision:
    """Whether the actor (None: nobody whom labd knows) may call an operation with this rule.

    ``resource`` is what the path names, when the rule's team comes from there; None: it does not exist.
    """
    if rule.admits is Admits.PUBLIC:
        return Decision(Outcome.ALLOWED)
    if actor is None:
        return Decision(Outcome.UNAUTHENTICATED, "send a token as Authorization: Bearer")
    if rule.admits is Admits.SIGNED_IN:
        return Decision(Outcome.ALLOWED)
    if actor.kind is ActorKind.RUN or rule.admits is Admits.RUNNER:
        return _runner(rule, actor, resource)
    if rule.admits is not Admits.MEMBER:
        return Decision(Outcome.FORBIDDEN, f"this is for the {rule.admits}")
    return _member(rule, actor, resource)


def _runner(rule: Rule, actor: Actor, resource: Resource | None) -> Decision:
    if actor.run_id is None:
        return Decision(Outcome.FORBIDDEN, "this is for the run's runner: the token is not the one of the run")
    if rule.admits is not Admits.RUNNER and not rule.runner:
        return Decision(Outcome.FORBIDDEN, "the token of a run opens what belongs to that run only")
    if resource is None:
        return Decision(Outcome.HIDDEN)
    if resource.run_id != actor.run_id:
        return Decision(Outcome.FORBIDDEN, f"the token is the one of run {actor.run_id!r}")
    return Decision(Outcome.ALLOWED)


def _member(rule: Rule, actor: Actor, resource: Resource | None) -> Decision:
    role, scope, forced = rule.role, rule.scope, False
    if rule.team is TeamOf.ANY:
        if not actor.may_somewhere(role):
            return _lacks(role, "any team")
    elif rule.team is TeamOf.LAB:
        if not actor.may(role, WHOLE_LAB):
            return _lacks(role, "the whole lab")
    elif resource is None or not _sees(actor, resource):
        return Decision(Outcome.HIDDEN)
    else:
        if rule.own and not actor.is_holder(resource.holder, resource.run_id):
            role, scope, forced = Role.OPERATOR, Scope.OPERATE, True
        team = WHOLE_LAB if resource.team is None else resource.team
        if role is not Role.VIEWER and not actor.may(role, team):
            return _lacks(role, "the whole lab" if team == WHOLE_LAB else f"team {team!r}")
    if not actor.has_scope(scope):
        return Decision(Outcome.FORBIDDEN, f"the token has no scope {str(scope)!r}")
    needs_reason = rule.reason is Reason.ALWAYS or (rule.reason is Reason.OTHERS and forced)
    return Decision(Outcome.ALLOWED, forced=forced, needs_reason=needs_reason and not actor.trusted)


def _sees(actor: Actor, resource: Resource) -> bool:
    if resource.team is None:
        return actor.may_somewhere(Role.VIEWER)
    return actor.may(Role.VIEWER, resource.team)


def _lacks(role: Role, where: str) -> Decision:
    return Decision(Outcome.FORBIDDEN, f"this takes the role {str(role)!r} in {where}")
