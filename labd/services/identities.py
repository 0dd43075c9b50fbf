"""Users, teams, memberships and API tokens: who is known to labd, and what they may."""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from labd.model.identity import DEFAULT_TEAM, WHOLE_LAB, Actor, ActorKind, ApiToken, Role, Scope, User
from labd.services.api_tokens import new_token
from labd.services.core import Core
from labd.services.errors import Conflict, FieldError, Forbidden, Invalid, NotFound
from labd.services.forfeits import forfeit, forfeit_all
from labd.services.ledger import Effects, Ledger
from labd.services.tenancy import require_team_name

DAY_S = 86_400.0
LIFETIME_S = 90 * DAY_S
"""Of a token, unless told otherwise."""
LIFETIME_MAX_S = 366 * DAY_S
TOKENS_MAX = 100
"""Live tokens of one user."""
ADMIN = "admin"
"""The user of the first token."""
ADMIN_TOKEN_FILE = "admin.token"  # noqa: S105 - a file's name
"""In the data directory of a labd that was started for the first time."""
ADMIN_TOKEN_LIFETIME_S = 30 * DAY_S
_USER = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._@+-]{0,62}[A-Za-z0-9])?")
_FOREIGN = re.compile(r"[a-z0-9][a-z0-9-]{0,31}:[^\x00-\x1f\x7f]{1,150}")
_RESERVED = frozenset({"anonymous", "labd"})


@dataclass(frozen=True, slots=True)
class UserView:
    """A user with their roles by team."""

    user: User
    roles: dict[str, Role]


