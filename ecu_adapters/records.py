"""Structures of several fields, one behind the other: data identifiers, routine parameters, extended data of DTCs.

The first field starts at the first byte's highest bit. Most fields are whole bytes; ``bits`` and ``reserved`` count
bits.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from ecu_adapters.coding import AsciiCoding, FloatCoding, HexCoding, NumberCoding, Scalar, Scaled
from ecu_adapters.yaml_file import field_error, model_error, nearest


class _Named(BaseModel):
    name: str = Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.]{0,127}$")


class AsciiField(AsciiCoding, _Named):
    """Text of fixed length."""


class HexField(HexCoding, _Named):
    """Raw bytes of fixed length."""


class NumberField(NumberCoding, _Named):
    """An integer of whole bytes."""


class FloatField(FloatCoding, _Named):
    """A floating-point number."""


class BitsField(Scaled, _Named):
    """An unsigned number of some bits."""

    type: Literal["bits"]
    length: int = Field(ge=1, le=64, description="bits")
    value: int | float | str = 0

    @field_validator("value")
    @classmethod
    def _value_fits(cls, value: int | float | str, info: ValidationInfo) -> int | float | str:
        if "length" in info.data and "choices" in info.data:
            cls.model_construct(**info.data).to_raw(value)
        return value

    def raw_range(self) -> tuple[int, int]:
        """The smallest and the greatest raw value."""
        return 0, (1 << self.length) - 1


class Reserved(BaseModel):
    """Bits without a meaning: written as zeros, ignored when read."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["reserved"]
    length: int = Field(ge=1, le=4092 * 8, description="bits")


Part = Annotated[AsciiField | HexField | NumberField | FloatField | BitsField | Reserved, Field(discriminator="type")]


def _bits(part: Part) -> int:
    return part.length if isinstance(part, BitsField | Reserved) else 8 * part.length


def _consistent(parts: list[Part]) -> list[Part]:
    errors, names, at = [], set[str](), 0
    for index, part in enumerate(parts):
        if not isinstance(part, Reserved):
            if part.name in names:
                errors.append(field_error((index, part.type, "name"), f"{part.name} is given twice"))
            names.add(part.name)
            if not isinstance(part, BitsField) and at % 8:
                message = f"starts at bit {at % 8} of a byte; fill up with a field of type reserved"
                errors.append(field_error((index, part.type), message))
        at += _bits(part)
    if at % 8 and not errors:
        errors.append(field_error((len(parts) - 1, parts[-1].type), f"the fields end at bit {at % 8} of a byte"))
    if errors:
        raise model_error("fields", errors)
    return parts


Fields = Annotated[list[Part], AfterValidator(_consistent)]
"""The fields of a structure, in order."""


def length(fields: Sequence[Part]) -> int:
    """Bytes of the structure."""
    return sum(map(_bits, fields)) // 8


def encode(fields: Sequence[Part], values: Mapping[str, object]) -> bytes:
    """The bytes of a structure. Fields with a ``value`` of their own may be left out.

    Raises ValueError, naming the field, when one is unknown, missing, or its value does not fit.
    """
    names = [part.name for part in fields if not isinstance(part, Reserved)]
    for name in values:
        if name not in names:
            raise ValueError(f"unknown field {name!r}; {nearest(name, names)}")
    number = 0
    for part in fields:
        number = number << _bits(part) | (0 if isinstance(part, Reserved) else _raw(part, values))
    return number.to_bytes(length(fields), "big")


def decode(fields: Sequence[Part], data: bytes) -> dict[str, Scalar]:
    """The values by name. ``data`` has the length of the structure."""
    number, left = int.from_bytes(data, "big"), 8 * len(data)
    values: dict[str, Scalar] = {}
    for part in fields:
        bits = _bits(part)
        left -= bits
        raw = number >> left & (1 << bits) - 1
        if isinstance(part, BitsField):
            values[part.name] = part.from_raw(raw)
        elif not isinstance(part, Reserved):
            values[part.name] = part.decode(raw.to_bytes(part.length, "big"))
    return values


def accepts(fields: Sequence[Part], data: bytes) -> bool:
    """Whether these bytes may be written: each field has a value that it may have."""
    number, left = int.from_bytes(data, "big"), 8 * len(data)
    for part in fields:
        bits = _bits(part)
        left -= bits
        raw = number >> left & (1 << bits) - 1
        if isinstance(part, BitsField):
            if not part.accepts_raw(raw):
                return False
        elif not isinstance(part, Reserved) and not part.accepts(raw.to_bytes(part.length, "big")):
            return False
    return True


def initial(fields: Sequence[Part]) -> dict[str, Scalar]:
    """The values that the description gives, by name."""
    return {part.name: part.value for part in fields if not isinstance(part, Reserved)}


def units(fields: Sequence[Part]) -> dict[str, str]:
    """The units of the fields that have one, by name."""
    return {part.name: part.unit for part in fields if not isinstance(part, Reserved) and part.unit}


def _raw(part: AsciiField | HexField | NumberField | FloatField | BitsField, values: Mapping[str, object]) -> int:
    if part.name in values:
        value = values[part.name]
    elif "value" in part.model_fields_set:
        value = part.value
    else:
        raise ValueError(f"the field {part.name} is missing")
    try:
        return part.to_raw(value) if isinstance(part, BitsField) else int.from_bytes(part.encode(value), "big")
    except ValueError as error:
        raise ValueError(f"{part.name}: {error}") from None
