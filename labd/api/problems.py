"""Every error answer is a problem document (RFC 9457)."""

import json
import math
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from labd.services.errors import (
    ChangedMeanwhile,
    Conflict,
    FieldError,
    Forbidden,
    InProgress,
    Invalid,
    NotFound,
    ProviderAway,
    ServiceError,
    TooLarge,
    TooManyRequests,
    Unauthenticated,
    Unconditional,
)
from labd.store.errors import StoreError

MEDIA_TYPE = "application/problem+json"
_BRIEF = 40
"""Longest text, in characters, that is repeated within a sentence."""
VALUE_LENGTH = 200
"""Longest text of a refused value that is sent back, in characters."""

_STATUS: dict[type[ServiceError], HTTPStatus] = {
    ChangedMeanwhile: HTTPStatus.PRECONDITION_FAILED,
    Unconditional: HTTPStatus.PRECONDITION_REQUIRED,
    Invalid: HTTPStatus.UNPROCESSABLE_ENTITY,
    NotFound: HTTPStatus.NOT_FOUND,
    Conflict: HTTPStatus.CONFLICT,
    TooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    TooManyRequests: HTTPStatus.TOO_MANY_REQUESTS,
    ProviderAway: HTTPStatus.SERVICE_UNAVAILABLE,
    Unauthenticated: HTTPStatus.UNAUTHORIZED,
    Forbidden: HTTPStatus.FORBIDDEN,
}
_log = structlog.get_logger()


class FieldProblem(BaseModel):
    """What is wrong with one field."""

    field: str
    value: Any = Field(description="As it was sent; cut when it is long.")
    message: str = Field(description="What would be right.")
    column: int | None = Field(default=None, description="1-based position in a text with a grammar.")


class Problem(BaseModel):
    """An error answer."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "type": "about:blank",
                "title": "Unprocessable Entity",
                "status": 422,
                "detail": "selector 'platform=meb,', column 14: a term is missing after ',', found the end",
                "errors": [
                    {
                        "field": "selector",
                        "value": "platform=meb,",
                        "message": "a term is missing after ',', found the end",
                        "column": 14,
                    }
                ],
            }
        }
    )
    type: str
    title: str
    status: int
    detail: str
    errors: list[FieldProblem] | None = None


def responses(*statuses: HTTPStatus) -> dict[int | str, dict[str, Any]]:
    """OpenAPI entries of the problems that a route may answer with; those that any may are among them."""
    return problem_entries(*statuses, HTTPStatus.UNPROCESSABLE_ENTITY, HTTPStatus.SERVICE_UNAVAILABLE)


def problem_entries(*statuses: HTTPStatus) -> dict[int | str, dict[str, Any]]:
    """OpenAPI entries of just these problems."""
    return {
        int(status): {
            "description": status.phrase,
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status in statuses
    }


def body_responses(*statuses: HTTPStatus) -> dict[int | str, dict[str, Any]]:
    """The same for a route that takes a body."""
    return responses(HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, *statuses)


def install(app: FastAPI) -> None:
    """Has the application answer every error with a problem document."""
    for kind, handler in _HANDLERS.items():
        app.add_exception_handler(kind, handler)
    app.add_exception_handler(Exception, _unexpected)


def answer_to(request: Request, error: Exception) -> Response:
    """The answer to a request that failed as was to be expected of some. Raises the error when it was not."""
    handler = next((handler for kind, handler in _HANDLERS.items() if isinstance(error, kind)), None)
    if handler is None:
        raise error
    return handler(request, error)


def problem(
    status: HTTPStatus,
    detail: str,
    errors: list[dict[str, Any]] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """The answer."""
    document: dict[str, Any] = {"type": "about:blank", "title": status.phrase, "status": int(status), "detail": detail}
    if errors:
        document["errors"] = errors
    # ASCII only: a refused value may hold what UTF-8 cannot carry.
    content = json.dumps(document, ensure_ascii=True, allow_nan=False).encode("ascii")
    return Response(content, status, headers, MEDIA_TYPE)


def _invalid_request(request: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        raise error
    status, errors = HTTPStatus.UNPROCESSABLE_ENTITY, []
    for entry in error.errors():
        # The first part of the location says where to look (body, query, path), the rest names the field.
        where, *path = entry["loc"]
        body_broken = entry["type"] == "json_invalid"
        field = str(where) if body_broken or not path else ".".join(map(str, path))
        message = entry["msg"]
        if body_broken:
            status = HTTPStatus.BAD_REQUEST
            message = f"no JSON: {entry['ctx']['error']} at character {path[0] if path else 0}"
        secret = where == "body" and "/secrets/" in request.url.path
        value = None if body_broken or secret or entry["type"] == "missing" else _shown(entry["input"])
        errors.append({"field": field, "value": value, "message": message})
    detail = "; ".join(f"{one['field']}{_in_brief(one['value'])}: {one['message']}" for one in errors)
    return problem(status, detail, errors)


def _in_brief(value: object) -> str:
    """A refused value within a sentence; nothing of one that is long."""
    short = isinstance(value, int | float) or (isinstance(value, str) and len(value) <= _BRIEF)
    return f" {json.dumps(value)}" if short else ""


def _service_error(_request: Request, error: Exception) -> Response:
    if not isinstance(error, ServiceError):
        raise error
    return refusal(error)


def refusal(error: ServiceError | StoreError) -> Response:
    """The answer to a request that a use case refused, or the database."""
    if isinstance(error, StoreError):
        return problem(HTTPStatus.SERVICE_UNAVAILABLE, str(error), headers={"Retry-After": "1"})
    status = next(status for kind, status in _STATUS.items() if isinstance(error, kind))
    errors = [_field(one) for one in error.errors] if isinstance(error, Invalid) else None
    headers = {}
    if status is HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, InProgress | ProviderAway):
        headers["Retry-After"] = "1"
    if isinstance(error, TooManyRequests):
        headers["Retry-After"] = str(math.ceil(error.retry_after_s))
    if isinstance(error, ChangedMeanwhile) and error.etag:
        headers["ETag"] = error.etag
    return problem(status, str(error), errors, headers)


def _field(error: FieldError) -> dict[str, Any]:
    shown = {"field": error.field, "value": _shown(error.value), "message": error.message}
    return shown if error.column is None else {**shown, "column": error.column}


def _http_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    status = HTTPStatus(error.status_code)
    detail = error.detail
    if status is HTTPStatus.NOT_FOUND:
        detail = f"there is nothing at {request.url.path}"
    elif status is HTTPStatus.BAD_REQUEST:
        detail = "the request's body is no JSON text in UTF-8"
    elif status is HTTPStatus.METHOD_NOT_ALLOWED:
        detail = f"{request.url.path} does not take {request.method}"
    return problem(status, str(detail), headers=error.headers)


def _unavailable(_request: Request, error: Exception) -> Response:
    return problem(HTTPStatus.SERVICE_UNAVAILABLE, str(error), headers={"Retry-After": "1"})


def _unexpected(request: Request, error: Exception) -> Response:
    _log.error("request failed", method=request.method, path=request.url.path, exc_info=error)
    return problem(HTTPStatus.INTERNAL_SERVER_ERROR, "labd made a mistake; its log says more")


_HANDLERS: dict[type[Exception], Callable[[Request, Exception], Response]] = {
    RequestValidationError: _invalid_request,
    HTTPException: _http_error,
    ServiceError: _service_error,
    StoreError: _unavailable,
}


def _shown(value: Any) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int) and abs(value) < 2**53:
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= VALUE_LENGTH else text[: VALUE_LENGTH - 1] + "…"
