"""What every route of the API does beside its own work, so that none can forget it.

- Changes: an `Idempotency-Key` (`labd.api.idempotency`).
- POST that makes what is waited for: `wait`.
- GET of one thing: an `ETag`, 304 for `If-None-Match`, and where the route `waits_for` a topic, `wait`.
- Changes: `If-Match` (`labd.api.preconditions`).
"""

import functools
import inspect
import json
from collections.abc import Callable, Iterable, Sequence
from http import HTTPStatus
from typing import Annotated, Any, get_type_hints

from fastapi import APIRouter, Header, Query, Response, params
from fastapi.routing import APIRoute
from pydantic import BaseModel, TypeAdapter

from labd.api.calling import CHANGING, Call, Received, in_thread
from labd.api.context import ActorOf, LabOf, listed
from labd.api.etags import etag, matches
from labd.api.guard import admission_to
from labd.api.idempotency import REPEATABLE, SLOW, KeyedOf, answer_once
from labd.api.paging import Page, refuse_unknown
from labd.api.preconditions import WHOLE, IfMatchOf, given, parent, require_match
from labd.api.problems import problem_entries
from labd.api.waiting import until
from labd.model.identity import Actor
from labd.model.lease import LeaseState
from labd.services.errors import ChangedMeanwhile, Unconditional
from labd.services.lab import Lab

PREFIX = "/api/v1"
WAIT_S_MAX = 60.0
Wait = Annotated[
    float,
    Query(
        alias="wait",
        ge=0,
        le=WAIT_S_MAX,
        description="Seconds to wait for another version than that of `If-None-Match`, or than the present one.",
    ),
]

GrantWait = Annotated[
    float,
    Query(
        alias="wait",
        ge=0,
        le=WAIT_S_MAX,
        description="Seconds to wait while it is QUEUED, half of `ttl_s` at most, as it needs a heartbeat then. "
        "The answer is what has become of it.",
    ),
]

IfNoneMatch = Annotated[
    str | None,
    Header(
        alias="If-None-Match",
        max_length=1000,
        description="The `ETag` of a former answer: when the thing is still that version, the answer is 304.",
        examples=['"0c5e0b8f4d1a9b7c3e2f1a0b"'],
    ),
]


def _parameter(name: str, kind: Any, default: Any = inspect.Parameter.empty) -> inspect.Parameter:
    return inspect.Parameter(f"{name}__", inspect.Parameter.KEYWORD_ONLY, annotation=kind, default=default)


_LAB, _ACTOR = _parameter("lab", LabOf), _parameter("actor", ActorOf)
_KEYED, _IF_MATCH = _parameter("keyed", KeyedOf), _parameter("if_match", IfMatchOf)
_GRANT_WAIT = _parameter("wait", GrantWait, 0.0)
_WAIT, _IF_NONE_MATCH = _parameter("wait", Wait, 0.0), _parameter("if_none_match", IfNoneMatch, None)


def waits_for(parameter: str) -> dict[str, Any]:
    """`openapi_extra` of a GET that can wait for a change of the thing that this path parameter names."""
    return {"x-topic": parameter}


def waits_while_queued() -> dict[str, Any]:
    """`openapi_extra` of a POST that can wait until what it has made is no longer QUEUED."""
    return {"x-waits-while": LeaseState.QUEUED.value}


