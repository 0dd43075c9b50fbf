"""Takes a request straight to its route, which the guard has found already."""

from collections.abc import Iterable, Mapping

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from labd.api.calling import Received
from labd.api.guard import Admission
from labd.api.problems import answer_to
from labd.api.routing import Route
from labd.services.errors import ServiceError
from labd.store.errors import StoreError


class Dispatch:
    """ASGI middleware: leaves streams to FastAPI, and what no route of ours answers."""

    def __init__(self, app: ASGIApp, routes: Mapping[str, Iterable[Route]]) -> None:
        """The routes by what their paths begin with."""
        self._app = app
        self._routes = {
            f"{one.method} {prefix}{one.path_format}": one
            for prefix, below in routes.items()
            for one in below
            if not one.streams
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers what a use case refuses, too."""
        admission = scope.get("state", {}).get("admission")
        route = self._routes.get(admission.operation) if isinstance(admission, Admission) else None
        if route is None:
            await self._app(scope, receive, send)
            return
        request = Received(scope, receive, send)
        try:
            response = await route.answer(request)
        except (ServiceError, StoreError, RequestValidationError, HTTPException) as error:
            response = answer_to(request, error)
        await response(scope, receive, send)
