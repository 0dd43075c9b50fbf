"""Tokens of OpenID Connect issuers: verified with the issuer's own keys, which change now and then."""

import threading
from typing import Any

import structlog
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from labd.model.identity import ActorKind
from labd.services.errors import ProviderAway, Unauthenticated
from labd.services.provider_http import ProviderHttp, ProviderUnreachable
from labd.services.providers import Oidc, roles_of
from labd.services.sign_in import LASTS_MAX_S, LoginView, Vouched

LEEWAY_S = 60
"""By how much the issuer's clock and labd's may differ."""
KEYS_LAST_S = 3600.0
"""How long keys are used before they are asked for again."""
KEYS_AGAIN_S = 10.0
"""Unknown keys are asked for this often at most, whoever sends tokens that name them."""
KEYS_WAIT_S = 5.0
"""How long the first ones wait for keys that another fetches."""
WAITING_MAX = 4
NAME_LENGTH_MAX = 150

_log = structlog.get_logger()


class OidcProvider:
    """One issuer."""

    def __init__(self, settings: Oidc) -> None:
        self._settings = settings
        self._http = ProviderHttp(settings.ca)
        self._lock = threading.Lock()
        self._waiting = threading.Semaphore(WAITING_MAX)
        self._keys: KeySet | None = None
        self._fetched_at = float("-inf")
        self._tried_at = float("-inf")
        self.login = (
            None
            if settings.client_id is None
            else LoginView(settings.name, settings.issuer, settings.client_id, settings.scope)
        )

    def issued(self, issuer: str) -> bool:
        """See `Provider`."""
        return issuer == self._settings.issuer

    def vouch(self, token: str, now: float) -> Vouched:
        """See `Provider`."""
        settings = self._settings
        claims = self._verified(token, now)
        audiences = [one for one in (settings.client_id, settings.audience) if one is not None]
        registry = jwt.JWTClaimsRegistry(
            now=int(now),
            leeway=LEEWAY_S,
            iss={"essential": True, "value": settings.issuer},
            aud={"essential": True, "values": audiences},
            exp={"essential": True},
        )
        try:
            registry.validate(claims)
        except JoseError as error:
            raise Unauthenticated(f"the token of {settings.name} is not good: {error}") from error
        party = claims.get("azp")
        if party is not None and settings.audience is None and party != settings.client_id:
            raise Unauthenticated(f"the token of {settings.name} was made for {party!r}")
        name = claims.get(settings.name_claim)
        if not isinstance(name, str) or not name.isprintable() or not 0 < len(name) <= NAME_LENGTH_MAX:
            raise Unauthenticated(f"the token of {settings.name} has no name in the claim {settings.name_claim!r}")
        roles, scopes = roles_of(settings.grants, claims)
        kind = ActorKind.PROGRAM if settings.client_id is None else ActorKind.PERSON
        return Vouched(f"{settings.name}:{name}", kind, roles, scopes, min(claims["exp"], now + LASTS_MAX_S) + LEEWAY_S)

    def _verified(self, token: str, now: float) -> dict[str, Any]:
        algorithms = list(self._settings.algorithms)
        error: Exception | None = None
        for again in (False, True):
            keys = self._current_keys(now, again)
            try:
                return dict(jwt.decode(token, keys, algorithms=algorithms).claims)
            except (JoseError, ValueError) as failure:
                error = failure  # perhaps by a key that is newer than those that are known
        raise Unauthenticated(f"the token of {self._settings.name} is not good: {error}") from error

    def _current_keys(self, now: float, again: bool) -> KeySet:
        stale = self._keys is None or now - self._fetched_at > KEYS_LAST_S
        # One asks, and few wait for it, so that a slow issuer keeps only its own people waiting.
        if (stale or again) and now - self._tried_at >= KEYS_AGAIN_S and self._lock.acquire(blocking=False):
            try:
                self._tried_at = now
                self._keys = self._fetch()
                self._fetched_at = now
            except (ProviderUnreachable, JoseError, ValueError) as error:
                _log.warning("no keys of an identity provider", provider=self._settings.name, reason=str(error))
            finally:
                self._lock.release()
        if self._keys is None and self._waiting.acquire(blocking=False):
            try:  # somebody else asks at present: what comes is for this one, too
                if self._lock.acquire(timeout=KEYS_WAIT_S):
                    self._lock.release()
            finally:
                self._waiting.release()
        keys = self._keys
        if keys is None:
            raise ProviderAway(f"labd cannot get the keys of {self._settings.name} at present: try again")
        return keys

    def _fetch(self) -> KeySet:
        issuer = self._settings.issuer
        described = self._http.json("GET", f"{issuer.rstrip('/')}/.well-known/openid-configuration")
        if described.get("issuer") != issuer:
            raise ValueError(f"{issuer} calls itself {described.get('issuer')!r} (RFC 8414, 3.3)")
        location = described.get("jwks_uri")
        if not isinstance(location, str):
            raise ValueError(f"{issuer} names no jwks_uri")
        return KeySet.import_key_set(self._http.json("GET", location))  # type: ignore[arg-type]  # checked by the import
