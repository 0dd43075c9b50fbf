"""What can go wrong between a client and labd."""

from collections.abc import Mapping, Sequence
from typing import Any


class LabError(Exception):
    """Any failure of a call to labd; its text is fit for a user."""


class LabUnreachable(LabError):
    """No answer from labd: refused, timed out, or cut off. The call may or may not have taken effect."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(f"labd at {url} cannot be reached: {reason}")
        self.url = url
        self.reason = reason


class UnexpectedAnswer(LabError):
    """Something answered, but not as labd does: most likely the URL is another server's."""


class ProblemError(LabError):
    """labd refused the call, with a problem document (RFC 9457)."""

    def __init__(
        self,
        status: int,
        title: str,
        detail: str = "",
        errors: Sequence[Mapping[str, Any]] = (),
        *,
        kind: str = "",
        retry_after_s: float | None = None,
    ) -> None:
        self.status = status
        self.title = title
        self.detail = detail
        self.errors = [dict(error) for error in errors]
        """For each bad field: ``field``, ``value`` and ``message``."""
        self.retry_after_s = retry_after_s
        """When labd says that the same request may succeed later: after how many seconds."""
        self.type = kind
        """URI that identifies the kind of problem; empty or ``about:blank`` when the status says it all."""
        super().__init__(self._text())

    def _text(self) -> str:
        said = self.detail or self.title or f"HTTP status {self.status}"
        unsaid = [_field_text(error) for error in self.errors if str(error.get("message", "")) not in said]
        return f"{said} ({'; '.join(unsaid)})" if unsaid else said


def _field_text(error: Mapping[str, Any]) -> str:
    field, message = error.get("field", ""), error.get("message", "")
    shown = f" = {_short(error['value'])}" if error.get("value") is not None else ""
    return f"{field}{shown}: {message}" if field else str(message)


def _short(value: object, limit: int = 60) -> str:
    text = repr(value)
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
