"""Bounds request bodies, announced or streamed, and refuses the rest with a problem document."""

from collections.abc import Mapping
from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from labd.api.problems import problem


class BodyLimit:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp, most: int, of: Mapping[str, int]) -> None:
        """``most`` is in bytes, as is ``of`` some operations of the authorisation table, which take less."""
        self._app = app
        self._most = most
        self._of = of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes on what fits."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        admission = scope.get("state", {}).get("admission")
        most = min(self._most, self._of.get(admission.operation, self._most)) if admission is not None else self._most
        detail = f"the body of such a request has at most {most} bytes"
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        if announced.isdigit() and int(announced) > most:
            refused = problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"{detail}; this one has {int(announced)}")
            await refused(scope, receive, send)
            return
        taken = 0

        async def counted() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > most:
                # Raised inside the application, which answers it like any other problem.
                raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail)
            return message

        await self._app(scope, counted, send)
