"""What goes wrong between a client and the server, when a test wants it to."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.kubernetes.fake.errors import ApiError, gone


@dataclass
class _Answer:
    error: ApiError
    verb: str
    resource: str
    left: int | None
    delay_s: float = 0.0


_WORDS = {
    429: ("TooManyRequests", "too many requests, please try again later"),
    500: ("InternalError", "Internal error occurred: etcdserver: request timed out"),
    503: ("ServiceUnavailable", "the server is currently unable to handle the request"),
    504: ("Timeout", "the server was unable to return a response in the time allotted"),
}


class Faults:
    """Answers instead of the server, delays it, and counts who asked what."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._answers: list[_Answer] = []
        self.requests: Counter[tuple[str, str]] = Counter()
        """By verb and resource (with its subresource: `pods/log`)."""

    @contextmanager
    def answering(
        self,
        code: int,
        *,
        verb: str = "",
        resource: str = "",
        times: int | None = None,
        retry_after_s: int | None = None,
    ) -> Iterator[None]:
        """Refuses requests meanwhile (the first ``times`` of them): 410, 429, 500, 503, 504."""
        if code == 410:
            error = gone("The resourceVersion for the provided watch is too old.")
        else:
            reason, message = _WORDS[code]
            error = ApiError(code, reason, message, retry_after_s=retry_after_s)
        with self._added(_Answer(error, verb, resource, times)):
            yield

    @contextmanager
    def slow(self, delay_s: float, *, verb: str = "", resource: str = "") -> Iterator[None]:
        """Has requests wait meanwhile before they are worked on."""
        with self._added(_Answer(ApiError(0, "", ""), verb, resource, None, delay_s)):
            yield

    @contextmanager
    def _added(self, answer: _Answer) -> Iterator[None]:
        with self._lock:
            self._answers.append(answer)
        try:
            yield
        finally:
            with self._lock:
                self._answers.remove(answer)

    def strike(self, verb: str, resource: str) -> None:
        """Counts a request, delays it, and raises what shall be answered."""
        delay_s, error = 0.0, None
        with self._lock:
            self.requests[verb, resource] += 1
            for answer in self._answers:
                if answer.verb not in {"", verb} or answer.resource not in {"", resource} or answer.left == 0:
                    continue
                if answer.delay_s:
                    delay_s = max(delay_s, answer.delay_s)
                    continue
                if answer.left is not None:
                    answer.left -= 1
                error = answer.error
                break
        if delay_s:
            time.sleep(delay_s)
        if error is not None:
            raise error
