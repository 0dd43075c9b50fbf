"""Users, teams, memberships and tokens of a unit of work."""

from typing import Any

from sqlalchemy import RowMapping, delete, insert, select, update

from labd.model.access import Resource
from labd.model.identity import Actor, ActorKind, ApiToken, Role, Scope, User
from labd.store import tables
from labd.store.units.part import Part


class Identities(Part):
    """Users, teams, memberships and tokens of a unit of work."""

    def users(self) -> list[User]:
        """Those who are not removed, by name."""
        query = select(tables.users).where(tables.users.c.removed_at.is_(None)).order_by(tables.users.c.name)
        return [_user(row) for row in self._connection.execute(query).mappings()]

    def user(self, name: str) -> User | None:
        """One user, removed or not."""
        row = self._connection.execute(select(tables.users).where(tables.users.c.name == name)).mappings().first()
        return None if row is None else _user(row)

    def add_user(self, user: User) -> None:
        """Stores a new user."""
        values = {"name": user.name, "kind": user.kind, "created_at": user.created_at, "removed_at": user.removed_at}
        self._connection.execute(insert(tables.users).values(values))

    def remove_user(self, name: str, now: float) -> None:
        """Marks a user as removed, revokes their tokens, and takes them out of every team."""
        self._connection.execute(update(tables.users).where(tables.users.c.name == name).values(removed_at=now))
        columns = tables.api_tokens.c
        self._connection.execute(
            update(tables.api_tokens).where(columns.owner == name, columns.revoked_at.is_(None)).values(revoked_at=now)
        )
        self._connection.execute(delete(tables.memberships).where(tables.memberships.c.member == name))

    def forget_user(self, name: str) -> None:
        """Forgets somebody who never had a token of labd's own."""
        self._connection.execute(delete(tables.users).where(tables.users.c.name == name))

    def vouched(self, name: str, since: float) -> Actor | None:
        """What a provider said of somebody when they last signed in, if that was since then."""
        columns = tables.vouched.c
        row = self._connection.execute(
            select(tables.vouched).where(columns.name == name, columns.seen_at >= since)
        ).first()
        if row is None:
            return None
        roles = {team: Role(role) for team, role in row.roles.items()}
        return Actor(row.name, ActorKind(row.kind), roles, None if row.scopes is None else _scopes(row.scopes))

    def save_vouched(self, vouched: Actor, now: float, oldest: float) -> None:
        """Keeps what a provider says of somebody, in the place of what it said before; forgets who came before
        ``oldest``.
        """
        columns = tables.vouched.c
        self._connection.execute(
            delete(tables.vouched).where((columns.name == vouched.name) | (columns.seen_at < oldest))
        )
        scopes = None if vouched.scopes is None else sorted(vouched.scopes)
        values = {"name": vouched.name, "kind": vouched.kind, "roles": dict(vouched.roles), "scopes": scopes}
        self._connection.execute(insert(tables.vouched).values(values | {"seen_at": now}))

    def teams(self) -> list[str]:
        """Every team, by name."""
        return list(self._connection.scalars(select(tables.teams.c.name).order_by(tables.teams.c.name)))

    def add_team(self, name: str, now: float) -> None:
        """Stores a new team."""
        self._connection.execute(insert(tables.teams).values(name=name, created_at=now))

    def remove_team(self, name: str) -> None:
        """Forgets a team and who belonged to it."""
        self._connection.execute(delete(tables.memberships).where(tables.memberships.c.team == name))
        self._connection.execute(delete(tables.teams).where(tables.teams.c.name == name))

    def members(self, team: str) -> dict[str, Role]:
        """Who belongs to a team, by name."""
        columns = tables.memberships.c
        query = select(columns.member, columns.role).where(columns.team == team).order_by(columns.member)
        return {row.member: Role(row.role) for row in self._connection.execute(query)}

    def roles(self, member: str) -> dict[str, Role]:
        """The roles of somebody, by team."""
        columns = tables.memberships.c
        query = select(columns.team, columns.role).where(columns.member == member).order_by(columns.team)
        return {row.team: Role(row.role) for row in self._connection.execute(query)}

    def save_member(self, team: str, member: str, role: Role) -> None:
        """Gives somebody a role in a team, in the place of the one they had."""
        self.remove_member(team, member)
        self._connection.execute(insert(tables.memberships).values(team=team, member=member, role=role))

    def remove_member(self, team: str, member: str) -> bool:
        """Takes somebody out of a team; whether they were in it."""
        columns = tables.memberships.c
        done = self._connection.execute(
            delete(tables.memberships).where(columns.team == team, columns.member == member)
        )
        return done.rowcount > 0

    def api_token(self, prefix: str) -> ApiToken | None:
        """One token."""
        query = select(tables.api_tokens).where(tables.api_tokens.c.prefix == prefix)
        row = self._connection.execute(query).mappings().first()
        return None if row is None else _token(row)

    def api_tokens(self, owner: str | None) -> list[ApiToken]:
        """The tokens of a user, or of all, the newest first."""
        query = select(tables.api_tokens).order_by(tables.api_tokens.c.created_at.desc(), tables.api_tokens.c.prefix)
        if owner is not None:
            query = query.where(tables.api_tokens.c.owner == owner)
        return [_token(row) for row in self._connection.execute(query).mappings()]

    def save_api_token(self, token: ApiToken) -> None:
        """Adds the token, or replaces what was known of it."""
        values = _token_values(token)
        columns = tables.api_tokens.c
        done = self._connection.execute(update(tables.api_tokens).where(columns.prefix == token.prefix).values(values))
        if done.rowcount == 0:
            self._connection.execute(insert(tables.api_tokens).values(values))

    def lease_resource(self, lease_id: str) -> Resource | None:
        """Whose a lease is."""
        columns = tables.leases.c
        query = select(columns.team, columns.holder, columns.run_id).where(columns.id == lease_id)
        row = self._connection.execute(query).first()
        return None if row is None else Resource(row.team, row.holder, row.run_id)

    def run_resource(self, run_id: str) -> Resource | None:
        """Whose a run is."""
        columns = tables.runs.c
        query = select(columns.team, columns.holder).where(columns.id == run_id)
        row = self._connection.execute(query).first()
        return None if row is None else Resource(row.team, row.holder, run_id)


def _user(row: RowMapping) -> User:
    return User(row["name"], ActorKind(row["kind"]), row["created_at"], row["removed_at"])


def _scopes(names: list[str]) -> frozenset[Scope]:
    return frozenset(map(Scope, names))


def _token(row: RowMapping) -> ApiToken:
    scopes = None if row["scopes"] is None else _scopes(row["scopes"])
    return ApiToken(**{**row, "scopes": scopes})


def _token_values(token: ApiToken) -> dict[str, Any]:
    return {
        "prefix": token.prefix,
        "sha256": token.sha256,
        "owner": token.owner,
        "name": token.name,
        "scopes": None if token.scopes is None else sorted(token.scopes),
        "created_at": token.created_at,
        "expires_at": token.expires_at,
        "revoked_at": token.revoked_at,
        "last_used_at": token.last_used_at,
    }
