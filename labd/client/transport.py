"""HTTP to labd on the standard library, errors turned into `labd.client.errors`.

Not on httpx2: importing that takes 150 ms on a slow core and each request 4 ms, half of what labctl may take to start
and a fifth of a runner's start-up. Redirects and proxies are not followed: labd is on the lab's own network.
"""

import contextlib
import json as jsonlib
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlencode, urlsplit

from labd.client.errors import LabError, LabUnreachable, ProblemError, UnexpectedAnswer

if TYPE_CHECKING:
    from http.client import HTTPConnection, HTTPResponse

MAX_ANSWER_BYTES = 64 * 1024 * 1024
"""The longest answer that is read into memory."""
_EXAMPLE = "it would look like http://127.0.0.1:8470"
_IDLE_CONNECTIONS = 8


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer."""

    status: int
    reason: str
    kind: str
    """Media type, without parameters."""
    body: bytes

    @property
    def text(self) -> str:
        """The body as UTF-8; bytes that are none are replaced."""
        return self.body.decode(errors="replace")


class Transport:
    """Sends requests to one labd. Threads may share it: each request has a connection of its own from a small pool."""

    def __init__(self, url: str, *, token: str | None, timeout_s: float) -> None:
        self._parts = _checked(url)
        self.url = url.rstrip("/")
        self._headers = {"User-Agent": "labd-client"} | ({"Authorization": f"Bearer {token}"} if token else {})
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._idle: list[HTTPConnection] = []
        self._closed = False

    def close(self) -> None:
        """Closes the connections; later requests raise LabError."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str | int] | None = None,
        json: object | None = None,
        repeatable: bool = False,
    ) -> Answer:
        """The answer to a request, its status below 300.

        A ``repeatable`` request is sent again, once, when the connection breaks; others go over a new connection, which
        labd cannot be about to close for idleness. Raises ProblemError, LabUnreachable or UnexpectedAnswer.
        """
        body = None if json is None else jsonlib.dumps(json, allow_nan=False).encode()
        headers = self._headers | ({"Content-Type": "application/json"} if body is not None else {})
        target = self._target(path, params)
        with self._translated(f"no answer within {self._timeout_s:g} s"):
            try:
                answer = self._exchange(method, target, body, headers, reuse=repeatable)
            except ConnectionError as error:
                if not repeatable or isinstance(error, ConnectionRefusedError):
                    raise
                answer = self._exchange(method, target, body, headers, reuse=False)
        self._check(answer)
        return answer

    @contextlib.contextmanager
    def stream(
        self, path: str, *, params: Mapping[str, str | int], headers: Mapping[str, str], read_timeout_s: float
    ) -> Iterator[Callable[[int], bytes]]:
        """A streamed answer to a GET: a function that reads the next line, of so many bytes at most; b"" at the end.

        Raises as `request` does, while the stream is read too.
        """
        connection = self._connect()
        try:
            with self._translated(f"nothing came within {read_timeout_s:g} s"):
                connection.request("GET", self._target(path, params), headers=self._headers | dict(headers))
                if connection.sock is not None:
                    connection.sock.settimeout(read_timeout_s)
                response = connection.getresponse()
                kind = _kind(response)
                if response.status >= 300 or kind != "text/event-stream":
                    answer = _read(response)
                    self._check(answer)
                    raise UnexpectedAnswer(f"{self.url} does not answer as labd does: {kind or 'no type'} for a log")
                yield response.readline
        finally:
            connection.close()

    def json(self, answer: Answer) -> Any:
        """The JSON value of an answer; raises UnexpectedAnswer when it is none."""
        try:
            return jsonlib.loads(answer.body)
        except ValueError as error:
            raise UnexpectedAnswer(f"{self.url} does not answer as labd does: {_excerpt(answer)}") from error

    def _exchange(
        self, method: str, target: str, body: bytes | None, headers: Mapping[str, str], *, reuse: bool
    ) -> Answer:
        connection = (self._take_idle() if reuse else None) or self._connect()
        kept = False
        try:
            connection.request(method, target, body=body, headers=dict(headers))
            response = connection.getresponse()
            answer = _read(response)
            kept = not response.will_close and self._give_back(connection)
        finally:
            if not kept:
                connection.close()
        return answer

    def _connect(self) -> "HTTPConnection":
        from http.client import HTTPConnection, HTTPSConnection

        if self._closed:
            raise LabError("this LabClient is closed")
        kind = HTTPSConnection if self._parts.scheme == "https" else HTTPConnection
        return kind(self._parts.hostname or "", self._parts.port, timeout=self._timeout_s)

    def _take_idle(self) -> "HTTPConnection | None":
        while True:
            with self._lock:
                if not self._idle:
                    return None
                connection = self._idle.pop()
            if not _has_input(connection):
                return connection
            connection.close()  # labd closed it, or said what nobody asked for

    def _give_back(self, connection: "HTTPConnection") -> bool:
        """Keeps a connection for the next request; False when there are enough already."""
        with self._lock:
            keep = not self._closed and len(self._idle) < _IDLE_CONNECTIONS
            if keep:
                self._idle.append(connection)
        return keep

    def _target(self, path: str, params: Mapping[str, str | int] | None) -> str:
        query = f"?{urlencode(params)}" if params else ""
        return f"{self._parts.path.rstrip('/')}/{path}{query}"

    @contextlib.contextmanager
    def _translated(self, late: str) -> Iterator[None]:
        from http.client import BadStatusLine, HTTPException, RemoteDisconnected

        try:
            yield
        except TimeoutError as error:
            raise LabUnreachable(self.url, late) from error
        except RemoteDisconnected as error:
            raise LabUnreachable(self.url, "it closed the connection without an answer") from error
        except BadStatusLine as error:
            raise UnexpectedAnswer(f"{self.url} does not speak HTTP: {str(error)[:80]}") from error
        except (OSError, HTTPException) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise LabUnreachable(self.url, reason) from error

    def _check(self, answer: Answer) -> None:
        if answer.status < 300:
            return
        try:
            document = jsonlib.loads(answer.body) if answer.kind.endswith("json") else None
        except ValueError:
            document = None
        if not isinstance(document, dict) or ("title" not in document and "detail" not in document):
            raise UnexpectedAnswer(
                f"{self.url} does not answer as labd does: status {answer.status}, {_excerpt(answer)}"
            )
        errors = document.get("errors")
        raise ProblemError(
            answer.status,
            str(document.get("title", answer.reason)),
            str(document.get("detail", "")),
            [error for error in errors if isinstance(error, dict)] if isinstance(errors, list) else [],
            kind=str(document.get("type", "")),
        )


