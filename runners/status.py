"""What became of a runner."""

from dataclasses import dataclass


class StartError(Exception):
    """The runner could not be started; the message says why."""


@dataclass(frozen=True, slots=True)
class Alive:
    """The runner lives."""

    attempt: int = 1


@dataclass(frozen=True, slots=True)
class Exited:
    """The runner is gone; ``reason`` says how, in one line or a few."""

    reason: str
    cause: str = ""
    """In one word, such as ``Evicted``, where there is one for it."""
    attempt: int = 1


Status = Alive | Exited