class Route(APIRoute):
    """A route with all that its method asks for."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        (self.method,) = options["methods"]
        self.plain = endpoint
        self.shown_by: Route | None = None
        """The GET of the thing that this route changes."""
        self._makes: Route | None = None
        """The GET of the thing that this route makes."""
        self._extra = options.get("openapi_extra") or {}
        self._topic = self._extra.get("x-topic")
        self._status = int(options.get("status_code") or HTTPStatus.OK)
        returned = get_type_hints(endpoint, include_extras=True).get("return")
        self._tagged = isinstance(returned, type) and issubclass(returned, BaseModel) and not issubclass(returned, Page)
        self._lists = isinstance(returned, type) and issubclass(returned, Page)
        answers_itself = isinstance(returned, type) and issubclass(returned, Response)
        adapted: Any = Any if answers_itself or inspect.isasyncgenfunction(endpoint) else returned
        self._adapter = TypeAdapter[Any](adapted)
        statuses = [HTTPStatus.UNPROCESSABLE_ENTITY]
        if self.method != "GET":
            if inspect.iscoroutinefunction(endpoint) or inspect.isasyncgenfunction(endpoint):
                raise TypeError(f"{endpoint.__qualname__} changes something: a plain function can be one transaction")
            more = [_LAB, _ACTOR, _KEYED, *([_GRANT_WAIT] if "x-waits-while" in self._extra else [])]
            statuses.append(HTTPStatus.CONFLICT)
            if self.method == "POST":
                statuses.append(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            if "{" in path or self.method != "POST":
                more.append(_IF_MATCH)
                statuses.append(HTTPStatus.PRECONDITION_FAILED)
            if WHOLE.items() <= self._extra.items():
                statuses.append(HTTPStatus.PRECONDITION_REQUIRED)
            endpoint = _with(endpoint, more, self._change)
        elif self._tagged:
            more = [_IF_NONE_MATCH, *([_WAIT] if self._topic else [])]
            endpoint = _with(endpoint, more, lambda values, _hidden: self.plain(**values))
        responses = problem_entries(*statuses)
        if self._tagged and self.method == "GET":
            responses[int(HTTPStatus.NOT_MODIFIED)] = {"description": "It is the version of `If-None-Match`."}
        options["responses"] = {**responses, **(options.get("responses") or {})}
        super().__init__(path, endpoint, **options)
        self.streams = inspect.isasyncgenfunction(endpoint)
        """FastAPI answers it."""
        if not self.streams:
            self._call = Call(self.dependant)

    async def answer(self, request: Received) -> Response:
        """What the request gets. Raises what its parameters, dependencies or function do."""
        if self.method == "GET":
            return await self._conditional(request)
        request.content = await request.body()
        response = await in_thread(self._answer, request, CHANGING)
        wait_s = float(request.query_params.get("wait", 0)) if self._makes is not None else 0.0
        if not wait_s or response.status_code != self._status:
            return response
        return await self._settled(request, response, wait_s)

    async def _settled(self, request: Received, response: Response, wait_s: float) -> Response:
        """The thing that was made, once it is past the state in which it is waited for, or when the time is over."""
        made: dict[str, Any] = json.loads(bytes(response.body))
        if self._makes is None or made["state"] != self._extra["x-waits-while"]:
            return response
        lab, show = request.app.state.lab, self._makes.show
        values = {"lab": lab, "actor": admission_to(request.scope).actor, str(self._makes._topic): made["id"]}
        bodies = [bytes(response.body)]

        async def attempt() -> bool:
            bodies[:] = [await in_thread(show, values)]
            return bool(json.loads(bodies[0])["state"] != made["state"])

        await until(lab, made["id"], min(wait_s, made["ttl_s"] / 2), attempt)
        headers = {name: value for name, value in response.headers.items() if name != "content-length"}
        return Response(bodies[0], response.status_code, headers | {"etag": etag(bodies[0])})

    async def _conditional(self, request: Received) -> Response:
        response = await in_thread(self._answer, request)
        tag, seen = response.headers.get("ETag"), request.headers.get("If-None-Match")
        if tag is None:
            return response
        wait_s = float(request.query_params.get("wait", 0)) if self._topic else 0.0
        if wait_s and matches(seen or tag, tag):
            response = await self._changed(request, wait_s, seen or tag)
            tag = response.headers.get("ETag", "")
        if seen is not None and response.status_code == HTTPStatus.OK and matches(seen, tag):
            return Response(status_code=HTTPStatus.NOT_MODIFIED, headers={"ETag": tag})
        return response

    async def _changed(self, request: Received, wait_s: float, seen: str) -> Response:
        """The first answer with another tag than those seen, or else the last one when the time is over."""
        last: list[Response] = []

        async def attempt() -> bool:
            last[:] = [await in_thread(self._answer, request)]
            tag = last[0].headers.get("ETag")
            return tag is None or not matches(seen, tag)

        await until(request.app.state.lab, request.path_params[str(self._topic)], wait_s, attempt)
        return last[0]

    def _answer(self, request: Received) -> Response:
        if self._lists:
            refuse_unknown(request.query_params, self._call.query_names)
        response = self._response(self._call.function(**self._call.values(request)))
        if self._tagged and response.status_code < HTTPStatus.MULTIPLE_CHOICES and response.body:
            response.headers["ETag"] = etag(bytes(response.body))
            response.headers["Cache-Control"] = "private, no-cache"
        return response

    def show(self, values: dict[str, Any]) -> bytes:
        """What this GET answers to the values of another route."""
        return self._json(self.plain(**given(self.plain, values)))

    def _change(self, values: dict[str, Any], hidden: dict[str, Any]) -> Any:
        lab: Lab = hidden["lab"]
        actor: Actor = hidden["actor"]
        keyed, if_match = hidden.get("keyed"), hidden.get("if_match")

        if if_match is None and WHOLE.items() <= self._extra.items():
            raise Unconditional(
                "this replaces all of it, also what others have changed since you looked: send If-Match with the ETag "
                "of what you have seen, or * to overwrite whatever there is"
            )

        def act() -> Any:
            if if_match is not None:
                if self.shown_by is None:
                    raise ChangedMeanwhile("this has no ETag: send it without If-Match", "")
                require_match(lab, actor, if_match, self.shown_by.show, {**values, "lab": lab, "actor": actor})
            return self.plain(**values)

        repeatable = if_match is None and REPEATABLE.items() <= self._extra.items()
        if keyed is not None and not repeatable:
            slow = SLOW.items() <= self._extra.items()
            return answer_once(lab, keyed, lambda: self._response(act()), slow=slow)
        if if_match is None:
            return act()
        with lab.core.together.scope():
            return act()

    def _json(self, value: Any) -> bytes:
        return self._adapter.dump_json(value)

    def _response(self, value: Any) -> Response:
        """The value that the endpoint returned, as an answer."""
        if isinstance(value, Response):
            return value
        if value is None:
            return Response(status_code=self._status)
        return Response(self._json(value), self._status, media_type="application/json")


class Router(APIRouter):
    """An APIRouter of such routes. The application takes no other."""

    def __init__(
        self, prefix: str = "", *, root: str = PREFIX, dependencies: Sequence[params.Depends] = (), **options: Any
    ) -> None:
        """What their paths begin with is ``root`` and then ``prefix``."""
        options["dependencies"] = [params.Depends(listed), *dependencies]
        super().__init__(prefix=root + prefix, route_class=Route, **options)


def routes_of(routers: Iterable[APIRouter]) -> list[Route]:
    """All their routes. Raises TypeError for one that would do less."""
    routes = []
    for router in routers:
        for route in router.routes:
            if not isinstance(route, Route):
                raise TypeError(f"{router.prefix} is served by a {type(router).__name__}: use labd.api.routing.Router")
            routes.append(route)
    return routes


def relate(routes: Sequence[Route]) -> None:
    """Tells each change which GET shows the thing that it changes, or makes."""
    shown = {route.path: route for route in routes if route.method == "GET" and route._tagged}
    for route in routes:
        if route.method != "GET":
            route.shown_by = shown.get(parent(route.path, shown) or "")
        if "x-waits-while" in route._extra:
            route._makes = next(one for path, one in shown.items() if path == f"{route.path}/{{{one._topic}}}")


def _with(
    endpoint: Callable[..., Any],
    more: Sequence[inspect.Parameter],
    call: Callable[[dict[str, Any], dict[str, Any]], Any],
) -> Callable[..., Any]:
    """The endpoint with more parameters, called as ``call(its own values, the values of the others)``."""

    @functools.wraps(endpoint)
    def called(**values: Any) -> Any:
        others = {one.name.removesuffix("__"): values.pop(one.name) for one in more}
        return call(values, others)

    signature = inspect.signature(endpoint)
    whole = signature.replace(parameters=[*signature.parameters.values(), *more])
    called.__signature__ = whole  # type: ignore[attr-defined]  # read by inspect
    return called
