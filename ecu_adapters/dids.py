"""Data identifiers of an ECU: what the bytes of ReadDataByIdentifier mean, and who may read or write them."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from ecu_adapters import records
from ecu_adapters.coding import AsciiCoding, FloatCoding, HexCoding, NumberCoding, Scalar
from ecu_adapters.records import Fields

DidValue = Scalar | Mapping[str, Scalar]
"""What a data identifier can hold: one value, or one for each field of a structure."""


class Access(BaseModel):
    """When something may be read, written or started."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    session: list[str] | None = Field(default=None, description="names of sessions; every session without it")
    security: int | None = Field(default=None, description="level that must be unlocked")
    authentication: bool = Field(default=False, description="whether Authentication (0x29) must have succeeded")


class _Did(BaseModel):
    """What all kinds of data identifiers have in common."""

    model_config = ConfigDict(extra="forbid")

    did: int = Field(ge=0, le=0xFFFF)
    read: Access | Literal[False] = Access()
    write: Access | Literal[False] = False
    control: Access | Literal[False] = Field(default=False, description="by InputOutputControlByIdentifier")


class AsciiDid(AsciiCoding, _Did):
    """Text of fixed length. Shorter values are filled up with ``pad``, which reading strips again."""


class HexDid(HexCoding, _Did):
    """Raw bytes of fixed length."""


class NumberDid(NumberCoding, _Did):
    """An integer, unsigned (``uint``) or two's complement (``int``); physical = raw * scale + offset."""


class FloatDid(FloatCoding, _Did):
    """A floating-point number of IEEE 754, of 4 or 8 bytes."""


class StructDid(_Did):
    """Several fields under one identifier; its value is a table by their names."""

    type: Literal["struct"]
    fields: Fields = Field(min_length=1)

    @property
    def length(self) -> int:
        """Bytes."""
        return records.length(self.fields)

    @property
    def unit(self) -> str:
        """Each field has its own; see `records.units`."""
        return ""

    @property
    def value(self) -> dict[str, Scalar]:
        """The initial values."""
        return records.initial(self.fields)

    def encode(self, value: object) -> bytes:
        """From a table by field name. Raises ValueError, naming the field."""
        if not isinstance(value, Mapping):
            raise ValueError(f"expected a table with the fields {', '.join(self.value)}, not {value!r}")
        return records.encode(self.fields, value)

    def accepts(self, data: bytes) -> bool:
        """Whether these bytes may be written: each field has a value that it may have."""
        return records.accepts(self.fields, data)

    def decode(self, data: bytes) -> dict[str, Scalar]:
        """The values by field name."""
        return records.decode(self.fields, data)


Did = Annotated[AsciiDid | HexDid | NumberDid | FloatDid | StructDid, Field(discriminator="type")]
"""Any data identifier; ``type`` says which."""
