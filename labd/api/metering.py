"""Counts requests and how long their answers took, by what they were for."""

import time
from collections.abc import Iterable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from labd.model.measurements import OTHER


class Metering:
    """ASGI middleware: tells the lab's meter of every request."""

    def __init__(self, app: ASGIApp, prefix: str, paths: Iterable[str]) -> None:
        """The first part after the prefix of each path that has it is a word for its requests."""
        self._app = app
        self._prefix = f"{prefix}/"
        self._words = {path[len(self._prefix) :].partition("/")[0] for path in paths if path.startswith(self._prefix)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Until the head of the answer: a stream may go on for hours."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.monotonic()

        async def noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = self._word(scope["path"])
                scope["app"].state.lab.measuring.requests.note(route, message["status"], time.monotonic() - began)
            await send(message)

        await self._app(scope, receive, noted)

    def _word(self, path: str) -> str:
        """From a bounded vocabulary, whatever somebody asks for."""
        if not path.startswith(self._prefix):
            return OTHER
        word = path[len(self._prefix) :].partition("/")[0]
        return word if word in self._words else OTHER
