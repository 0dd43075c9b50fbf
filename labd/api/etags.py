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
    steady = json.dumps(_steady(json.loads(body)), sort_keys=True).encode()
    return f'"{hashlib.sha256(steady).hexdigest()[:24]}"'


def matches(header: str, tag: str) -> bool:
    """Whether an If-Match or If-None-Match, a list of tags or `*`, holds this one."""
    return header.strip() == "*" or tag in (part.strip().removeprefix("W/") for part in header.split(","))


def _steady(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _steady(part) for name, part in value.items() if name not in UNSTEADY}
    if isinstance(value, list):
        return [_steady(part) for part in value]
    return value
