"""What a route's function needs of a request, worked out once from FastAPI's description of it.

FastAPI would work it out anew for each request, and hand every plain dependency to a thread by itself, which takes
longer than most use cases. Here the caller is in a thread already, and stays there: parameters, dependencies, body and
function are one call.
"""

import asyncio
import contextvars
import inspect
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from email.message import Message
from http import HTTPStatus
from typing import Any, TypeVar, get_origin

from fastapi import Request
from fastapi._compat import ModelField
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError
from starlette.datastructures import Headers, QueryParams
from starlette.exceptions import HTTPException

from labd.api.unknown_fields import with_nearest

Argument = TypeVar("Argument")
Result = TypeVar("Result")
CHANGING = ThreadPoolExecutor(16, thread_name_prefix="change")
"""For requests that change something: each takes a thread until that is durable. So those who look at something, and
the agents, have other threads, and do not wait behind them.
"""
_ABSENT = object()
_JSON = "application/json"


async def in_thread(
    function: Callable[[Argument], Result], argument: Argument, threads: ThreadPoolExecutor | None = None
) -> Result:
    """What the function returns, which may wait for the database."""
    within = contextvars.copy_context()
    return await asyncio.get_running_loop().run_in_executor(threads, within.run, function, argument)


class Received(Request):
    """A request whose body is here."""

    content: bytes = b""


class _Parameter:
    """A parameter in the path, the query or the headers."""

    def __init__(self, where: str, field: ModelField) -> None:
        self.name = field.name
        self._where = where
        self._field = field
        self._alias = field.alias
        self._several = get_origin(field.field_info.annotation) is list

    def take(self, request: Request, values: dict[str, Any], errors: list[Any]) -> None:
        """Adds the value, or what is wrong with it."""
        source: Any = request.path_params
        if self._where != "path":
            source = request.query_params if self._where == "query" else request.headers
        if self._several and isinstance(source, QueryParams | Headers):
            value = source.getlist(self._alias) or _ABSENT
        else:
            value = source.get(self._alias, _ABSENT)
        _validate(self._field, value, self.name, (self._where, self._alias), values, errors)


class Call:
    """A function with what it depends on."""

    def __init__(self, dependant: Dependant) -> None:
        """Raises TypeError for what cannot be called from a thread, or comes from elsewhere than labd's routes take."""
        function = dependant.call
        if function is None or inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(f"{function} is to be called in a thread: a plain function can")
        if dependant.cookie_params or dependant.response_param_name or len(dependant.body_params) > 1:
            raise TypeError(f"{function} asks for cookies, a response to fill in, or several bodies")
        self.function: Callable[..., Any] = function
        self._needs = [(one.name, Call(one)) for one in dependant.dependencies]
        self._parameters = [
            *(_Parameter("path", field) for field in dependant.path_params),
            *(_Parameter("query", field) for field in dependant.query_params),
            *(_Parameter("header", field) for field in dependant.header_params),
        ]
        self._body = next(iter(dependant.body_params), None)
        self.query_names: frozenset[str] = frozenset(field.alias for field in dependant.query_params).union(
            *(need.query_names for _, need in self._needs)
        )
        """What it takes from the query."""
        requests = (dependant.request_param_name, dependant.http_connection_param_name)
        self._requests = [name for name in requests if name is not None]

    def values(self, request: Received) -> dict[str, Any]:
        """The function's arguments. Raises RequestValidationError, and whatever a dependency does."""
        body = _ABSENT if self._body is None else _json(request)
        errors: list[Any] = []
        values = self._solve(request, body, {}, errors)
        if errors:
            raise RequestValidationError(errors, body=None if body is _ABSENT else body)
        return values

    def _solve(self, request: Received, body: Any, known: dict[Any, Any], errors: list[Any]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for name, need in self._needs:
            if need.function not in known:
                before = len(errors)
                arguments = need._solve(request, _ABSENT, known, errors)
                if len(errors) > before:
                    continue
                known[need.function] = need.function(**arguments)
            if name is not None:
                values[name] = known[need.function]
        for parameter in self._parameters:
            parameter.take(request, values, errors)
        if self._body is not None:
            _validate(self._body, body, self._body.name, ("body",), values, errors)
        for name in self._requests:
            values[name] = request
        return values


def _validate(
    field: ModelField, value: Any, name: str, where: tuple[str, ...], values: dict[str, Any], errors: list[Any]
) -> None:
    if value is _ABSENT:
        if field.field_info.is_required():
            errors.append({"type": "missing", "loc": where, "msg": "Field required", "input": None})
        else:
            values[name] = deepcopy(field.default)
        return
    values[name], wrong = field.validate(value, values, loc=where)
    errors.extend(with_nearest(wrong, field.field_info.annotation, len(where)))


def _json(request: Received) -> Any:
    """The body as JSON has it. Raises RequestValidationError when it is not said to be JSON, or is none."""
    if not request.content:
        return _ABSENT
    kind = request.headers.get("content-type", "")
    if kind != _JSON and not _is_json(kind):
        wrong: dict[str, Any] = {
            "type": "media_type",
            "loc": ("body",),
            "msg": "send it with Content-Type: application/json",
        }
        raise RequestValidationError([{**wrong, "input": kind or None}], body=None)
    try:
        return json.loads(request.content)
    except json.JSONDecodeError as error:
        wrong = {"type": "json_invalid", "loc": ("body", error.pos), "msg": "JSON decode error", "input": {}}
        raise RequestValidationError([{**wrong, "ctx": {"error": error.msg}}], body=error.doc) from error
    except (ValueError, RecursionError) as error:
        raise HTTPException(HTTPStatus.BAD_REQUEST) from error


def _is_json(kind: str) -> bool:
    message = Message()
    message["content-type"] = kind
    subtype = message.get_content_subtype()
    return message.get_content_maintype() == "application" and (subtype == "json" or subtype.endswith("+json"))
