"""AsyncLabClient: `LabClient` for asyncio."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast
from urllib.parse import quote

from labd.client.async_base import Params
from labd.client.async_methods import AsyncMethods
from labd.client.errors import LabUnreachable, UnexpectedAnswer
from labd.client.event_stream import CUT
from labd.client.lab import filters
from labd.client.log_stream import ATTEMPTS, MAX_EVENT_BYTES, QUIET_S
from labd.client.types import Lease, LogLine, Run

_API = "api/v1"
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 3.0


class AsyncLabClient(AsyncMethods):
    """A client of one labd, for the tasks of one event loop: ``async with AsyncLabClient(url) as lab``.

    Its methods are those of `LabClient`, take and raise the same, and are coroutines; what they return as iterators
    are lists. Streams are asynchronous iterators; those of one thing end with it as it was at last.
    """

    async def follow_lease(self, lease_id: str) -> AsyncIterator[Lease]:
        """The lease as it is and each time it changes, other than by heartbeats, until it has ended."""
        async for _, lease in self._events(f"leases/{quote(lease_id, safe='')}/events", {}):
            yield cast(Lease, lease)

    async def follow_run(self, run_id: str) -> AsyncIterator[Run]:
        """The run as it is and each time it changes, until it is over."""
        async for _, run in self._events(f"runs/{quote(run_id, safe='')}/events", {}):
            yield cast(Run, run)

    async def follow_leases(
        self,
        *states: str,
        holder: str | None = None,
        team: str | None = None,
        selector: str | None = None,
        since: str | None = None,
    ) -> AsyncIterator[Lease]:
        """The leases there are, without their tokens, and from then on each one that changes, for ever.

        Filtered like `leases`. After a broken connection all come once more.
        """
        given = filters(state=states, holder=holder, team=team, selector=selector, since=since)
        async for event, lease in self._events("leases/events", given):
            if event == "lease":
                yield cast(Lease, lease)
                continue
            for one in await self.leases(*states, holder=holder, team=team, selector=selector, since=since):
                yield one

    async def follow_log(self, run_id: str, after: int = 0) -> AsyncIterator[LogLine]:
        """The log from line ``after`` + 1 on, as it grows, until the run has ended."""
        async for event, line in self._events(f"runs/{quote(run_id, safe='')}/log", {}, str(after)):
            if event == "line":
                yield cast(LogLine, line)

    async def log(self, run_id: str, after: int = 0) -> AsyncIterator[LogLine]:
        """The log from line ``after`` + 1 on, up to its present end."""
        async for event, line in self._events(f"runs/{quote(run_id, safe='')}/log", {"follow": "false"}, str(after)):
            if event == "line":
                yield cast(LogLine, line)

    async def _events(self, path: str, params: Params, seen: str = "") -> AsyncIterator[tuple[str, Any]]:
        """(event, data) up to `end`, over as many connections as it takes; ``seen`` is the ID to go on after."""
        fruitless = 0
        while True:
            came = False
            headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": seen} if seen else {})
            try:
                stream = self._http.lines(f"{_API}/{path}", params=params, headers=headers, read_timeout_s=QUIET_S)
                async with stream as lines:
                    async for event, data, number in _parsed(lines):
                        if event == CUT:
                            continue
                        came, seen = True, number or seen
                        yield event, self._http.json(data.encode())
                        if event == "end":
                            return
                reason = "it closes the stream"
            except LabUnreachable as error:
                reason = error.reason
            fruitless = 0 if came else fruitless + 1
            if fruitless >= ATTEMPTS:
                raise LabUnreachable(self.url, f"{reason} ({fruitless} attempts)")
            await asyncio.sleep(min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2**fruitless))


async def _parsed(lines: AsyncIterator[str]) -> AsyncIterator[tuple[str, str, str]]:
    """(event, data, id) of each whole event (HTML Living Standard, 9.2.6)."""
    event, data, number = "", list[str](), ""
    async for line in lines:
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            if data:
                yield event or "message", "\n".join(data), number
            event, data, number = "", [], ""
        elif field == "event":
            event = value
        elif field == "id":
            number = value
        elif field == "data":
            data.append(value)
            if sum(map(len, data)) > MAX_EVENT_BYTES:
                raise UnexpectedAnswer(f"an event of the stream has more than {MAX_EVENT_BYTES} characters")