def _checked(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - raises when the port is no number
    except ValueError as error:
        raise LabError(f"{url!r} is no URL of a labd ({error}); {_EXAMPLE}") from error
    if parts.scheme not in ("http", "https") or not parts.hostname or any(char <= " " for char in url):
        raise LabError(f"{url!r} is no URL of a labd; {_EXAMPLE}")
    return parts


def _read(response: "HTTPResponse") -> Answer:
    from http.client import IncompleteRead

    body = response.read(MAX_ANSWER_BYTES)
    if not response.isclosed() and response.read(1):
        raise UnexpectedAnswer(f"an answer is longer than {MAX_ANSWER_BYTES} bytes")
    if response.length:  # read() with a limit returns what there is when the connection ends early
        raise IncompleteRead(body, response.length)
    return Answer(response.status, response.reason, _kind(response), body)


def _kind(response: "HTTPResponse") -> str:
    return (response.headers.get("Content-Type") or "").partition(";")[0].strip().lower()


def _has_input(connection: "HTTPConnection") -> bool:
    """Whether something waits to be read: on an idle connection, its end."""
    import selectors

    if connection.sock is None:
        return True
    with selectors.DefaultSelector() as selector:
        selector.register(connection.sock, selectors.EVENT_READ)
        return bool(selector.select(0))


def _excerpt(answer: Answer, limit: int = 80) -> str:
    text = " ".join(answer.text.split())
    return repr(text if len(text) <= limit else f"{text[:limit]}…")
