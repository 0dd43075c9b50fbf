"""API tokens: ``labd_PREFIX_SECRET``. Scanners find them by their shape; labd keeps the SHA-256 of 256 random bits."""

import hashlib
import hmac
import re
import secrets

from labd.model.identity import ApiToken

_SHAPE = re.compile(r"labd_([0-9a-f]{10})_([0-9a-f]{64})")


def new_token() -> tuple[str, str, str]:
    """A new token, its prefix, and its hash."""
    prefix = secrets.token_hex(5)
    token = f"labd_{prefix}_{secrets.token_hex(32)}"
    return token, prefix, digest(token)


def prefix_of(token: str) -> str | None:
    """The prefix of what has the shape of an API token."""
    match = _SHAPE.fullmatch(token)
    return None if match is None else match[1]


def digest(token: str) -> str:
    """SHA-256 in hexadecimal. Enough for what nobody can guess; passwords would need more."""
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


def matches(kept: ApiToken, token: str) -> bool:
    """Whether it is this token, found out in constant time."""
    return hmac.compare_digest(kept.sha256, digest(token))
