"""Waiting for labd: it is asked to answer once there is news; a restart of labd does not end the wait."""

import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Protocol, TypeVar

from labd.client import LabUnreachable, ProblemError

Answer = TypeVar("Answer")
Thing = TypeVar("Thing")


RESTART_S = 30.0
"""How long labd, or its database, may be away while something waits for it."""
LOOK_S = 10.0
"""How long labd is asked to wait at most: a place in the queue that is told is never older than about that."""
_UNASKED_S = 0.2
"""Pause after an answer without news that comes before its time: a labd that stops lets nobody wait."""
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.2, 1.0


class Ask(Protocol[Thing]):
    """`LabClient.lease` or `LabClient.run`."""

    def __call__(self, name: str, /, *, seen: Thing | None, wait_s: float) -> Thing:
        """As the method does."""


def is_away(error: LabUnreachable | ProblemError) -> bool:
    """Whether labd, or its database, may be back soon."""
    return not isinstance(error, ProblemError) or error.status == HTTPStatus.SERVICE_UNAVAILABLE


def patiently(call: Callable[[], Answer]) -> Answer:
    """The answer of a repeatable call, tried again for up to `RESTART_S` while labd cannot be reached."""
    deadline = time.monotonic() + RESTART_S
    pause_s = _FIRST_PAUSE_S
    while True:
        try:
            return call()
        except (LabUnreachable, ProblemError) as error:
            if not is_away(error) or time.monotonic() + pause_s >= deadline:
                raise
        time.sleep(pause_s)
        pause_s = min(1.5 * pause_s, _LONGEST_PAUSE_S)


def news(ask: Ask[Thing], name: str, seen: Thing, wait_s: float = LOOK_S) -> Thing:
    """What ``ask`` answers about the thing once it is no longer as ``seen``; or ``seen`` itself, after ``wait_s``, or
    `LOOK_S` if that is less.
    """
    end = time.monotonic() + min(wait_s, LOOK_S)
    answer = patiently(lambda: ask(name, seen=seen, wait_s=max(0.0, end - time.monotonic())))
    if answer is seen:
        time.sleep(max(0.0, min(_UNASKED_S, end - time.monotonic())))
    return answer
