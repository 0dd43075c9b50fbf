"""Waiting for labd: polls that start fast and slow down, and that outlive a restart of labd."""

import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from labd.client import LabUnreachable

Answer = TypeVar("Answer")

RESTART_S = 30.0
"""How long labd may be away while something waits for it."""


def paces(first_s: float = 0.05, longest_s: float = 1.0) -> Iterator[float]:
    """How long to pause before each next poll, in seconds: a free bench is seen at once, a queue costs little."""
    pause = first_s
    while True:
        yield pause
        pause = min(longest_s, pause * 1.5)


def patiently(call: Callable[[], Answer]) -> Answer:
    """The answer of a repeatable call, tried again for up to `RESTART_S` while labd cannot be reached."""
    deadline = time.monotonic() + RESTART_S
    for pause in paces(first_s=0.2):
        try:
            return call()
        except LabUnreachable:
            if time.monotonic() + pause >= deadline:
                raise
        time.sleep(pause)
    raise AssertionError("unreachable: paces() never ends")
