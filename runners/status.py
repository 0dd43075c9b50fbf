"""What became of a runner."""

from dataclasses import dataclass


class StartError(Exception):
    """The runner could not be started; the message says why."""


@dataclass(frozen=True, slots=True)
class Alive:
    """The runner lives."""


@dataclass(frozen=True, slots=True)
class Exited:
    """The runner is gone; ``reason`` says how, in one line or a few."""

    reason: str


Status = Alive | Exited
