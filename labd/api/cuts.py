"""What labd has cut off since it started, counted by the reason: who is too slow can be seen, and for what."""

import asyncio
import contextlib
import json
from collections import Counter

from fastapi.sse import ServerSentEvent
from starlette.types import Message, Send

counted: Counter[str] = Counter()
"""By the reason, in words."""
NO_RIGHT = "no right any more"
BEHIND = "too far behind"
LAST_WORD_S = 1.0
"""How long a client that is cut off may take to read why."""
EVENT = "cut"
"""The event that says so on a stream, where it still can be said; its data has the ``reason``."""


def cut_event(reason: str) -> ServerSentEvent:
    """Counts a stream that is cut, and tells its reader why."""
    counted[reason] += 1
    return ServerSentEvent(data={"reason": reason}, event=EVENT)


class EndableStream:
    """What is sent to a client, which can be told at the end why there is no more."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._events = self._over = False

    async def send(self, message: Message) -> None:
        """Passes a message on."""
        if message["type"] == "http.response.start":
            kinds = [value for name, value in message["headers"] if name.lower() == b"content-type"]
            self._events = any(kind.startswith(b"text/event-stream") for kind in kinds)
        elif message["type"] == "http.response.body":
            self._over = not message.get("more_body", False)
        await self._send(message)

    async def cut(self, reason: str) -> None:
        """Counts it, and says so if it is a stream of events whose reader still reads."""
        counted[reason] += 1
        if self._events and not self._over:
            body = f"event: {EVENT}\ndata: {json.dumps({'reason': reason})}\n\n".encode()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LAST_WORD_S):
                    await self._send({"type": "http.response.body", "body": body, "more_body": False})
