"""HTTP to labd: one pooled connection set, errors turned into `labd.client.errors`."""

import contextlib
import threading
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlsplit

from labd.client.errors import LabError, LabUnreachable, ProblemError, UnexpectedAnswer

if TYPE_CHECKING:
    import httpx2

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_PROBLEM = "application/problem+json"


class Transport:
    """Sends requests to one labd. May be shared by threads. httpx2 is imported with the first request."""

    def __init__(self, url: str, *, token: str | None, timeout_s: float) -> None:
        self._parts = _checked(url)
        self.url = url.rstrip("/")
        self._token = token
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._client: httpx2.Client | None = None
        self._closed = False

    def close(self) -> None:
        """Closes the connections; later requests raise LabError."""
        with self._lock:
            self._closed = True
            if self._client is not None:
                self._client.close()

    def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str | int] | None = None,
        json: object | None = None,
        repeatable: bool = False,
    ) -> "httpx2.Response":
        """The answer to a request, its status below 300.

        A ``repeatable`` request is sent again, once, when the connection breaks: labd may have closed an idle
        connection at that very moment. Raises ProblemError, LabUnreachable or UnexpectedAnswer.
        """
        client = self._opened()
        import httpx2

        for last in (False, True) if repeatable else (True,):
            try:
                response = client.request(method, path, params=params, json=json)
            except (httpx2.ReadError, httpx2.WriteError, httpx2.RemoteProtocolError) as error:
                if last:
                    raise LabUnreachable(self.url, _reason(error)) from error
            except httpx2.TimeoutException as error:
                raise LabUnreachable(self.url, f"no answer within {self._timeout_s:g} s") from error
            except httpx2.HTTPError as error:
                raise LabUnreachable(self.url, _reason(error)) from error
            else:
                self._check(response)
                return response
        raise AssertionError("unreachable: the last attempt returns or raises")

    @contextlib.contextmanager
    def stream(
        self, path: str, *, params: Mapping[str, str | int], headers: Mapping[str, str], read_timeout_s: float
    ) -> "Iterator[httpx2.Response]":
        """A streamed answer to a GET. Raises as `request` does, while it is open too."""
        client = self._opened()
        import httpx2

        timeout = httpx2.Timeout(self._timeout_s, read=read_timeout_s)
        try:
            with client.stream("GET", path, params=params, headers=headers, timeout=timeout) as response:
                if response.status_code >= 300:
                    response.read()
                self._check(response)
                yield response
        except httpx2.TimeoutException as error:
            raise LabUnreachable(self.url, f"nothing came within {read_timeout_s:g} s") from error
        except httpx2.HTTPError as error:
            raise LabUnreachable(self.url, _reason(error)) from error

    def json(self, response: "httpx2.Response") -> Any:
        """The JSON value of an answer; raises UnexpectedAnswer when it is none."""
        try:
            return response.json()
        except ValueError as error:
            raise UnexpectedAnswer(f"{self.url} does not answer as labd does: {_excerpt(response)}") from error

    def _check(self, response: "httpx2.Response") -> None:
        if response.status_code < 300:
            return
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        try:
            document = response.json() if kind in (_PROBLEM, "application/json") else None
        except ValueError:
            document = None
        if not isinstance(document, dict) or ("title" not in document and "detail" not in document):
            raise UnexpectedAnswer(
                f"{self.url} does not answer as labd does: status {response.status_code}, {_excerpt(response)}"
            )
        errors = document.get("errors")
        raise ProblemError(
            response.status_code,
            str(document.get("title", response.reason_phrase)),
            str(document.get("detail", "")),
            [error for error in errors if isinstance(error, dict)] if isinstance(errors, list) else [],
            kind=str(document.get("type", "")),
        )

    def _opened(self) -> "httpx2.Client":
        with self._lock:
            if self._closed:
                raise LabError("this LabClient is closed")
            if self._client is None:
                import ssl

                import httpx2

                # Plain HTTP needs no certificates, and loading them takes longer than the request: an empty context
                # trusts nobody. Loopback never goes through the environment's proxy.
                self._client = httpx2.Client(
                    base_url=f"{self.url}/",
                    headers={"Authorization": f"Bearer {self._token}"} if self._token else {},
                    timeout=self._timeout_s,
                    verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if self._parts.scheme == "http" else True,
                    trust_env=self._parts.hostname not in _LOOPBACK,
                )
            return self._client


def _checked(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - raises when the port is no number
    except ValueError as error:
        raise LabError(f"{url!r} is no URL of a labd ({error}); it would look like http://127.0.0.1:8470") from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise LabError(f"{url!r} is no URL of a labd; it would look like http://127.0.0.1:8470")
    return parts


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__


def _excerpt(response: "httpx2.Response", limit: int = 80) -> str:
    text = " ".join(response.text.split())
    return repr(text if len(text) <= limit else f"{text[:limit]}…")
