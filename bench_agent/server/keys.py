"""labd's public keys, as last pushed by labd, and the verification of lease tokens with them."""

import json
from collections import OrderedDict
from pathlib import Path

import structlog
from joserfc import jwt
from joserfc.errors import BadSignatureError, InvalidKeyIdError, JoseError
from joserfc.jwk import KeySet

from bench_agent.protocol.claims import ALGORITHM, LeaseClaims
from bench_agent.server import files

_REMEMBERED = 256
_LONGEST_TOKEN = 4096  # gRPC refuses metadata above 8 KiB at random, and all above 16 KiB

_log = structlog.get_logger()


class KeysMissing(Exception):
    """labd has never reached this agent, so no token can be verified yet."""


class TokenInvalid(Exception):
    """The token is not one that labd signed; says what is wrong."""


class KeyRing:
    """Verifies lease tokens offline. The keys are cached on disk, so that a restarted agent needs no labd."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._keys: KeySet | None = None
        self._text = ""
        self._verified: OrderedDict[str, LeaseClaims] = OrderedDict()
        try:
            text = path.read_text()
            self._keys, self._text = _parse(text), text
        except FileNotFoundError:
            pass  # the first start
        except (OSError, ValueError) as error:
            _log.warning("cached keys of labd are unusable; waiting for labd", file=str(path), reason=str(error))

    def replace(self, jwks: str) -> None:
        """Takes over a JWK set (RFC 7517) as JSON text. Raises ValueError, and keeps the former keys, if it is none."""
        if jwks == self._text:
            return
        self._keys, self._text = _parse(jwks), jwks
        self._verified.clear()
        try:
            files.replace(self._path, jwks.encode())
        except OSError as error:
            _log.warning("keys of labd are not cached", file=str(self._path), reason=str(error))

    def verify(self, token: str) -> LeaseClaims:
        """The claims of a token whose signature is good; its expiry is not looked at.

        Raises TokenInvalid, or KeysMissing before labd was ever reached.
        """
        known = self._verified.get(token)
        if known is not None:
            return known
        if self._keys is None:
            raise KeysMissing("this agent has not reached labd yet, and has no keys to verify lease tokens with")
        if len(token) > _LONGEST_TOKEN:
            raise TokenInvalid(f"lease token has {len(token)} characters; at most {_LONGEST_TOKEN} are accepted")
        try:
            decoded = jwt.decode(token, self._keys, algorithms=[ALGORITHM])
        except (BadSignatureError, InvalidKeyIdError) as error:
            raise TokenInvalid("lease token has a wrong signature: this agent's labd did not sign it") from error
        except (JoseError, ValueError, TypeError, KeyError) as error:
            raise TokenInvalid(f"lease token is malformed: {error}") from error
        try:
            claims = LeaseClaims.from_jwt(decoded.claims)
        except (ValueError, AttributeError) as error:
            raise TokenInvalid(f"lease token: {error}") from error
        self._verified[token] = claims
        if len(self._verified) > _REMEMBERED:
            self._verified.popitem(last=False)
        return claims


def _parse(jwks: str) -> KeySet:
    """Raises ValueError for anything but a JWK set of public Ed25519 keys."""
    try:
        document = json.loads(jwks)
        keys = KeySet.import_key_set(document)
    except (JoseError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"not a JWK set: {error}") from error
    if not keys.keys:
        raise ValueError("the JWK set is empty")
    for key in keys.keys:
        if key.key_type != "OKP":
            raise ValueError(f"a key of type {key.key_type} is in the JWK set; labd signs with {ALGORITHM} (OKP)")
    return keys
