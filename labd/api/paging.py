"""Lists come in pages. A cursor holds the sort key of the last item seen: what is added meanwhile moves nothing."""

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from typing import Annotated, Generic, TypeVar

from fastapi import Depends, Query, Request
from pydantic import BaseModel, Field
from starlette.datastructures import QueryParams

from labd.model.nearest import nearest
from labd.services.errors import FieldError, Invalid

PAGE_SIZE = 100
PAGE_SIZE_MAX = 1000
_CURSOR_LENGTH_MAX = 1024
_FAR = 1e12
_FOREIGN = "expected the `next` of an answer to the same path and filters"

Key = int | str
Item = TypeVar("Item")
View = TypeVar("View")


class Page(BaseModel, Generic[Item]):
    """A part of a list."""

    items: list[Item]
    next: Annotated[
        str | None, Field(description="Send it as `cursor` for what follows, with the same filters; null: that is all.")
    ]


@dataclass(frozen=True, slots=True)
class Paging:
    """The page that is asked for."""

    limit: int
    after: Key | None
    """The sort key of the last item that the client has."""
    list_id: str
    """What tells this list, with its filters, from others."""

    @property
    def after_number(self) -> int | None:
        """``after`` of a list that is sorted by a number."""
        if self.after is not None and not isinstance(self.after, int):
            raise _invalid(self.after)
        return self.after

    def page(self, found: Sequence[View], key: Callable[[View], Key], answer: Callable[[View], Item]) -> Page[Item]:
        """The page of what was found after `after`: one item more than `limit` says that there are others."""
        items = list(found[: self.limit])
        more = _cursor(self.list_id, key(items[-1])) if len(found) > self.limit else None
        return Page(items=[answer(view) for view in items], next=more)

    def cut(self, everything: Iterable[View], key: Callable[[View], str], answer: Callable[[View], Item]) -> Page[Item]:
        """The page of a whole list that is sorted by a text."""
        after = "" if self.after is None else self.after
        if not isinstance(after, str):
            raise _invalid(after)
        return self.page(list(islice((one for one in everything if key(one) > after), self.limit + 1)), key, answer)


def newest_first(seconds: float, name: str) -> str:
    """The sort key of a list whose latest items come first."""
    return f"{_FAR - seconds:020.6f} {name}"


def _paging(
    request: Request,
    limit: Annotated[int, Query(ge=1, le=PAGE_SIZE_MAX, description="Most items in the answer.")] = PAGE_SIZE,
    cursor: Annotated[
        str | None,
        Query(
            max_length=_CURSOR_LENGTH_MAX, description="The `next` of the answer before; without it: from the start."
        ),
    ] = None,
) -> Paging:
    filters = sorted(pair for pair in request.query_params.multi_items() if pair[0] not in ("limit", "cursor"))
    list_id = sha256(json.dumps([request.url.path, filters]).encode()).hexdigest()[:12]
    return Paging(limit, None if cursor is None else _key(list_id, cursor), list_id)


PagingOf = Annotated[Paging, Depends(_paging)]
"""`limit` and `cursor` of a route that lists."""


def refuse_unknown(given: QueryParams, known: frozenset[str]) -> None:
    """A filter whose name is mistaken would otherwise keep everything, and nobody would see why. Raises Invalid."""
    for name in given:
        if name not in known:
            message = f"there is no such filter here{nearest(name, sorted(known))}"
            raise Invalid(f"{name}: {message}", FieldError(name, given[name], message))


def _cursor(list_id: str, key: Key) -> str:
    return urlsafe_b64encode(json.dumps([list_id, key]).encode()).decode().rstrip("=")


def _key(list_id: str, cursor: str) -> Key:
    try:
        whose, key = json.loads(urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (ValueError, TypeError, RecursionError):
        raise _invalid(cursor) from None
    if whose != list_id or not (isinstance(key, str) or (type(key) is int and abs(key) < 2**53)):
        raise _invalid(cursor)
    return key if isinstance(key, int) else str(key)


def _invalid(value: object) -> Invalid:
    return Invalid(f"cursor: {_FOREIGN}", FieldError("cursor", value, _FOREIGN))
