"""Values and their bytes: text, raw bytes, scaled integers, floating point, single bits.

Data identifiers, the fields of structures, and the parameters of routines are all made of these. Tester and simulated
ECU share the models, so that both ends of the wire agree by construction.
"""

import math
import struct
from typing import Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationInfo, field_validator, model_validator

from ecu_adapters.yaml_file import field_error, model_error, nearest

Scalar = int | float | str | bytes
"""One value. Raw bytes are written as hex text in YAML."""

_Value = TypeVar("_Value", bound=Scalar)
_NEEDED = frozenset({"length", "pad", "byte_order", "scale", "offset", "min", "max", "choices"})
"""Fields that coding a value takes."""


class _Coding(BaseModel):
    model_config = ConfigDict(extra="forbid")


class AsciiCoding(_Coding):
    """Text of fixed length. Shorter values are filled up with ``pad``, which reading strips again."""

    type: Literal["ascii"]
    length: int = Field(ge=1, le=4092, description="bytes")
    pad: int = Field(default=0x20, ge=0, le=0xFF)
    value: str = ""

    @field_validator("value")
    @classmethod
    def _value_fits(cls, value: str, info: ValidationInfo) -> str:
        return _fits(cls, value, info)

    @property
    def unit(self) -> str:
        """Text has no unit."""
        return ""

    def encode(self, value: object) -> bytes:
        """Raises ValueError when the value is no ASCII text or too long."""
        if not isinstance(value, str):
            raise ValueError(f"expected text of at most {self.length} characters, not {value!r}")
        if not value.isascii():
            raise ValueError(f"expected ASCII text, not {value!r}")
        if len(value) > self.length:
            raise ValueError(f"{value!r} has {len(value)} characters; at most {self.length} fit")
        return value.encode("ascii").ljust(self.length, bytes([self.pad]))

    def accepts(self, data: bytes) -> bool:
        """Whether these bytes may be written: ASCII only."""
        return data.isascii()

    def decode(self, data: bytes) -> str:
        """The text; bytes beyond ASCII appear as ``\\xNN``."""
        return data.rstrip(bytes([self.pad])).decode("ascii", "backslashreplace")


class HexCoding(_Coding):
    """Raw bytes of fixed length."""

    type: Literal["hex"]
    length: int = Field(ge=1, le=4092, description="bytes")
    value: str = Field(default="", validate_default=True)

    @field_validator("value")
    @classmethod
    def _value_fits(cls, value: str, info: ValidationInfo) -> str:
        # Without a value, all bytes are zero.
        value = value or "00" * int(info.data.get("length", 0))
        return _fits(cls, value, info)

    @property
    def unit(self) -> str:
        """Raw bytes have no unit."""
        return ""

    def encode(self, value: object) -> bytes:
        """From bytes or hex text. Raises ValueError when it is neither, or the length differs."""
        if isinstance(value, str):
            try:
                value = bytes.fromhex(value)
            except ValueError:
                raise ValueError(f"expected hex digits in pairs, not {value!r}") from None
        if not isinstance(value, bytes):
            raise ValueError(f"expected {self.length} bytes, not {value!r}")
        if len(value) != self.length:
            raise ValueError(f"expected {self.length} bytes, not {len(value)} ({value.hex()})")
        return value

    def accepts(self, data: bytes) -> bool:
        """Whether these bytes may be written: any may."""
        return len(data) == self.length

    def decode(self, data: bytes) -> bytes:
        """The bytes as they are."""
        return data


