"""Reviews as kubectl sends them: in protobuf. Nothing else comes so.

The envelope is `k8s\\0` and a runtime.Unknown; field numbers are those of Kubernetes' generated.proto files.
"""

from typing import Any

from tests.kubernetes.fake.errors import Object, bad_request

_MAGIC = b"k8s\0"
_RESOURCE = {1: "namespace", 2: "verb", 3: "group", 4: "version", 5: "resource", 6: "subresource", 7: "name"}
_PATH = {1: "path", 2: "verb"}


def access_review(body: bytes) -> Object:
    """A SelfSubjectAccessReview; raises ApiError 400 for what is none."""
    try:
        if not body.startswith(_MAGIC):
            raise ValueError("it does not begin as objects in protobuf do")
        review = _message(_message(body[len(_MAGIC) :])[2])
        spec = _message(review[2])
        found: Object = {}
        if 1 in spec:
            found["resourceAttributes"] = _texts(spec[1], _RESOURCE)
        if 2 in spec:
            found["nonResourceAttributes"] = _texts(spec[2], _PATH)
    except (ValueError, KeyError, IndexError) as error:
        raise bad_request(f"error decoding the body: {error}") from error
    return {"spec": found}


def _texts(body: bytes, names: dict[int, str]) -> Object:
    return {names[number]: value.decode() for number, value in _message(body).items() if number in names and value}


def _message(body: bytes) -> dict[int, Any]:
    """The last value of each field: bytes, or numbers."""
    found: dict[int, Any] = {}
    at = 0
    while at < len(body):
        tag, at = _number(body, at)
        if tag & 7 == 0:
            found[tag >> 3], at = _number(body, at)
        elif tag & 7 == 2:
            size, at = _number(body, at)
            found[tag >> 3] = body[at : at + size]
            at += size
        else:
            raise ValueError(f"wire type {tag & 7}")
    return found


def _number(body: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = body[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not byte & 0x80:
            return value, at
