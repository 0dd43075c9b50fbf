"""InfluxDB's v2 write API, and what its answers mean."""

import json
import re
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

TIMEOUT_S = 10.0
"""For the connection, and for each wait within a request."""
REQUEST_S = 30.0
"""For a request as a whole, however the database deals out its bytes."""
MESSAGE_LENGTH = 300
"""Of what the database says, in the log and in the checks."""


@dataclass(frozen=True, slots=True)
class InfluxSettings:
    """Where points are sent."""

    url: str
    org: str
    bucket: str
    token_file: Path | None = None
    """Read again when the database refuses the token, so that it can be changed without a restart."""
    ca_file: Path | None = None
    """Whom to trust for https; None: the system's authorities."""
    timeout_s: float = TIMEOUT_S
    request_s: float = REQUEST_S


class Meaning(StrEnum):
    """What is to be done after an answer."""

    WRITTEN = "written"
    """Nothing: all lines are there, but for those that the database says it left out."""
    BAD_LINES = "bad lines"
    """Some lines are refused: send them in parts, to find out which."""
    TOO_LARGE = "too large"
    """The same, in smaller parts."""
    LATER = "later"
    """The database is away, or has too much to do."""
    MISCONFIGURED = "misconfigured"
    """Token, bucket, organisation or address are wrong: nothing goes in before somebody puts that right."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a request."""

    meaning: Meaning
    message: str = ""
    left_out: int = 0
    """How many lines the database did not take of an otherwise written batch."""
    retry_after_s: float | None = None


class Target(Protocol):
    """Takes lines."""

    def send(self, lines: list[bytes]) -> Answer:
        """In one request; never raises."""


class InfluxTarget:
    """Sends batches with the client library, gzipped.

    The library's own retries are off, as its batching is: they live in memory, and give up after minutes.
    """

    def __init__(self, settings: InfluxSettings) -> None:
        self._settings = settings
        self._api: Any = None
        self._client: Any = None
        self._deadline: Any = None

    def send(self, lines: list[bytes]) -> Answer:
        """In one request; never raises."""
        from influxdb_client.rest import ApiException

        try:
            if self._api is None:
                self._connect()
            with self._deadline.within(self._settings.request_s):
                self._api.write(bucket=self._settings.bucket, org=self._settings.org, record=b"\n".join(lines))
        except ApiException as error:
            answer = _answer(error)
        except TimeoutError as error:
            answer = Answer(Meaning.LATER, str(error))
        except Exception as error:  # whatever urllib3, ssl and the client raise
            answer = Answer(Meaning.LATER, _brief(_words(error)))
        else:
            return Answer(Meaning.WRITTEN)
        if answer.meaning is Meaning.MISCONFIGURED:
            self.close()
        return answer

    def close(self) -> None:
        """Ends the connection; the next request makes a new one."""
        client, self._client, self._api = self._client, None, None
        if client is not None:
            client.close()

    def _connect(self) -> None:
        from influxdb_client.client.influxdb_client import InfluxDBClient
        from influxdb_client.client.write_api import SYNCHRONOUS

        from labd.telemetry.deadline import Deadline

        settings = self._settings
        token = "" if settings.token_file is None else settings.token_file.read_text("utf-8").strip()
        self._client = InfluxDBClient(
            settings.url,
            token,
            org=settings.org,
            timeout=int(settings.timeout_s * 1000),
            enable_gzip=True,
            ssl_ca_cert=None if settings.ca_file is None else str(settings.ca_file),
            retries=False,
        )
        self._deadline = Deadline(self._client.api_client.rest_client.pool_manager)
        self._api = self._client.write_api(write_options=SYNCHRONOUS)


def _words(error: BaseException) -> str:
    """What went wrong, by the operating system where its word lies underneath: urllib3 wraps it up more than once."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return f"{cause.strerror}: {cause.filename}" if cause.filename else cause.strerror
        cause = cause.__cause__ or cause.__context__
    return f"{type(error).__name__}: {error}"


_LEFT_OUT = re.compile(r"partial write:.*\bdropped=(\d+)", re.DOTALL)
_SERVER_ERROR = 500


def _answer(error: Any) -> Answer:
    status, headers = error.status or 0, error.headers or {}
    said = _said(error.body) or str(error.reason or "")
    message = _brief(f"HTTP {status}: {said}" if status else said)
    if status in (400, 422):
        if "html" in headers.get("Content-Type", ""):
            return Answer(Meaning.LATER, message)  # of a proxy on the way: the database itself speaks JSON
        if (left_out := _LEFT_OUT.search(said)) is not None:
            return Answer(Meaning.WRITTEN, message, left_out=int(left_out[1]))
        return Answer(Meaning.BAD_LINES, message)
    if status == 413:
        return Answer(Meaning.TOO_LARGE, message)
    if status in (0, 408, 425, 429) or status >= _SERVER_ERROR:
        return Answer(Meaning.LATER, message, retry_after_s=_seconds(headers.get("Retry-After")))
    return Answer(Meaning.MISCONFIGURED, message)


def _said(body: str | bytes | None) -> str:
    text = body.decode("utf-8", "replace") if isinstance(body, bytes) else body or ""
    try:
        document = json.loads(text)
    except ValueError:
        return text
    return str(document.get("message", text)) if isinstance(document, dict) else text


def _seconds(text: str | None) -> float | None:
    """Of a Retry-After header, which is a number of seconds or a date; None when it is neither."""
    if text is None:
        return None
    if text.strip().isdecimal():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return None


def _brief(text: str) -> str:
    plain = " ".join(text.split())
    return plain if len(plain) <= MESSAGE_LENGTH else f"{plain[:MESSAGE_LENGTH]}..."
