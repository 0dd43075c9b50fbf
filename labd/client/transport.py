"""HTTP to labd over urllib3, errors turned into `labd.client.errors`.

Imported with the first LabClient only: urllib3 takes 50 ms to import, for which `labctl --help` need not wait.
Redirects are not followed and the proxies of the environment are not used: labd is on the lab's own network.
"""

import contextlib
import errno
import io
import json as jsonlib
import os
import ssl
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from http import HTTPStatus
from http.client import BadStatusLine, RemoteDisconnected
from typing import IO, Any
from urllib.parse import urlencode

from urllib3 import BaseHTTPResponse, HTTPConnectionPool, Timeout, connection_from_url
from urllib3.connection import HTTPConnection
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    IncompleteRead,
    LocationParseError,
)
from urllib3.util import parse_url

from bench_agent.protocol import tracing
from labd.client.errors import LabError, LabUnreachable, ProblemError, UnexpectedAnswer
from labd.client.urls import CONNECT_S, Urls, silence_options
from labd.client.user_agent import USER_AGENT
from labd.client.versions import Body, seen

Params = Mapping[str, str | int | Sequence[str]]
"""Of a query."""
MAX_ANSWER_BYTES = 64 * 1024 * 1024
"""The longest answer that is read into memory."""
_TRUST_HINT = "sign in with 'labctl login URL --fingerprint ...', or name the file of its authority with LABD_CA"
_PLAIN = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE")
"""What OpenSSL says to an answer without TLS."""
_EXAMPLE = "it would look like http://127.0.0.1:8470"
_CHUNK = 256 * 1024
_IDLE_CONNECTIONS = 32
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 1.0
_SOCKET_OPTIONS = [*HTTPConnection.default_socket_options, *silence_options()]


