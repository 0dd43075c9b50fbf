"""What every route of the API does beside its own: see `Router`."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, get_type_hints

from fastapi import APIRouter, Response
from fastapi.routing import APIRoute
from pydantic import TypeAdapter

from labd.api.context import LabOf
from labd.api.idempotency import REPEATABLE, KeyedOf, answer_once
from labd.services.idempotency import KeyedRequest
from labd.services.lab import Lab

_LAB, _KEYED = "lab__", "keyed__"


class Route(APIRoute):
    """A route; one that takes POST also takes an Idempotency-Key."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        if "POST" in (options.get("methods") or ()):
            repeatable = REPEATABLE.items() <= (options.get("openapi_extra") or {}).items()
            endpoint = _once(endpoint, options.get("status_code") or 200, kept=not repeatable)
        super().__init__(path, endpoint, **options)


class Router(APIRouter):
    """An APIRouter of such routes. The application takes no other."""

    def __init__(self, **options: Any) -> None:
        super().__init__(route_class=Route, **options)

    def include_router(self, router: APIRouter, **options: Any) -> None:
        """Raises TypeError for a router whose routes would do less."""
        if not isinstance(router, Router):
            raise TypeError(f"{router.prefix} is served by a {type(router).__name__}: use labd.api.routing.Router")
        super().include_router(router, **options)


def _once(endpoint: Callable[..., Any], status: int, *, kept: bool) -> Callable[..., Any]:
    if inspect.iscoroutinefunction(endpoint) or inspect.isasyncgenfunction(endpoint):
        raise TypeError(f"{endpoint.__qualname__} takes POST: a plain function, so that it can be one transaction")
    adapter = TypeAdapter[Any](get_type_hints(endpoint, include_extras=True)["return"])

    @functools.wraps(endpoint)
    def once(**values: Any) -> Any:
        lab: Lab = values.pop(_LAB)
        keyed: KeyedRequest | None = values.pop(_KEYED)
        if keyed is None or not kept:
            return endpoint(**values)
        return answer_once(lab, keyed, lambda: _response(adapter, status, endpoint(**values), values))

    signature = inspect.signature(endpoint)
    more = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=kind)
        for name, kind in ((_LAB, LabOf), (_KEYED, KeyedOf))
    ]
    once.__signature__ = signature.replace(parameters=[*signature.parameters.values(), *more])  # type: ignore[attr-defined]  # read by inspect
    return once


def _response(adapter: TypeAdapter[Any], status: int, value: Any, values: dict[str, Any]) -> Response:
    """What FastAPI would make of the value that an endpoint returned."""
    if isinstance(value, Response):
        return value
    injected = next((one for one in values.values() if isinstance(one, Response)), None)
    status = (injected.status_code if injected is not None else None) or status
    response = (
        Response(status_code=status)
        if value is None
        else Response(adapter.dump_json(value, by_alias=True), status, media_type="application/json")
    )
    if injected is not None:
        response.headers.raw.extend(pair for pair in injected.headers.raw if pair[0] != b"content-length")
    return response
