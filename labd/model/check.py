"""What ``labctl doctor`` looks at."""

from dataclasses import dataclass
from enum import StrEnum


class CheckState(StrEnum):
    """How it is."""

    OK = "ok"
    WARNING = "warning"
    """It works, but not for long, or not wholly."""
    ERROR = "error"
    """It does not work."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at."""

    name: str
    """What was looked at, in few words: ``InfluxDB``, ``agent bench-host-1: clock``."""
    state: CheckState
    message: str
    """What was found, in a sentence."""
    remedy: str = ""
    """What to do about it; empty where nothing is to be done."""
