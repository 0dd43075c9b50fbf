"""Server-sent events about things: each version that a follower has not seen, and what of many has changed.

They tell states, not steps: a follower that is slow, or was away, gets the present state of what has changed, once.
"""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Annotated

from fastapi import Header
from fastapi.sse import ServerSentEvent
from pydantic import BaseModel

from labd.api import cuts
from labd.api.etags import etag
from labd.api.waiting import LOOK_S, changes
from labd.services.changes import ALL
from labd.services.lab import Lab

STREAM_S = 900.0
"""How long a stream lasts: who comes back is admitted anew."""
_AT_ONCE = 500
_PENDING_MAX = 20_000
"""Changes that a follower may be behind."""

LastEventId = Annotated[
    str | None,
    Header(
        alias="Last-Event-ID",
        max_length=100,
        description="The `id` of the last event that was seen: that version is not sent again.",
    ),
]
Look = Callable[[], tuple[BaseModel, bool]]
"""The thing as it is, and whether it will not change any more."""


async def follow_thing(
    lab: Lab, topic: str, event: str, look: Look, seen: str | None
) -> AsyncIterator[ServerSentEvent]:
    """``event`` with each version of the thing, and `end` with the last one; the `id` is that of its ETag."""
    end = time.monotonic() + STREAM_S
    async with changes(lab, topic) as wait:
        while not lab.closing and time.monotonic() < end:
            thing, over = await asyncio.to_thread(look)
            data = thing.model_dump_json()
            version = etag(data.encode()).strip('"')
            if over:
                yield ServerSentEvent(raw_data=data, event="end", id=version)
                return
            if version != seen:
                yield ServerSentEvent(raw_data=data, event=event, id=version)
                seen = version
            await wait(LOOK_S)


async def follow_many(
    lab: Lab, event: str, prefix: str, look: Callable[[list[str]], Iterable[BaseModel]]
) -> AsyncIterator[ServerSentEvent]:
    """`ready`, and from then on ``event`` with each thing that has changed, of those with IDs that begin so.

    Ends with `cut` when the follower falls too far behind: it comes back, and lists what there is.
    """
    pending: set[str] = set()
    lock = threading.Lock()

    def note(topics: Iterable[str]) -> None:
        with lock:
            pending.update(topic for topic in topics if topic.startswith(prefix))

    end = time.monotonic() + STREAM_S
    async with changes(lab, ALL) as wait:
        with lab.core.changes.watch(note):
            yield ServerSentEvent(raw_data="{}", event="ready")
            while not lab.closing and time.monotonic() < end and len(pending) <= _PENDING_MAX:
                with lock:
                    batch = [pending.pop() for _ in range(min(_AT_ONCE, len(pending)))]
                if not batch:
                    await wait(LOOK_S)
                    continue
                for thing in await asyncio.to_thread(look, batch):
                    yield ServerSentEvent(raw_data=thing.model_dump_json(), event=event)
            if len(pending) > _PENDING_MAX:
                yield cuts.cut_event(cuts.BEHIND)
