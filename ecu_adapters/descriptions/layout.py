"""Values at bit positions, as other tools describe them, become fields one behind the other, as ours do."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


class Unmapped(Exception):
    """Something that our descriptions cannot express; the text says what."""


@dataclass(frozen=True, slots=True)
class Placed:
    """A value of ``bits`` bits that starts ``start`` bits after the highest bit of the first byte."""

    name: str
    start: int
    bits: int
    coding: dict[str, Any]
    """Its type and meaning, as in an ECU's file, without the length. Whole bytes at a byte's start unless ``bits``."""


def big_endian(byte: int, lowest: int, bits: int) -> int:
    """Where a value starts whose lowest bit is bit ``lowest`` of the last of the bytes that it spans."""
    span = (lowest + bits + 7) // 8
    return 8 * (byte + span) - lowest - bits


def fields(placed: Sequence[Placed]) -> list[dict[str, Any]]:
    """The fields, with reserved bits between them. Raises Unmapped when values overlap."""
    at, listed = 0, list[dict[str, Any]]()
    names: set[str] = set()
    for part in sorted(placed, key=lambda part: part.start):
        if part.start < at:
            raise Unmapped(f"{part.name} overlaps the value before it")
        if part.start > at:
            listed.append({"type": "reserved", "length": part.start - at})
        name = _unique(part.name, names)
        listed.append({"name": name, **_coded(part)})
        at = part.start + part.bits
    if at % 8:
        listed.append({"type": "reserved", "length": 8 - at % 8})
    return listed


def single(placed: Sequence[Placed]) -> dict[str, Any] | None:
    """The coding of the only value, when it fills whole bytes from the first on; otherwise None."""
    if len(placed) != 1 or placed[0].start or placed[0].bits % 8:
        return None
    coded = _coded(placed[0])
    return None if coded["type"] == "bits" else coded


def identifier(name: str) -> str:
    """A name that an ECU's file may have."""
    cleaned = re.sub(r"[^A-Za-z0-9_]+", "_", name).strip("_") or "unnamed"
    return cleaned if cleaned[0].isalpha() else f"_{cleaned}"


def _coded(part: Placed) -> dict[str, Any]:
    coding, whole = dict(part.coding), part.start % 8 == 0 and part.bits % 8 == 0
    kind = coding.pop("type")
    if kind == "uint" and (not whole or part.bits > 64):
        kind = "bits"
        if coding.pop("byte_order", "big") != "big":
            raise Unmapped(f"{part.name} has {part.bits} bits in Intel byte order")
    if kind == "bits":
        if part.bits > 64:
            raise Unmapped(f"{part.name} is a number of {part.bits} bits")
        return {"type": "bits", "length": part.bits, **coding}
    if not whole:
        raise Unmapped(f"{part.name} is of type {kind} and does not fill whole bytes")
    return {"type": kind, "length": part.bits // 8, **coding}


def _unique(name: str, taken: set[str]) -> str:
    wanted = candidate = identifier(name)
    number = 2
    while candidate in taken:
        candidate, number = f"{wanted}_{number}", number + 1
    taken.add(candidate)
    return candidate
