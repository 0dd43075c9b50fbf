"""The rights of somebody who is not there to show a token: to whom a lease is given, with whom it is shared."""

from labd.model.identity import DEFAULT_TEAM, Actor, ActorKind, Role, Scope, highest
from labd.model.lease import Share, ShareMode
from labd.model.nearest import nearest
from labd.services.errors import FieldError, Invalid
from labd.services.ledger import Ledger
from labd.store.unit import Unit

DAY_S = 86_400.0
VOUCHED_S = 30 * DAY_S
"""How long it is taken to hold what an identity provider said of somebody when they last signed in."""


def known(unit: Unit, name: str, now: float) -> Actor | None:
    """Somebody as labd knows them by now: a user, a member of a team, or whom a provider has vouched for lately."""
    user = unit.user(name)
    if user is not None and user.removed_at is not None:
        return None
    roles = unit.roles(name)
    if ":" not in name:
        return None if user is None else Actor(name, user.kind, roles)
    vouched = unit.vouched(name, now - VOUCHED_S)
    if vouched is not None:
        return Actor(name, vouched.kind, highest(vouched.roles, roles), vouched.scopes)
    return Actor(name, ActorKind.PERSON, roles) if roles else None


def require_holder(ledger: Ledger, name: str, team: str, priority: str) -> None:
    """Raises Invalid unless somebody of this name may have a lease of the team in this class."""
    found = ledger.policy.priority_class(priority)
    role = Role.ENGINEER if found is None else max(Role.ENGINEER, found.role, key=lambda one: one.rank)
    what = f"a lease of priority {priority!r}" if role is not Role.ENGINEER else "leasing"
    _require(ledger, name, team, role, Scope.LEASE, what)


def require_guest(ledger: Ledger, share: Share, team: str, priority: str) -> None:
    """Raises Invalid unless a lease of the team may be shared so: who acts on its benches could have it themselves."""
    if share.mode is ShareMode.CO_DRIVER:
        require_holder(ledger, share.holder, team, priority)
    else:
        _require(ledger, share.holder, team, share.mode.role, Scope.READ, "looking on")


def require_team(ledger: Ledger, team: str) -> None:
    """Raises Invalid when whoever may ask for every team asks for one that is not there."""
    actor = ledger.actor
    if actor.trusted or team in actor.roles or team == DEFAULT_TEAM:
        return
    teams = ledger.unit.teams()
    if team not in teams:
        message = f"there is no such team{nearest(team, teams)}"
        raise Invalid(f"team {team!r}: {message}", FieldError("team", team, message))


def _require(ledger: Ledger, name: str, team: str, role: Role, scope: Scope, what: str) -> None:
    if ledger.actor.trusted:
        return  # nobody is asked who they are
    somebody = known(ledger.unit, name, ledger.now)
    held = None if somebody is None else somebody.role_in(team)
    if somebody is None or held is None:
        message = f"is not in team {team!r}{nearest(name, ledger.unit.members(team))}"
        if ":" in name:
            message += (
                "; whom an identity provider puts into a team is known once they have signed in, "
                f"for {VOUCHED_S / DAY_S:g} days"
            )
    elif held.rank < role.rank:
        message = f"is {str(held)!r} in team {team!r}: {what} takes the role {str(role)!r}"
    elif not somebody.has_scope(scope):
        scopes = ", ".join(sorted(somebody.scopes or ()))
        message = f"signs in with the scopes {scopes} only: {what} takes the scope {str(scope)!r}"
    else:
        return
    raise Invalid(f"holder {name!r} {message}", FieldError("holder", name, message))