class Identities:
    """The use cases of identities."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self.changes = 0
        """Grows with every change, also at another labd: whoever remembers who somebody is looks again."""
        core.follow(self._note)

    def _note(self, effects: Effects) -> None:
        if effects.identities:
            self.changes += 1

    # Users

    def users(self) -> list[UserView]:
        """Everybody who is not removed, by name."""
        with self._core.view() as unit:
            return [UserView(user, unit.roles(user.name)) for user in unit.users()]

    def create_user(self, actor: Actor, name: str, kind: ActorKind) -> UserView:
        """A new user without any role, or ``PROVIDER:NAME`` who was removed and may come back.

        Raises Invalid, and Conflict when the name is or was taken.
        """
        if ":" in name:
            return self._readmit(actor, name)
        require_user_name(name)
        with self._core.transaction(actor) as ledger:
            known = ledger.unit.user(name)
            if known is not None:
                again = "is there already" if known.removed_at is None else "was removed; no name is used twice"
                raise Conflict(f"user {name!r} {again}")
            user = User(name, kind, ledger.now)
            ledger.unit.add_user(user)
            ledger.audit("user.created", f"user/{name}", after={"kind": kind})
            return UserView(user, {})

    def remove_user(self, actor: Actor, name: str, why: str = "") -> None:
        """Revokes the user's tokens and memberships for good, and ends what they hold. Raises NotFound, and Conflict
        for the last admin.

        ``PROVIDER:NAME`` is let in no more, whatever the provider says of them. Raises Invalid for no such name.
        """
        with self._core.transaction(actor) as ledger:
            if ":" in name and ledger.unit.user(name) is None:
                _require_foreign_name(name)
                ledger.unit.add_user(User(name, ActorKind.PERSON, ledger.now))
            _require_user(ledger, name)
            roles = ledger.unit.roles(name)
            if roles.get(WHOLE_LAB) is Role.ADMIN:
                _require_other_admin(ledger, name)
            ledger.unit.remove_user(name, ledger.now)
            ledger.audit("user.removed", f"user/{name}", before={"roles": dict(roles)}, why=why)
            forfeit(ledger, name, _because(f"{name} was removed from the lab", why))
            ledger.effects.identities = True

    def _readmit(self, actor: Actor, name: str) -> UserView:
        with self._core.transaction(actor) as ledger:
            user = ledger.unit.user(name)
            if user is None:
                message = "identity providers vouch for their own people, who need no user: make them a team's member"
                raise Invalid(f"{name!r} is no name for a user: {message}", FieldError("name", name, message))
            ledger.unit.forget_user(name)
            ledger.audit("user.readmitted", f"user/{name}")
            ledger.effects.identities = True
        return UserView(user, {})

    # Teams

    def teams(self, actor: Actor) -> list[str]:
        """The teams that the actor belongs to, or all for one who belongs to the whole lab."""
        mine = actor.teams()
        with self._core.view() as unit:
            return [team for team in unit.teams() if mine is None or team in mine]

    def create_team(self, actor: Actor, name: str) -> None:
        """A new team without members. Raises Invalid and Conflict."""
        require_team_name("name", name)
        with self._core.transaction(actor) as ledger:
            if name in ledger.unit.teams():
                raise Conflict(f"team {name!r} is there already")
            ledger.unit.add_team(name, ledger.now)
            ledger.audit("team.created", f"team/{name}", team=name)

    def remove_team(self, actor: Actor, name: str, why: str = "") -> None:
        """Forgets the team and its memberships, and ends what it holds. What it did stays, for the whole lab's people
        to see.

        Raises NotFound, and Conflict for the team of whoever names none.
        """
        with self._core.transaction(actor) as ledger:
            _require_team(ledger, name)
            if name == DEFAULT_TEAM:
                raise Conflict(f"team {name!r} is the team of whoever names none: it stays")
            members = ledger.unit.members(name)
            ledger.unit.remove_team(name)
            ledger.audit("team.removed", f"team/{name}", before={"members": dict(members)}, why=why, team=name)
            forfeit_all(ledger, name, _because(f"team {name} was removed", why))
            ledger.effects.identities = True

    def members(self, team: str) -> dict[str, Role]:
        """Who belongs to a team; to the whole lab for "*". Raises NotFound."""
        with self._core.view() as unit:
            if team != WHOLE_LAB and team not in unit.teams():
                raise NotFound(f"there is no team {team!r}")
            return unit.members(team)

    def save_member(self, actor: Actor, team: str, member: str, role: Role) -> None:
        """Gives somebody a role in a team. ``member`` is a user, or a name that an identity provider vouches for:
        ``PROVIDER:NAME``. It may be a lower one: what they hold and could not lease with it ends. Raises NotFound,
        Invalid, and Conflict for the last admin of the lab.
        """
        with self._core.transaction(actor) as ledger:
            _require_team(ledger, team)
            if ":" not in member:
                _require_user(ledger, member)
            before = ledger.unit.members(team).get(member)
            if team == WHOLE_LAB and before is Role.ADMIN and role is not Role.ADMIN:
                _require_other_admin(ledger, member)
            ledger.unit.save_member(team, member, role)
            ledger.audit(
                "member.saved",
                f"team/{team}",
                before=None if before is None else {"member": member, "role": before},
                after={"member": member, "role": role},
                team=_team_on_record(team),
            )
            if before is not None and role.rank < before.rank:
                forfeit(ledger, member, f"{member} is only {role} in {_in_words(team)} by now")
            ledger.effects.identities = True

    def remove_member(self, actor: Actor, team: str, member: str) -> None:
        """Takes somebody out of a team; what they hold by it ends. Raises NotFound, and Conflict for the last admin of
        the lab.
        """
        with self._core.transaction(actor) as ledger:
            _require_team(ledger, team)
            role = ledger.unit.members(team).get(member)
            if role is None:
                raise NotFound(f"{member!r} is not in team {team!r}")
            if team == WHOLE_LAB and role is Role.ADMIN:
                _require_other_admin(ledger, member)
            ledger.unit.remove_member(team, member)
            before = {"member": member, "role": role}
            ledger.audit("member.removed", f"team/{team}", before=before, team=_team_on_record(team))
            forfeit(ledger, member, f"{member} was taken out of {_in_words(team)}")
            ledger.effects.identities = True

    # Tokens

    def tokens(self, actor: Actor, everybody: bool) -> list[ApiToken]:
        """The actor's tokens, or everybody's for an admin of the lab. Raises Forbidden."""
        if everybody:
            _require_lab_admin(actor, "seeing the tokens of others")
        with self._core.view() as unit:
            return unit.api_tokens(None if everybody else actor.name)

    def create_token(
        self, actor: Actor, name: str, *, scopes: Iterable[Scope] | None, lifetime_s: float, owner: str | None = None
    ) -> tuple[ApiToken, str]:
        """A new token, and the token's text, which nobody can ask for again.

        For the actor, or for another user when the actor is an admin of the lab. Raises Invalid, NotFound, Forbidden,
        and Conflict when the owner has too many.
        """
        wanted = None if scopes is None else frozenset(scopes)
        owner = actor.name if owner is None else owner
        if owner != actor.name:
            _require_lab_admin(actor, "making a token for another user")
        if actor.scopes is not None and (wanted is None or not wanted <= actor.scopes):
            raise Forbidden(
                f"a token makes none that may more than itself: its scopes are {', '.join(sorted(actor.scopes))}"
            )
        if not 0 < lifetime_s <= LIFETIME_MAX_S:
            message = f"expected more than 0 and at most {LIFETIME_MAX_S:g} s ({LIFETIME_MAX_S / DAY_S:g} days)"
            raise Invalid(f"lifetime_s is {lifetime_s:g}: {message}", FieldError("lifetime_s", lifetime_s, message))
        with self._core.transaction(actor) as ledger:
            _require_user(ledger, owner)
            return issue_token(ledger, owner, name, wanted, lifetime_s)

    def revoke_token(self, actor: Actor, prefix: str, why: str = "") -> ApiToken:
        """Ends a token now: the actor's own, or another's for an admin of the lab, who must say why.

        Raises NotFound, Forbidden and Invalid.
        """
        with self._core.transaction(actor) as ledger:
            token = ledger.unit.api_token(prefix)
            if token is None or not (token.owner == actor.name or actor.may(Role.ADMIN, WHOLE_LAB)):
                raise NotFound(f"there is no token {prefix!r}")
            if token.owner != actor.name:
                _require_lab_admin(actor, "revoking the token of another")
                require_reason(actor, why, "revoking the token of another")
            if token.revoked_at is None:
                token = replace(token, revoked_at=ledger.now)
                ledger.unit.save_api_token(token)
                ledger.audit("token.revoked", f"token/{prefix}", before={"owner": token.owner}, why=why)
            ledger.effects.identities = True
        return token

    def bootstrap(self, directory: Path) -> Path | None:
        """The file with a token for a first admin, on the first start; None when somebody is known already."""
        with self._core.transaction() as ledger:
            if ledger.unit.users():
                return None
            ledger.unit.add_user(User(ADMIN, ActorKind.PERSON, ledger.now))
            ledger.unit.save_member(WHOLE_LAB, ADMIN, Role.ADMIN)
            _, text = issue_token(ledger, ADMIN, "first start", None, ADMIN_TOKEN_LIFETIME_S)
            # Before the commit: a labd that dies between the two makes another on its next start.
            path = directory / ADMIN_TOKEN_FILE
            path.unlink(missing_ok=True)
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(file, "w", encoding="ascii") as stream:
                stream.write(text + "\n")
                stream.flush()
                os.fsync(stream.fileno())
        return path


def require_user_name(name: str) -> None:
    """Raises Invalid for what no user can be called."""
    if not _USER.fullmatch(name) or name in _RESERVED:
        message = "expected up to 64 letters, digits, '.', '_', '-', '+' and '@', such as ada or ci-powertrain"
        raise Invalid(f"{name!r} is no name for a user: {message}", FieldError("name", name, message))


def _require_foreign_name(name: str) -> None:
    if not _FOREIGN.fullmatch(name):
        message = "expected PROVIDER:NAME, as `labctl whoami` and the audit log show it"
        raise Invalid(f"{name!r} is nobody's name: {message}", FieldError("name", name, message))


def require_reason(actor: Actor, why: str, what: str) -> None:
    """Raises Invalid when somebody whom labd knows forces something and does not say why."""
    if not why.strip() and not actor.trusted:
        message = "say why, in a few words: it goes into the audit log"
        raise Invalid(f"{what} takes a reason: {message}", FieldError("reason", why or None, message))


def issue_token(
    ledger: Ledger, owner: str, name: str, scopes: frozenset[Scope] | None, lifetime_s: float, why: str = ""
) -> tuple[ApiToken, str]:
    """A new token of a user, and its text. Raises Conflict when the user has too many."""
    live = [
        token for token in ledger.unit.api_tokens(owner) if token.revoked_at is None and token.expires_at > ledger.now
    ]
    if len(live) >= TOKENS_MAX:
        raise Conflict(f"user {owner!r} has {len(live)} live tokens; revoke one first")
    text, prefix, sha256 = new_token()
    token = ApiToken(prefix, sha256, owner, name, scopes, ledger.now, ledger.now + lifetime_s)
    ledger.unit.save_api_token(token)
    ledger.audit(
        "token.created",
        f"token/{prefix}",
        after={
            "owner": owner,
            "name": name,
            "scopes": None if scopes is None else sorted(scopes),
            "expires_at": token.expires_at,
        },
        why=why,
    )
    return token, text


def _because(what: str, why: str) -> str:
    return f"{what}: {why}" if why else what


def _in_words(team: str) -> str:
    return "the whole lab" if team == WHOLE_LAB else f"team {team}"


def _team_on_record(team: str) -> str:
    """As the audit log has it: the whole lab is no team there."""
    return "" if team == WHOLE_LAB else team


def _require_user(ledger: Ledger, name: str) -> User:
    user = ledger.unit.user(name)
    if user is None or user.removed_at is not None:
        raise NotFound(f"there is no user {name!r}")
    return user


def _require_team(ledger: Ledger, name: str) -> None:
    if name != WHOLE_LAB and name not in ledger.unit.teams():
        raise NotFound(f"there is no team {name!r}")


def _require_other_admin(ledger: Ledger, name: str) -> None:
    others = [member for member, role in ledger.unit.members(WHOLE_LAB).items() if role is Role.ADMIN]
    if others == [name]:
        raise Conflict(f"{name!r} is the last admin of the lab: make another first")


def _require_lab_admin(actor: Actor, what: str) -> None:
    if not actor.may(Role.ADMIN, WHOLE_LAB) or not actor.has_scope(Scope.ADMIN):
        raise Forbidden(f"{what} takes the role 'admin' in the whole lab")
