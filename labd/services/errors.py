"""What the use cases refuse, and why."""

from dataclasses import dataclass
from typing import Any


class ServiceError(Exception):
    """A use case was refused; the message is for the person who asked."""


@dataclass(frozen=True, slots=True)
class FieldError:
    """One bad field of a request."""

    field: str
    value: Any
    message: str
    column: int | None = None
    """1-based, where the value is text with a grammar."""


class Invalid(ServiceError):
    """The request makes no sense; ``errors`` says which fields, and what would be right."""

    def __init__(self, detail: str, *errors: FieldError) -> None:
        super().__init__(detail)
        self.errors = errors


class NotFound(ServiceError):
    """There is no such thing."""


class Conflict(ServiceError):
    """Not in the thing's present state."""


class InProgress(Conflict):
    """The same request is being worked on; it may be sent again in a moment."""


class ChangedMeanwhile(ServiceError):
    """The thing is another than the one that was seen; ``etag`` is its present one's."""

    def __init__(self, detail: str, etag: str) -> None:
        super().__init__(detail)
        self.etag = etag


class Unconditional(ServiceError):
    """It would overwrite what others may have changed: it has to be said which version it is about."""


class TooLarge(ServiceError):
    """A bound is exceeded."""


class TooManyRequests(ServiceError):
    """More than one may ask; ``retry_after_s`` says when to come back."""

    def __init__(self, detail: str, retry_after_s: float) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s


class Unauthenticated(ServiceError):
    """No valid token came with the request."""


class ProviderAway(Unauthenticated):
    """Whose token it is cannot be found out at present: who was known a moment ago is taken for the same."""


class Forbidden(ServiceError):
    """Whoever asks may not do this."""
