"""What the methods of `AsyncLabClient` stand on: HTTP to labd over httpx2, on the event loop."""

import asyncio
import functools
import json as jsonlib
import os
import ssl
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self

import httpx2

from bench_agent.protocol.identity import CONTROLLER_NAME
from labd.client.credentials import bearer
from labd.client.errors import LabError, LabUnreachable, ProblemError, UnexpectedAnswer
from labd.client.lab import DEFAULT_URL
from labd.client.transport import MAX_ANSWER_BYTES, is_away, problem_of
from labd.client.trust import trusted
from labd.client.urls import CONNECT_S, Urls, silence_options
from labd.client.user_agent import USER_AGENT
from labd.client.versions import Body, IfMatch, precondition, seen, unlike

PAGE_SIZE = 1000
_API = "api/v1"
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 1.0
Params = Mapping[str, str | int | Sequence[str]]


class AsyncTransport:
    """Sends requests to the labds of one lab, like `Transport`. Tasks of one event loop may share it."""

    def __init__(
        self,
        url: str,
        *,
        token: Callable[[], Awaitable[str | None]],
        timeout_s: float,
        ca: str | os.PathLike[str] | None,
        server_name: str | None,
    ) -> None:
        self._urls = Urls(url)
        for one in self._urls.all:
            if not one.lower().startswith(("http://", "https://")):
                raise LabError(f"{one!r} is no URL of a labd; it would look like {DEFAULT_URL}")
        self.url = ",".join(self._urls.all)
        self._connect_s = timeout_s if len(self._urls.all) == 1 else min(timeout_s, CONNECT_S)
        self._token = token
        self._timeout_s = timeout_s
        self._extensions = {"sni_hostname": server_name} if server_name else {}
        try:
            verify = ssl.create_default_context(cafile=ca) if url.lower().startswith("https:") else False
        except (OSError, ssl.SSLError) as error:
            raise LabError(f"the authorities in {os.fspath(ca or '')} (LABD_CA) cannot be used: {error}") from error
        transport = httpx2.AsyncHTTPTransport(verify=verify, trust_env=False, socket_options=silence_options())
        self._client = httpx2.AsyncClient(transport=transport, trust_env=False, follow_redirects=False)

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._client.aclose()

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Params | None = None,
        json: object | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
        more_s: float = 0,
    ) -> bytes:
        """The body of the answer; like `Transport.request`, also in what it repeats and raises."""
        headers, content = dict(headers or {}), None
        if method != "GET":
            headers.setdefault("Idempotency-Key", str(uuid.uuid4()))
        if json is not None:
            headers["Content-Type"] = "application/json"
            content = jsonlib.dumps(json, allow_nan=False).encode()
        patience = (timeout_s or self._timeout_s) + more_s
        give_up, pause_s, broken, passed = time.monotonic() + patience, _FIRST_PAUSE_S, False, set[str]()
        while True:
            url = self._urls.current
            try:
                async with self._response(url, method, path, params, headers, content, patience) as response:
                    return await self._body(response, url)
            except (LabUnreachable, ProblemError) as error:
                cut = isinstance(error.__cause__, httpx2.NetworkError | httpx2.RemoteProtocolError)
                broken = broken or (cut and not isinstance(error.__cause__, httpx2.ConnectError))
                again = cut or (isinstance(error, ProblemError) and error.retry_after_s is not None)
                if cut or isinstance(error.__cause__, httpx2.ConnectTimeout) or is_away(error):
                    self._urls.leave(url)
                    passed.add(url)
                    if len(passed) < len(self._urls.all) and time.monotonic() < give_up:
                        continue  # with the next labd, at once
                if not (broken and again) or time.monotonic() + pause_s > give_up:
                    raise
            passed.clear()
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    @asynccontextmanager
    async def lines(
        self, path: str, *, params: Params, headers: Mapping[str, str], read_timeout_s: float
    ) -> AsyncIterator[AsyncIterator[str]]:
        """The lines of a stream of events."""
        url = self._urls.current
        try:
            async with self._response(url, "GET", path, params, headers, None, read_timeout_s) as response:
                kind = response.headers.get("content-type", "").partition(";")[0]
                if response.status_code >= 300 or kind != "text/event-stream":
                    await self._body(response, url)
                    raise UnexpectedAnswer(f"{url} does not answer as labd does: {kind or 'no type'} for a stream")
                yield response.aiter_lines()
        except (LabUnreachable, ProblemError) as error:
            if isinstance(error, ProblemError) and not is_away(error):
                raise
            self._urls.leave(url)  # whoever follows it tries again
            raise LabUnreachable(url, str(error) if isinstance(error, ProblemError) else error.reason) from error

    def json(self, body: bytes) -> Any:
        """The JSON value of a body; raises UnexpectedAnswer when it is none."""
        try:
            return seen(jsonlib.loads(body), body)
        except ValueError as error:
            raise UnexpectedAnswer(f"{self.url} does not answer as labd does: {body[:80]!r}") from error

    @asynccontextmanager
    async def _response(
        self,
        base: str,
        method: str,
        path: str,
        params: Params | None,
        headers: Mapping[str, str],
        content: bytes | None,
        read_timeout_s: float,
    ) -> AsyncIterator[httpx2.Response]:
        token = await self._token()
        shown = {"User-Agent": USER_AGENT} | ({"Authorization": f"Bearer {token}"} if token else {})
        url = httpx2.URL(f"{base}/{path}")
        try:
            async with self._client.stream(
                method,
                url if params is None else url.copy_merge_params(_pairs(params)),
                content=content,
                headers=shown | dict(headers),
                timeout=httpx2.Timeout(self._timeout_s, read=read_timeout_s, connect=self._connect_s),
                extensions=self._extensions,
            ) as response:
                yield response
        except httpx2.TimeoutException as error:
            late = self._connect_s if isinstance(error, httpx2.ConnectTimeout) else read_timeout_s
            raise LabUnreachable(base, f"no answer within {late:g} s") from error
        except httpx2.TransportError as error:
            raise LabUnreachable(base, str(error) or type(error).__name__) from error

    async def _body(self, response: httpx2.Response, url: str) -> bytes:
        body = bytearray()
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > MAX_ANSWER_BYTES:
                raise UnexpectedAnswer(f"an answer is longer than {MAX_ANSWER_BYTES} bytes")
        if response.status_code < 300 or response.status_code == HTTPStatus.NOT_MODIFIED:
            return Body.of(bytes(body), response.headers.get("ETag"))
        raise problem_of(url, response.status_code, response.reason_phrase, response.headers, bytes(body))


