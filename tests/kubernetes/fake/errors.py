"""The Status documents with which an API server refuses, worded as the real one words them."""

from collections.abc import Sequence
from typing import Any

from tests.kubernetes.fake.resources import Resource

Object = dict[str, Any]
Cause = dict[str, str]


class ApiError(Exception):
    """A request that is refused; the answer is a Status of this code and reason."""

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        *,
        details: Object | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details
        self.retry_after_s = retry_after_s

    def status(self) -> Object:
        """The body of the answer."""
        body: Object = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.code,
        }
        details = {**(self.details or {})}
        if self.retry_after_s is not None:
            details["retryAfterSeconds"] = self.retry_after_s
        if details:
            body["details"] = details
        return body


def _details(resource: Resource, name: str, **more: Any) -> Object:
    details: Object = {"name": name, "kind": resource.plural, **more}
    if resource.group:
        details["group"] = resource.group
    return {key: value for key, value in details.items() if value}


def not_found(resource: Resource, name: str) -> ApiError:
    return ApiError(404, "NotFound", f'{resource.full} "{name}" not found', details=_details(resource, name))


def no_such_path() -> ApiError:
    return ApiError(404, "NotFound", "the server could not find the requested resource")


def already_exists(resource: Resource, name: str) -> ApiError:
    message = f'{resource.full} "{name}" already exists'
    return ApiError(409, "AlreadyExists", message, details=_details(resource, name))


def conflict(resource: Resource, name: str, why: str = "") -> ApiError:
    why = why or "the object has been modified; please apply your changes to the latest version and try again"
    message = f'Operation cannot be fulfilled on {resource.full} "{name}": {why}'
    return ApiError(409, "Conflict", message, details=_details(resource, name))


def invalid(resource: Resource, name: str, causes: Sequence[Cause]) -> ApiError:
    """Causes have ``field`` and ``message`` ("Required value: ..."); the reason is taken from the latter."""
    told = [f"{cause['field']}: {cause['message']}" for cause in causes]
    kind = f"{resource.kind}.{resource.group}" if resource.group else resource.kind
    said = told[0] if len(told) == 1 else f"[{', '.join(told)}]"
    reasons = {
        "Required": "FieldValueRequired",
        "Duplicate": "FieldValueDuplicate",
        "Unsupported": "FieldValueNotSupported",
        "Forbidden": "FieldValueForbidden",
    }
    detailed = [
        {"reason": reasons.get(cause["message"].split(" ")[0].rstrip(":"), "FieldValueInvalid"), **cause}
        for cause in causes
    ]
    details = {**_details(resource, name), "kind": resource.kind, "causes": detailed}
    return ApiError(422, "Invalid", f'{kind} "{name}" is invalid: {said}', details=details)


def bad_request(message: str) -> ApiError:
    return ApiError(400, "BadRequest", message)


def forbidden(resource: Resource, name: str, why: str) -> ApiError:
    named = f'{resource.full} "{name}"' if name else resource.full
    return ApiError(403, "Forbidden", f"{named} is forbidden: {why}", details=_details(resource, name))


def unauthorized() -> ApiError:
    return ApiError(401, "Unauthorized", "Unauthorized")


def gone(message: str) -> ApiError:
    return ApiError(410, "Expired", message)


def method_not_allowed() -> ApiError:
    return ApiError(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")


def unsupported_media_type(kind: str, allowed: Sequence[str]) -> ApiError:
    message = f"the body of the request was in an unknown format - accepted media types include: {', '.join(allowed)}"
    return ApiError(415, "UnsupportedMediaType", message, details={"name": kind})
