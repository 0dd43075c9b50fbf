"""Bounds request bodies, announced or streamed, and refuses the rest with a problem document."""

from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from labd.api.problems import problem


class BodyLimit:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp, most: int) -> None:
        """``most`` is in bytes."""
        self._app = app
        self._most = most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes on what fits."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        detail = f"a request body has at most {self._most} bytes"
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        if announced.isdigit() and int(announced) > self._most:
            await problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail)(scope, receive, send)
            return
        taken = 0

        async def counted() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self._most:
                # Raised inside the application, which answers it like any other problem.
                raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail)
            return message

        await self._app(scope, counted, send)
