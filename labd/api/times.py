"""Times on the wire: RFC 3339 text in UTC."""

from datetime import UTC, datetime
from typing import overload

_END = datetime(9999, 12, 31, tzinfo=UTC).timestamp()


@overload
def to_text(seconds: float) -> str: ...
@overload
def to_text(seconds: None) -> None: ...
def to_text(seconds: float | None) -> str | None:
    """Of seconds since the Unix epoch."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def to_seconds(text: str) -> float:
    """Seconds since the Unix epoch. Raises ValueError unless it is a time with an offset from UTC."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise ValueError("expected an RFC 3339 time with an offset, such as 2026-11-21T09:30:00.125Z")
    seconds = moment.timestamp()
    if not 0 <= seconds < _END:
        raise ValueError("this time is before 1970 or after 9999")
    return seconds