class Scaled(_Coding):
    """A raw integer with its meaning; physical = raw * scale + offset."""

    scale: float = 1.0
    offset: float = 0.0
    unit: str = ""
    min: float | None = Field(default=None, description="smallest physical value that may be written")
    max: float | None = Field(default=None, description="greatest physical value that may be written")
    choices: dict[int, str] = Field(default={}, description="names of raw values")

    _raw_of: dict[str, int] = PrivateAttr(default_factory=dict)

    @field_validator("scale")
    @classmethod
    def _scale_not_zero(cls, scale: float) -> float:
        if scale == 0:
            raise ValueError("scale must not be 0")
        return scale

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        self._raw_of = {name: raw for raw, name in self.choices.items()}
        low, high = self.raw_range()
        errors = [
            field_error(("choices", raw), f"{raw} does not fit the raw values {low} .. {high}")
            for raw in self.choices
            if not low <= raw <= high
        ]
        if len(self._raw_of) < len(self.choices):
            errors.append(field_error(("choices",), "two raw values have the same name"))
        if self.min is not None and self.max is not None and self.min > self.max:
            errors.append(field_error(("min",), f"min {self.min:g} is above max {self.max:g}"))
        if errors:
            raise model_error("coding", errors)
        return self

    def raw_range(self) -> tuple[int, int]:
        """The smallest and the greatest raw value."""
        raise NotImplementedError

    def to_raw(self, value: object) -> int:
        """From a number or the name of a choice. Raises ValueError when it is unknown or out of range."""
        if isinstance(value, str):
            raws = self._raw_of or {name: raw for raw, name in self.choices.items()}
            if value not in raws:
                raise ValueError(f"{value!r} is no number and no name of a choice; {nearest(value, raws)}")
            return raws[value]
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"expected a number, not {value!r}")
        low, high = self._physical_range()
        if not low <= value <= high:
            raise ValueError(f"{value:g} is out of range {low:g} .. {high:g}" + (f" {self.unit}".rstrip()))
        return int(value) if self._is_plain() and value == int(value) else round((value - self.offset) / self.scale)

    def from_raw(self, raw: int) -> int | float | str:
        """The name of the choice, or else the physical value (an int where scale and offset are)."""
        if raw in self.choices:
            return self.choices[raw]
        if self.scale.is_integer() and self.offset.is_integer():
            return raw * int(self.scale) + int(self.offset)
        # Rounding hides what binary floating point makes of 3 * 0.1.
        return round(raw * self.scale + self.offset, 10)

    def accepts_raw(self, raw: int) -> bool:
        """Whether the physical value lies within ``min`` and ``max``."""
        low, high = self._physical_range()
        # Half a step of tolerance, so that a bound which is no multiple of the scale can be reached.
        return low - abs(self.scale) / 2 <= raw * self.scale + self.offset <= high + abs(self.scale) / 2

    def _is_plain(self) -> bool:
        return self.scale == 1 and self.offset == 0

    def _physical_range(self) -> tuple[float, float]:
        ends = [raw if self._is_plain() else raw * self.scale + self.offset for raw in self.raw_range()]
        low, high = min(ends), max(ends)
        return (low if self.min is None else max(low, self.min)), (high if self.max is None else min(high, self.max))


class NumberCoding(Scaled):
    """An integer, unsigned (``uint``) or two's complement (``int``); physical = raw * scale + offset."""

    type: Literal["uint", "int"]
    length: int = Field(ge=1, le=8, description="bytes")
    byte_order: Literal["big", "little"] = "big"
    value: int | float | str = 0

    @field_validator("value")
    @classmethod
    def _value_fits(cls, value: int | float | str, info: ValidationInfo) -> int | float | str:
        return _fits(cls, value, info)

    def raw_range(self) -> tuple[int, int]:
        """The smallest and the greatest raw value."""
        bits = 8 * self.length
        return (-(1 << bits - 1), (1 << bits - 1) - 1) if self.type == "int" else (0, (1 << bits) - 1)

    def encode(self, value: object) -> bytes:
        """From a number or the name of a choice. Raises ValueError when it is unknown or out of range."""
        return self.to_raw(value).to_bytes(self.length, self.byte_order, signed=self.type == "int")

    def accepts(self, data: bytes) -> bool:
        """Whether these bytes may be written: their physical value lies within ``min`` and ``max``."""
        return self.accepts_raw(self._raw(data))

    def decode(self, data: bytes) -> int | float | str:
        """The name of the choice, or else the physical value (an int where scale and offset are)."""
        return self.from_raw(self._raw(data))

    def _raw(self, data: bytes) -> int:
        return int.from_bytes(data, self.byte_order, signed=self.type == "int")


class FloatCoding(_Coding):
    """A floating-point number of IEEE 754, of 4 or 8 bytes."""

    type: Literal["float"]
    length: Literal[4, 8] = Field(default=4, description="bytes")
    byte_order: Literal["big", "little"] = "big"
    unit: str = ""
    value: float = 0.0

    @field_validator("value")
    @classmethod
    def _value_fits(cls, value: float, info: ValidationInfo) -> float:
        return _fits(cls, value, info)

    def encode(self, value: object) -> bytes:
        """Raises ValueError for what is no number, or too great for 4 bytes."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"expected a number, not {value!r}")
        try:
            return struct.pack(self._format(), value)
        except OverflowError:
            raise ValueError(f"{value:g} is out of range of a float of {self.length} bytes") from None

    def accepts(self, data: bytes) -> bool:
        """Whether these bytes may be written: any but what stands for no number."""
        return not math.isnan(self.decode(data))

    def decode(self, data: bytes) -> float:
        """The number; of a short float the digits that 4 bytes carry."""
        (value,) = struct.unpack(self._format(), data)
        return float(value) if self.length == 8 or not math.isfinite(value) else float(f"{value:.7g}")

    def _format(self) -> str:
        return (">" if self.byte_order == "big" else "<") + ("f" if self.length == 4 else "d")


def _fits(model: type[Any], value: _Value, info: ValidationInfo) -> _Value:
    """Encodes the initial value once, so that a wrong one is found when the file is read."""
    # Fields that are wrong themselves are missing here; they are reported on their own.
    if all(name in info.data for name in model.model_fields if name in _NEEDED):
        model.model_construct(**info.data).encode(value)
    return value
