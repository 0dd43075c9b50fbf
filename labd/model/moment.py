"""Points in time, for messages."""

from datetime import UTC, datetime


def moment(seconds: float) -> str:
    """``2026-11-21T09:30:00Z`` of seconds since the Unix epoch."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
