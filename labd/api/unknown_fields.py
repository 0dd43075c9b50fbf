"""Which field of a body an unknown one may have been meant to be."""

from collections.abc import Iterator, Sequence
from typing import Any, get_args

from pydantic import BaseModel

from labd.model.nearest import nearest


def with_nearest(errors: Sequence[Any], body: Any, root: int) -> list[Any]:
    """The errors of pydantic; those about unknown fields name the nearest that there is.

    ``body`` is the type that was asked for, ``root`` the length of its own location.
    """
    return [_told(error, body, root) if error["type"] == "extra_forbidden" else error for error in errors]


def _told(error: Any, body: Any, root: int) -> Any:
    *path, name = error["loc"][root:]
    known = sorted({field for model in _models_at([body], path) for field in model.model_fields})
    return {**error, "msg": f"there is no such field{nearest(str(name), known)}"}


def _models_at(types: Sequence[Any], path: Sequence[str | int]) -> Iterator[type[BaseModel]]:
    """The models to which the path may lead: into fields by name, into lists and mappings to what they hold."""
    found = [model for one in types for model in _models(one)]
    if not path:
        yield from found
        return
    step, *rest = path
    inner = [model.model_fields[step].annotation for model in found if step in model.model_fields]
    yield from _models_at(inner or types, rest)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models that an annotation names, at whatever depth of unions, lists and mappings."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models(argument)
