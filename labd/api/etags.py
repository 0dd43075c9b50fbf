"""Entity tags (RFC 9110, 8.8.3): which version of a thing an answer shows."""

import hashlib
import json
from typing import Any

UNSTEADY = frozenset(
    {
        "heartbeat_by",
        "idle_release_at",
        "token",
        "last_seen",
        "measured_at",
        "measured_voltage",
        "measured_current",
    }
)
"""Fields that change by themselves all the time and are no part of a version, in every answer: who changes a lease with
If-Match means its terms, not its pulse."""


def etag(body: bytes) -> str:
    """The tag of a JSON body."""
    text = json.dumps(steady(json.loads(body)), sort_keys=True).encode()
    return f'"{hashlib.sha256(text).hexdigest()[:24]}"'


def matches(header: str, tag: str) -> bool:
    """Whether an If-Match or If-None-Match, a list of tags or `*`, holds this one."""
    return header.strip() == "*" or tag in (part.strip().removeprefix("W/") for part in header.split(","))


def steady(value: Any) -> Any:
    """A JSON value without its unsteady fields."""
    if isinstance(value, dict):
        return {name: steady(part) for name, part in value.items() if name not in UNSTEADY}
    if isinstance(value, list):
        return [steady(part) for part in value]
    return value