class Transport:
    """Sends requests to the labds of one lab. Threads may share it: each request has a connection of its own.

    The labd that has answered is asked again; when it does not answer, or not without its database, the next one is.
    """

    def __init__(
        self,
        url: str,
        *,
        bearer: Callable[[], str | None],
        timeout_s: float,
        ca: str | os.PathLike[str] | None = None,
        server_name: str | None = None,
        in_order: bool = False,
    ) -> None:
        self._urls = Urls(url, in_order=in_order)
        self._paths = {one: _checked_path(one) for one in self._urls.all}
        self._tls = _tls(ca, server_name) if url.lower().startswith("https:") else {}
        self.url = ",".join(self._urls.all)
        self._bearer = bearer
        self._timeout_s = timeout_s
        self._connect_s = timeout_s if len(self._urls.all) == 1 else min(timeout_s, CONNECT_S)
        self._kept = {one: self._pool(one) for one in self._urls.all}
        self._closed = False

    @property
    def signed_in(self) -> bool:
        """Whether there is a token to show."""
        return self._bearer() is not None

    def _headers(self) -> dict[str, str]:
        token = self._bearer()
        authorization = {"Authorization": f"Bearer {token}"} if token else {}
        return {"User-Agent": USER_AGENT, **tracing.headers(), **authorization}

    def close(self) -> None:
        """Closes the connections; later requests raise LabError."""
        self._closed = True
        for pool in self._kept.values():
            pool.close()

    def request(
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
        """The body of the answer to a request, its status below 300, or none with 304; ``timeout_s`` instead of the
        client's own, and ``more_s`` on top for what labd was asked to wait.

        Of several labds, those that do not answer are passed over. When the connection breaks, the request is sent
        again until the time is over: labd may just be restarting. A change acts once all the same, and is answered for
        what it did, for it carries an Idempotency-Key.
        Raises ProblemError, LabUnreachable or UnexpectedAnswer.
        """
        headers, body = dict(headers or {}), None
        if method != "GET":
            headers.setdefault("Idempotency-Key", str(uuid.uuid4()))
        if json is not None:
            headers["Content-Type"] = "application/json"
            body = jsonlib.dumps(json, allow_nan=False).encode()
        patience = (timeout_s or self._timeout_s) + more_s
        late = f"no answer within {patience:g} s"
        give_up, pause_s, broken, passed = time.monotonic() + patience, _FIRST_PAUSE_S, False, set[str]()
        while True:
            url = self._urls.current
            try:
                with self._response(
                    self._kept[url], url, method, path, params, headers, body, patience, late
                ) as answer:
                    return self._body(answer, url)
            except (LabUnreachable, ProblemError) as error:
                broken = broken or is_cut(error)
                cut = error.__cause__ is not None and _is_broken(_origin(error.__cause__))
                again = cut or (isinstance(error, ProblemError) and error.retry_after_s is not None)
                if cut or _no_connection(error.__cause__) or is_away(error):
                    self._urls.leave(url)
                    passed.add(url)
                    if len(passed) < len(self._urls.all) and time.monotonic() < give_up:
                        continue  # with the next labd, at once
                if not (broken and again) or time.monotonic() + pause_s > give_up:
                    raise
            passed.clear()
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    @contextlib.contextmanager
    def stream(
        self, path: str, *, params: Params, headers: Mapping[str, str], read_timeout_s: float
    ) -> Iterator[Callable[[int], bytes]]:
        """A streamed answer to a GET: a function that reads the next line, of so many bytes at most; b"" at the end.

        Raises as `request` does, while the stream is read too.
        """
        late, url = f"nothing came within {read_timeout_s:g} s", self._urls.current
        try:
            with (
                contextlib.closing(self._pool(url)) as pool,
                self._response(pool, url, "GET", path, params, headers, None, read_timeout_s, late) as response,
            ):
                kind = _kind(response)
                if response.status >= 300 or kind != "text/event-stream":
                    self._body(response, url)
                    raise UnexpectedAnswer(f"{url} does not answer as labd does: {kind or 'no type'} for a log")
                yield io.BufferedReader(_AsItComes(response)).readline
        except (LabUnreachable, ProblemError) as error:
            if isinstance(error, ProblemError) and not is_away(error):
                raise
            self._urls.leave(url)  # whoever follows it tries again
            raise LabUnreachable(url, str(error) if isinstance(error, ProblemError) else error.reason) from error

    def download(self, path: str, target: IO[bytes], *, headers: Mapping[str, str], timeout_s: float) -> None:
        """Writes the body of an answer of any length to a file; nothing comes within ``timeout_s``: LabUnreachable.

        Raises as `request` does, and UnexpectedAnswer when the body is cut off.
        """
        self.request("GET", "api/v1/version")  # so that a labd is asked that answers
        late, url = f"nothing came within {timeout_s:g} s", self._urls.current
        with (
            contextlib.closing(self._pool(url)) as pool,
            self._response(pool, url, "GET", path, None, headers, None, timeout_s, late) as response,
        ):
            if response.status >= 300:
                self._body(response, url)
                raise UnexpectedAnswer(f"{url} does not answer as labd does: status {response.status}")
            for chunk in response.stream(_CHUNK):
                target.write(chunk)

    def json(self, body: bytes) -> Any:
        """The JSON value of a body; raises UnexpectedAnswer when it is none."""
        try:
            return seen(jsonlib.loads(body), body)
        except ValueError as error:
            raise UnexpectedAnswer(f"{self.url} does not answer as labd does: {_excerpt(body)}") from error

    def _pool(self, url: str) -> HTTPConnectionPool:
        return connection_from_url(url, maxsize=_IDLE_CONNECTIONS, socket_options=_SOCKET_OPTIONS, **self._tls)

    @contextlib.contextmanager
    def _response(
        self,
        pool: HTTPConnectionPool,
        url: str,
        method: str,
        path: str,
        params: Params | None,
        headers: Mapping[str, str],
        body: bytes | None,
        read_timeout_s: float,
        late: str,
    ) -> Iterator[BaseHTTPResponse]:
        """An answer whose body is still to be read; ``late`` is the reason to give when it is waited for in vain."""
        if self._closed:
            raise LabError("this LabClient is closed")
        try:
            response = pool.urlopen(
                method,
                f"{self._paths[url]}/{path}" + (f"?{urlencode(params, doseq=True)}" if params else ""),
                body,
                self._headers() | dict(headers),
                retries=False,
                redirect=False,
                timeout=Timeout(connect=self._connect_s, read=read_timeout_s),
                preload_content=False,
            )
            with contextlib.closing(response):
                yield response
        except HTTPError as error:
            raise self._translated(error, url, late) from error

    def _translated(self, error: HTTPError, url: str, late: str) -> LabError:
        origin = _origin(error)
        if _no_connection(error) and isinstance(origin, TimeoutError):
            return LabUnreachable(url, f"no answer within {self._connect_s:g} s")
        if isinstance(origin, TimeoutError) and not _is_broken(origin):
            return LabUnreachable(url, late)
        if isinstance(origin, ssl.SSLCertVerificationError):
            return LabUnreachable(url, f"its certificate is not trusted: {origin.verify_message}; {_TRUST_HINT}")
        if isinstance(origin, ssl.SSLError) and origin.reason in _PLAIN:
            return LabUnreachable(url, "it speaks no TLS; a labd that runs with --insecure is reached by http://")
        if isinstance(origin, RemoteDisconnected):
            hint = "" if self._tls else "; if it speaks TLS, its URL begins with https://"
            return LabUnreachable(url, f"it closed the connection without an answer{hint}")
        if isinstance(origin, BadStatusLine):
            return UnexpectedAnswer(f"{url} does not speak HTTP: {str(origin)[:80]}")
        return LabUnreachable(url, getattr(origin, "strerror", None) or str(origin) or type(origin).__name__)

    def _body(self, response: BaseHTTPResponse, url: str) -> bytes:
        body = response.read(MAX_ANSWER_BYTES + 1)
        if len(body) > MAX_ANSWER_BYTES:
            raise UnexpectedAnswer(f"an answer is longer than {MAX_ANSWER_BYTES} bytes")
        if response.status < 300 or response.status == HTTPStatus.NOT_MODIFIED:
            return Body.of(body, response.headers.get("ETag"))
        raise problem_of(url, response.status, response.reason or "", response.headers, body)


class _AsItComes(io.RawIOBase):
    """The body of an answer, for a BufferedReader: urllib3's own ``readinto`` waits until the buffer is full."""

    def __init__(self, response: BaseHTTPResponse) -> None:
        self._response = response

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Waits for a byte at least; 0 at the end."""
        view = memoryview(buffer)
        data = self._response.read1(len(view))
        view[: len(data)] = data
        return len(data)


def _no_connection(error: BaseException | None) -> bool:
    """Whether none could be made, so that labd has not seen the request."""
    return isinstance(error, ConnectTimeoutError)  # of which NewConnectionError is one


def _is_broken(origin: BaseException) -> bool:
    """Whether it ended a connection that was there, or refused one; ETIMEDOUT: the other side is silent (tcp(7))."""
    return isinstance(origin, ConnectionError) or getattr(origin, "errno", None) == errno.ETIMEDOUT


def is_away(error: LabError) -> bool:
    """Whether labd answers, but without its database, which another labd of the lab may reach."""
    return isinstance(error, ProblemError) and error.status == 503


def is_cut(error: LabError) -> bool:
    """Whether the connection broke under a request, which labd may have carried out; not: none could be made."""
    origin = _origin(error.__cause__) if error.__cause__ is not None else error
    broken = _is_broken(origin) or isinstance(origin, IncompleteRead)
    return broken and not isinstance(origin, ConnectionRefusedError) and not _no_connection(error.__cause__)


def _tls(ca: str | os.PathLike[str] | None, server_name: str | None) -> dict[str, Any]:
    """For urllib3's pools: whom to trust, and the name to be shown if it is not the URL's host. Raises LabError."""
    try:
        context = ssl.create_default_context(cafile=ca)
    except (OSError, ssl.SSLError) as error:
        raise LabError(f"the authorities in {os.fspath(ca or '')} (LABD_CA) cannot be used: {error}") from error
    return {"ssl_context": context} if server_name is None else {"ssl_context": context, "server_hostname": server_name}


def _origin(error: BaseException) -> BaseException:
    """What urllib3 wrapped, once or twice, to raise ``error``."""
    while isinstance(error, HTTPError):
        inner = next((part for part in error.args if isinstance(part, Exception)), error.__cause__)
        if inner is None:
            break
        error = inner
    return error


def _checked_path(url: str) -> str:
    """The path of labd's URL, without a slash at the end."""
    try:
        parts = parse_url(url)
    except LocationParseError as error:
        raise LabError(f"{url!r} is no URL of a labd ({error}); {_EXAMPLE}") from error
    if parts.scheme not in ("http", "https") or not parts.host or any(char <= " " for char in url):
        raise LabError(f"{url!r} is no URL of a labd; {_EXAMPLE}")
    return (parts.path or "").rstrip("/")


def _kind(response: BaseHTTPResponse) -> str:
    return response.headers.get("Content-Type", "").partition(";")[0].strip().lower()


def problem_of(url: str, status: int, reason: str, headers: Mapping[str, str], body: bytes) -> LabError:
    """What an answer with a status of 300 or more means."""
    kind = headers.get("Content-Type", "").partition(";")[0].strip().lower()
    try:
        document = jsonlib.loads(body) if kind.endswith("json") else None
    except ValueError:
        document = None
    if not isinstance(document, dict) or ("title" not in document and "detail" not in document):
        return UnexpectedAnswer(f"{url} does not answer as labd does: status {status}, {_excerpt(body)}")
    errors = document.get("errors")
    return ProblemError(
        status,
        str(document.get("title", reason)),
        str(document.get("detail", "")),
        [error for error in errors if isinstance(error, dict)] if isinstance(errors, list) else [],
        kind=str(document.get("type", "")),
        retry_after_s=_seconds(headers.get("Retry-After")),
    )


def _seconds(text: str | None) -> float | None:
    return float(text) if text is not None and text.isdecimal() else None


def _excerpt(body: bytes, limit: int = 80) -> str:
    text = " ".join(body.decode(errors="replace").split())
    return repr(text if len(text) <= limit else f"{text[:limit]}…")
