"""What every database takes, and gives back as it was: several transactions may be told to it in one go, and none of
them may keep the others from being stored.
"""

import json
import math
from dataclasses import fields, replace
from functools import cache
from typing import Any, TypeVar

from sqlalchemy import String, Table

from labd.model.bench import Bench
from labd.model.lease import Lease

_Noun = TypeVar("_Noun", Bench, Lease)
_INTEGERS = range(-(1 << 63), 1 << 63)


def storable(noun: _Noun, table: Table) -> _Noun:
    """The noun, with U+2400 (symbol for NUL) for NUL, and question marks for halves of surrogate pairs in its texts.

    Raises ValueError for a text longer than its column, and a number that no database has.
    """
    lengths = _lengths(table)
    plain: dict[str, Any] = {}
    for field in fields(noun):
        value = getattr(noun, field.name)
        if isinstance(value, str):
            if not value.isascii() or "\0" in value:
                text = value.encode("utf-8", "replace").decode("utf-8").replace("\0", "\u2400")
                if text != value:
                    plain[field.name] = text
            if len(value) > lengths.get(field.name, len(value)):
                raise ValueError(f"{field.name} has {len(value)} characters; {lengths[field.name]} are stored")
        elif isinstance(value, float):
            if not math.isfinite(value):
                raise ValueError(f"{field.name} is {value}: no number that can be stored")
        elif isinstance(value, (dict, list)):
            try:
                json.dumps(value, allow_nan=False)
            except ValueError:
                raise ValueError(f"{field.name} has a number in it that is none, or is infinite") from None
        elif isinstance(value, int) and value not in _INTEGERS:
            raise ValueError(f"{field.name} is {value}: it has more than 64 bits")
    return replace(noun, **plain) if plain else noun


@cache
def _lengths(table: Table) -> dict[str, int]:
    """Of the columns that have a longest text."""
    return {
        column.name: column.type.length
        for column in table.columns
        if isinstance(column.type, String) and column.type.length is not None
    }
