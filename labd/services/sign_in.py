"""Who sends a bearer token: a user with an API token, or somebody whom an identity provider vouches for."""

import hashlib
import json
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Protocol

from joserfc import jws
from joserfc.errors import JoseError

from labd.model.identity import Actor, ActorKind, Role, Scope, highest
from labd.services.api_tokens import matches, prefix_of
from labd.services.core import Core
from labd.services.errors import Unauthenticated
from labd.services.forfeits import forfeit
from labd.services.identities import Identities
from labd.services.rights import VOUCHED_S

REMEMBERED_S = 0.4
"""How long it is taken for granted that a token is good, unless a labd of the lab says otherwise."""
REMEMBERED_MAX = 4096
LAST_USED_S = 60.0
"""How exactly the last use of a token is kept."""
VOUCHED_ANEW_S = 86_400.0
"""How exactly it is kept when a provider last said the same of somebody."""
TOKEN_LENGTH_MAX = 16 * 1024
LASTS_MAX_S = 366 * 86_400.0
"""Of a token that others have issued, whatever they say."""


@dataclass(frozen=True, slots=True)
class Vouched:
    """What an identity provider says of a token's owner, and what the lab's rules make of it."""

    name: str
    """``PROVIDER:NAME``, so that nobody there is taken for a user of labd's own."""
    kind: ActorKind
    roles: Mapping[str, Role]
    scopes: frozenset[Scope] | None
    expires_at: float
    """Seconds since the Unix epoch, on labd's clock."""


@dataclass(frozen=True, slots=True)
class LoginView:
    """Where people sign in by themselves: an OpenID Connect issuer, and what labd is to it."""

    name: str
    issuer: str
    client_id: str
    scope: str


class Provider(Protocol):
    """Knows tokens that others have issued."""

    login: LoginView | None
    """None: its tokens come from elsewhere, such as a CI system."""

    def issued(self, issuer: str) -> bool:
        """Whether tokens of this issuer (claim ``iss``) are its business."""

    def vouch(self, token: str, now: float) -> Vouched:
        """Raises Unauthenticated, saying what is wrong with the token."""


@dataclass(frozen=True, slots=True)
class _Remembered:
    actor: Actor
    until: float
    changes: int


class SignIn:
    """Turns bearer tokens into actors."""

    def __init__(self, core: Core, identities: Identities, providers: Sequence[Provider] = ()) -> None:
        self._core = core
        self._identities = identities
        self._providers = providers
        self._lock = threading.Lock()
        self._remembered: OrderedDict[bytes, _Remembered] = OrderedDict()

    def logins(self) -> list[LoginView]:
        """Where people sign in by themselves."""
        return [one.login for one in self._providers if one.login is not None]

    def remembered(self, token: str) -> Actor | None:
        """Whose token it is, if that was found out a moment ago; never waits."""
        key = _key(token)
        with self._lock:
            known = self._remembered.get(key)
            if known is None:
                return None
            if known.until <= self._core.clock.now() or known.changes != self._identities.changes:
                del self._remembered[key]
                return None
            return known.actor

    def authenticate(self, token: str) -> Actor:
        """Whose token it is. Raises Unauthenticated."""
        actor = self.remembered(token)
        if actor is not None:
            return actor
        changes = self._identities.changes
        now = self._core.clock.now()
        actor, expires_at = self._user(token, now) if prefix_of(token) else self._foreigner(token, now)
        with self._lock:
            self._remembered[_key(token)] = _Remembered(actor, min(now + REMEMBERED_S, expires_at), changes)
            if len(self._remembered) > REMEMBERED_MAX:
                self._remembered.popitem(last=False)
        return actor

    def _user(self, text: str, now: float) -> tuple[Actor, float]:
        prefix = prefix_of(text) or ""
        with self._core.view() as unit:
            token = unit.api_token(prefix)
            if token is None or not matches(token, text):
                raise Unauthenticated("labd knows no such token")
            user = unit.user(token.owner)
            roles = unit.roles(token.owner)
        if token.revoked_at is not None or user is None or user.removed_at is not None:
            raise Unauthenticated(f"token {prefix} was revoked")
        if token.expires_at <= now:
            raise Unauthenticated(f"token {prefix} has expired: make another with 'labctl token create'")
        if token.last_used_at is None or now - token.last_used_at >= LAST_USED_S:
            self._note_use(prefix, now)
        return Actor(user.name, user.kind, MappingProxyType(roles), token.scopes), token.expires_at

    def _note_use(self, prefix: str, now: float) -> None:
        with self._core.transaction() as ledger:
            token = ledger.unit.api_token(prefix)
            if token is not None:
                ledger.unit.save_api_token(replace(token, last_used_at=now))

    def _foreigner(self, token: str, now: float) -> tuple[Actor, float]:
        issuer = unproven_claims(token).get("iss")
        if not isinstance(issuer, str):
            raise Unauthenticated("labd knows no such token")
        provider = next((one for one in self._providers if one.issued(issuer)), None)
        if provider is None:
            raise Unauthenticated(f"labd does not know the issuer {issuer!r}")
        vouched = provider.vouch(token, now)
        with self._core.view() as unit:
            user = unit.user(vouched.name)
            if user is not None and user.removed_at is not None:
                raise Unauthenticated(f"{vouched.name!r} was removed from this lab")
            said = Actor(vouched.name, vouched.kind, dict(vouched.roles), vouched.scopes)
            is_news = unit.vouched(said.name, now - VOUCHED_ANEW_S) != said
            roles = highest(said.roles, unit.roles(said.name))
        if is_news:
            with self._core.transaction() as ledger:
                ledger.unit.save_vouched(said, now, now - VOUCHED_S)
                if said.kind is ActorKind.PERSON:  # programs have other rights from job to job
                    forfeit(ledger, said.name, f"{said.name} has fewer rights by the identity provider")
        return replace(said, roles=MappingProxyType(roles)), vouched.expires_at


def unproven_claims(token: str) -> dict[str, Any]:
    """What a JWT says, which anybody may have written; empty for what is no JWT."""
    try:
        claims = json.loads(jws.extract_compact(token.encode("ascii")).payload)
    except (JoseError, ValueError, RecursionError):
        return {}
    return claims if isinstance(claims, dict) else {}


def _key(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "replace")).digest()
