"""Which version of a thing was seen: what a change takes as ``if_match``, so that no other's is overwritten."""

from collections.abc import Mapping
from typing import Any

from labd.client.errors import LabError

IfMatch = str | Mapping[str, Any] | None
"""The thing as labd answered it, or its ETag; ``"*"``: whichever version there is; None: not asked for."""


class Body(bytes):
    """The body of an answer, with the ETag that came with it."""

    etag: str | None = None

    @classmethod
    def of(cls, body: bytes, etag: str | None) -> "Body":
        """The two together."""
        made = cls(body)
        made.etag = etag
        return made


class Seen(dict[str, Any]):
    """A thing as labd answered it: a dict, and the ETag of that version."""

    def __init__(self, thing: Mapping[str, Any], etag: str) -> None:
        super().__init__(thing)
        self.etag = etag


def seen(value: Any, body: bytes) -> Any:
    """The JSON value of an answer, with its version if it shows one thing."""
    etag = body.etag if isinstance(body, Body) else None
    return Seen(value, etag) if etag is not None and isinstance(value, dict) else value


def etag_of(thing: Mapping[str, Any]) -> str | None:
    """The ETag of a thing that a method of a client has returned by itself; None for a copy, or an item of a list."""
    return thing.etag if isinstance(thing, Seen) else None


def precondition(if_match: IfMatch) -> dict[str, str]:
    """The header of a change. Raises LabError for a thing that does not say which version it is."""
    return {} if if_match is None else {"If-Match": _tag("if_match", if_match)}


def unlike(seen: Mapping[str, Any] | None) -> dict[str, str]:
    """The header of a GET that asks for another version than this. Raises LabError as `precondition` does."""
    return {} if seen is None else {"If-None-Match": _tag("seen", seen)}


def _tag(name: str, version: str | Mapping[str, Any]) -> str:
    tag = version if isinstance(version, str) else etag_of(version)
    if not tag:
        raise LabError(f"{name}: expected what labd answered about one thing (no copy of it), its ETag, or '*'")
    return tag
