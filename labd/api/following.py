"""Follows a run's log as it grows."""

import asyncio
from collections.abc import AsyncIterator

from labd.api.waiting import LOOK_S, changes
from labd.model.run import LogLine
from labd.services.lab import Lab
from labd.services.running import RunView

PAGE = 500
"""Lines read at once."""


async def follow_log(lab: Lab, run_id: str, after: int, follow: bool) -> AsyncIterator[LogLine | RunView]:
    """Lines after sequence number ``after``, then the run: once it is over, or at once when not following.

    When labd stops it ends without the run: the follower comes back and resumes.
    """
    async with changes(lab, run_id) as wait:
        while not lab.closing:
            lines, view = await asyncio.to_thread(lab.running.lines, run_id, after, PAGE)
            for line in lines:
                yield line
                after = line.seq
            if len(lines) == PAGE:
                continue
            if view.run.state.final or not follow:
                yield view
                return
            await wait(LOOK_S)
