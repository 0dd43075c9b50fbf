"""Follows a run's log as it grows, without asking the database again and again."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from labd.model.run import LogLine
from labd.services.lab import Lab
from labd.services.running import RunView

PAGE = 500
"""Lines read at once."""
LOOK_S = 15.0
"""Longest wait before the database is asked even so."""


async def follow_log(lab: Lab, run_id: str, after: int, follow: bool) -> AsyncIterator[LogLine | RunView]:
    """Lines after sequence number ``after``, then the run: once it is over, or at once when not following.

    When labd stops it ends without the run: the follower comes back and resumes.
    """
    loop = asyncio.get_running_loop()
    changed = asyncio.Event()

    def wake() -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody follows any more
            loop.call_soon_threadsafe(changed.set)

    with lab.core.changes.listen(run_id, wake):
        while not lab.closing:
            changed.clear()
            lines, view = await asyncio.to_thread(lab.running.lines, run_id, after, PAGE)
            for line in lines:
                yield line
                after = line.seq
            if len(lines) == PAGE:
                continue
            if view.run.state.final or not follow:
                yield view
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(changed.wait(), LOOK_S)
