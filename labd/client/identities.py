"""The part of LabClient that is about who is who."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast
from urllib.parse import quote

from labd.client.types import ApiToken, LoginWays, Member, NewApiToken, User, WhoAmI
from labd.client.versions import IfMatch


class Identities:
    """Signing in, users, teams, tokens."""

    def _get(self, path: str) -> Any:
        raise NotImplementedError

    def _items(self, path: str, filters: Mapping[str, str | Sequence[str]]) -> Iterator[Any]:
        raise NotImplementedError

    def _call(self, method: str, path: str, body: object | None = None, if_match: IfMatch = None) -> Any:
        raise NotImplementedError

    def login_ways(self) -> LoginWays:
        """How this labd wants to be signed in to."""
        return cast(LoginWays, self._get("login"))

    def whoami(self) -> WhoAmI:
        """Whose token this client shows, and what it may."""
        return cast(WhoAmI, self._get("whoami"))

    def users(self) -> list[User]:
        """The users that labd itself knows, by name."""
        return list(self._items("users", {}))

    def create_user(self, name: str, kind: str = "person") -> User:
        """Adds a user ("person" or "program") without any role."""
        return cast(User, self._call("POST", "users", {"name": name, "kind": kind}))

    def remove_user(self, name: str, reason: str) -> None:
        """Revokes a user's tokens and memberships for good, and ends what they hold."""
        self._call("DELETE", with_reason(f"users/{_segment(name)}", reason))

    def teams(self) -> list[str]:
        """The teams that one belongs to; all, for who belongs to the whole lab."""
        return [team["name"] for team in self._items("teams", {})]

    def create_team(self, name: str) -> None:
        """Adds a team without members."""
        self._call("POST", "teams", {"name": name})

    def remove_team(self, name: str, reason: str) -> None:
        """Forgets a team, and ends its leases, bookings and runs."""
        self._call("DELETE", with_reason(f"teams/{_segment(name)}", reason))

    def members(self, team: str) -> list[Member]:
        """Who belongs to a team; to the whole lab for ``*``."""
        return list(self._items(f"teams/{_segment(team)}/members", {}))

    def save_member(self, team: str, name: str, role: str) -> Member:
        """Gives somebody a role (viewer, engineer, operator, admin) in a team, or in the whole lab (``*``)."""
        return cast(Member, self._call("PUT", f"teams/{_segment(team)}/members/{_segment(name)}", {"role": role}))

    def remove_member(self, team: str, name: str) -> None:
        """Takes somebody out of a team; what they hold by it ends."""
        self._call("DELETE", f"teams/{_segment(team)}/members/{_segment(name)}")

    def tokens(self, *, everybody: bool = False) -> list[ApiToken]:
        """One's own API tokens, newest first; with ``everybody`` those of all users."""
        return list(self._items("tokens", {"all": "true"} if everybody else {}))

    def create_token(
        self,
        name: str,
        *,
        scopes: Sequence[str] | None = None,
        lifetime_s: float = 90 * 86_400,
        owner: str | None = None,
    ) -> NewApiToken:
        """Makes an API token, whose text cannot be asked for again: for oneself, or as an admin for another user."""
        body = {
            "name": name,
            "scopes": None if scopes is None else list(scopes),
            "lifetime_s": lifetime_s,
            "owner": owner,
        }
        return cast(NewApiToken, self._call("POST", "tokens", body))

    def revoke_token(self, prefix: str, reason: str = "") -> ApiToken:
        """Ends a token now; one of another takes a reason."""
        return cast(ApiToken, self._call("DELETE", with_reason(f"tokens/{_segment(prefix)}", reason)))


def with_reason(path: str, reason: str) -> str:
    """The path with the query parameter ``reason``, where there is one."""
    return f"{path}?reason={quote(reason, safe='')}" if reason else path


def _segment(text: str) -> str:
    return quote(text, safe="")
