"""HTTP to identity providers: bounded in time and size, no redirects."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import urllib3

TIMEOUT_S = 5.0
"""For one exchange."""
ANSWER_BYTES_MAX = 1024 * 1024


class ProviderUnreachable(Exception):
    """No answer, or none that makes sense; the message says which."""


def _content(answer: urllib3.BaseHTTPResponse, url: str, deadline: float) -> bytes:
    """Up to a byte more than is taken. urllib3's own timeout is for each read, and an answer may trickle."""
    content = b""
    while len(content) <= ANSWER_BYTES_MAX and (more := answer.read1(ANSWER_BYTES_MAX)):
        content += more
        if time.monotonic() > deadline:
            raise ProviderUnreachable(f"{url} does not answer within {TIMEOUT_S:g} s")
    return content


class ProviderHttp:
    """Exchanges JSON with one provider."""

    def __init__(self, ca: Path | None) -> None:
        self._pool = urllib3.PoolManager(
            maxsize=4,
            retries=False,
            timeout=urllib3.Timeout(total=TIMEOUT_S),
            ca_certs=None if ca is None else str(ca),
        )

    def json(
        self, method: str, url: str, *, body: object | None = None, headers: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """The JSON object of an answer below 300. Raises ProviderUnreachable."""
        try:
            answer = self._pool.request(
                method,
                url,
                body=None if body is None else json.dumps(body),
                headers={"Accept": "application/json", "Content-Type": "application/json", **(headers or {})},
                redirect=False,
                preload_content=False,
            )
            try:
                content = _content(answer, url, time.monotonic() + TIMEOUT_S)
            finally:
                answer.close()  # one that was read to its end has given its connection back
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise ProviderUnreachable(f"{url} does not answer: {error}") from error
        if answer.status >= 300 or len(content) > ANSWER_BYTES_MAX:
            raise ProviderUnreachable(f"{url} answers with status {answer.status} and {len(content)} bytes")
        try:
            document = json.loads(content)
        except ValueError as error:
            raise ProviderUnreachable(f"{url} does not answer with JSON") from error
        if not isinstance(document, dict):
            raise ProviderUnreachable(f"{url} does not answer with a JSON object")
        return document
