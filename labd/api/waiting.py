"""Waits until something changes, without asking the database again and again."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable

from labd.services.lab import Lab

LOOK_S = 15.0
"""Longest wait before the database is asked even so."""


@contextlib.asynccontextmanager
async def changes(lab: Lab, topic: str) -> AsyncIterator[Callable[[float], Awaitable[None]]]:
    """A function that waits for the topic's next change since it was last called, so many seconds at most.

    The first call looks back to the start of the context: what happens between a look at the database and the wait is
    not missed. When labd stops, no wait lasts.
    """
    loop = asyncio.get_running_loop()
    changed = asyncio.Event()

    def wake() -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(changed.set)

    async def wait(most_s: float) -> None:
        if not lab.closing:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(most_s, LOOK_S)):
                    await changed.wait()
        changed.clear()

    with lab.core.changes.listen(topic, wake):
        yield wait


async def until(lab: Lab, topic: str, most_s: float, attempt: Callable[[], Awaitable[bool]]) -> None:
    """Repeats ``attempt`` after each change of the topic until it is true, for ``most_s`` seconds at most."""
    end = time.monotonic() + most_s
    async with changes(lab, topic) as wait:
        while not await attempt():
            left = end - time.monotonic()
            if left <= 0 or lab.closing:
                return
            await wait(left)
