"""Takes a request straight to its route, which the guard has found already."""

from collections.abc import Iterable
from http import HTTPStatus

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from bench_agent.protocol import tracing
from labd.api.calling import Received
from labd.api.guard import Admission
from labd.api.problems import answer_to
from labd.api.routing import Route
from labd.services.errors import ServiceError
from labd.store.errors import StoreError


class Dispatch:
    """ASGI middleware: leaves streams to FastAPI, and what no route of ours answers."""

    def __init__(self, app: ASGIApp, routes: Iterable[Route]) -> None:
        self._app = app
        self._routes = {f"{one.method} {one.path_format}": one for one in routes if not one.streams}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers what a use case refuses, too."""
        admission = scope.get("state", {}).get("admission")
        route = self._routes.get(admission.operation) if isinstance(admission, Admission) else None
        if route is None:
            await self._app(scope, receive, send)
            return
        request = Received(scope, receive, send)
        above = request.headers.get(tracing.HEADER)
        what = {"http__request__method": route.method, "http__route": admission.operation.partition(" ")[2]}
        with tracing.span(admission.operation, parent=above, kind="server", **what) as span:
            response = await _answer(route, request)
            span.note(http__response__status_code=response.status_code)
            if response.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
                span.failed(HTTPStatus(response.status_code).phrase)
        await response(scope, receive, send)


async def _answer(route: Route, request: Received) -> Response:
    try:
        return await route.answer(request)
    except (ServiceError, StoreError, RequestValidationError, HTTPException) as error:
        return answer_to(request, error)