class AsyncBase:
    """Where labd is, and how it is asked."""

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        token: str | None = None,
        timeout_s: float = 10,
        ca: str | os.PathLike[str] | None = None,
        server_name: str | None = None,
    ) -> None:
        ca = ca or os.environ.get("LABD_CA") or None
        server_name = server_name or os.environ.get("LABD_SERVER_NAME") or None
        if ca is None and url.lower().startswith("https:") and (ca := trusted(url)) is not None:
            server_name = CONTROLLER_NAME  # by which labd's own authority knows it, whatever its address

        async def shown() -> str | None:
            # A stored sign-in may have to be renewed, which takes a thread: it talks to the identity provider.
            return token if token is not None else await asyncio.to_thread(functools.partial(bearer, url))

        self._http = AsyncTransport(url, token=shown, timeout_s=timeout_s, ca=ca, server_name=server_name)

    @property
    def url(self) -> str:
        """Where labd is, without a slash at the end."""
        return self._http.url

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    async def _get(self, path: str, params: Params | None = None) -> Any:
        return self._http.json(await self._http.request("GET", f"{_API}/{path}", params=params))

    async def _look(self, path: str, seen: Mapping[str, Any] | None, wait_s: float) -> Any:
        """A thing once it is another version than ``seen``, or as it is after ``wait_s``: then ``seen`` itself."""
        params = {"wait": str(wait_s)} if wait_s else None
        answer = await self._http.request("GET", f"{_API}/{path}", params=params, headers=unlike(seen), more_s=wait_s)
        return self._http.json(answer) if answer else seen

    async def _items(self, path: str, filters: Params, limit: int | None = None) -> list[Any]:
        """The items of a list, from as many pages as it takes."""
        params: dict[str, str | int | Sequence[str]] = {**filters, "limit": min(limit or PAGE_SIZE, PAGE_SIZE)}
        items: list[Any] = []
        while True:
            page = await self._get(path, params)
            items += page["items"]
            if page["next"] is None or (limit is not None and len(items) >= limit):
                return items
            params["cursor"] = page["next"]

    async def _call(
        self,
        method: str,
        path: str,
        body: object | None = None,
        if_match: IfMatch = None,
        *,
        wait_s: float = 0,
        key: str | None = None,
    ) -> Any:
        params = {"wait": str(wait_s)} if wait_s else None
        headers = precondition(if_match) | ({"Idempotency-Key": key} if key else {})
        answer = await self._http.request(
            method, f"{_API}/{path}", params=params, json=body, headers=headers, more_s=wait_s
        )
        return self._http.json(answer) if answer else None

    async def _put(self, path: str, body: object, params: Params, if_match: IfMatch = None) -> Any:
        headers = precondition(if_match)
        answer = await self._http.request("PUT", f"{_API}/{path}", params=params, json=body, headers=headers)
        return self._http.json(answer)

    async def _delete(self, path: str, params: Params, if_match: IfMatch = None) -> None:
        await self._http.request("DELETE", f"{_API}/{path}", params=params, headers=precondition(if_match))


def _pairs(params: Params) -> httpx2.QueryParams:
    return httpx2.QueryParams(
        [
            (name, str(one))
            for name, value in params.items()
            for one in ([value] if isinstance(value, str | int) else value)
        ]
    )
