"""`If-Match`: a change is made only to the version of a thing that its author has seen."""

import inspect
from collections.abc import Callable, Iterable
from typing import Annotated, Any

from fastapi import Depends, Header

from labd.api.etags import etag, matches
from labd.model.identity import Actor
from labd.services.errors import ChangedMeanwhile, NotFound
from labd.services.lab import Lab

Show = Callable[[dict[str, Any]], bytes]
"""What a GET of the thing answers, given the values of the change's route."""


def _if_match(
    if_match: Annotated[
        str | None,
        Header(
            alias="If-Match",
            max_length=1000,
            description="The `ETag` of the thing as it was seen; if it is another by now, the change is refused (412).",
            examples=['"0c5e0b8f4d1a9b7c3e2f1a0b"'],
        ),
    ] = None,
) -> str | None:
    return if_match


WHOLE = {"x-whole": True}
"""`openapi_extra` of a PUT that replaces what many keep together: it takes an `If-Match` (428), `*` at least."""

IfMatchOf = Annotated[str | None, Depends(_if_match)]


def require_match(lab: Lab, actor: Actor, if_match: str, show: Show, values: dict[str, Any]) -> None:
    """Raises ChangedMeanwhile unless the thing is the one that was seen.

    Begins the thread's transaction, so that it stays that one until the change is made.
    """
    with lab.core.transaction(actor):
        try:
            now = etag(show(values))
        except NotFound as error:
            raise ChangedMeanwhile(f"it is not there any more: {error}", "") from error
        if not matches(if_match, now):
            raise ChangedMeanwhile(
                f"somebody has changed it meanwhile: its ETag is {now}, If-Match is {if_match}; look at it again", now
            )


def given(endpoint: Callable[..., Any], values: dict[str, Any]) -> dict[str, Any]:
    """Those values that the endpoint takes."""
    return {name: values[name] for name in inspect.signature(endpoint).parameters if name in values}


def parent(path: str, gettable: Iterable[str]) -> str | None:
    """The thing that a change at ``path`` is about: the longest path of a GET that it begins with."""
    fitting = [one for one in gettable if path == one or path.startswith(f"{one}/")]
    return max(fitting, key=len, default=None)
