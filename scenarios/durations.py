"""Durations as scenarios write them: '500ms', '2s', '1m', '1h', or a number of seconds."""

import math
import re

LONGEST_S = 86_400.0
_PATTERN = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*(us|ms|s|m|min|h)?\s*")
_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, None: 1.0}


def parse(value: object, what: str = "duration") -> float:
    """Seconds. Raises ValueError, naming ``what`` and the value, for anything that is no duration of 0 to 24 hours."""
    match value:
        case bool():
            seconds = math.nan
        case int() | float():
            seconds = float(value)
        case str() if found := _PATTERN.fullmatch(value):
            seconds = float(found[1]) * _UNITS[found[2]]
        case _:
            seconds = math.nan
    if not 0 <= seconds <= LONGEST_S:
        raise ValueError(
            f"{what} is {value!r}; write '500ms', '2s', '1m' or a number of seconds, between 0 and 24 hours"
        )
    return seconds


def show(seconds: float) -> str:
    """A duration for people: '500 ms', '2 s', '1.5 min'."""
    if seconds < 1:
        return f"{seconds * 1000:.4g} ms"
    return f"{seconds:.4g} s" if seconds < 120 else f"{seconds / 60:.4g} min"
