"""The memory of an ECU as its description gives it: regions, and how requests write addresses and sizes."""

from itertools import pairwise
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from ecu_adapters.dids import Access
from ecu_adapters.security_levels import HexBytes
from ecu_adapters.yaml_file import field_error, model_error

MAX_BYTES = 64 << 20
"""Of all regions of one ECU together: the simulated one holds them in memory."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Region(_Part):
    """One region of the address space."""

    address: int = Field(ge=0, le=0xFF_FFFF_FFFF)
    size: int = Field(ge=1, le=MAX_BYTES, description="bytes")
    kind: Literal["flash", "eeprom", "ram"] = Field(
        default="flash", description="flash must be erased before it is written; RAM is lost by a reset"
    )
    erased: int = Field(default=0xFF, ge=0, le=0xFF, description="value of every byte after erasing")
    fill: int | None = Field(default=None, ge=0, le=0xFF, description="value of every byte at first; null: as erased")
    content: HexBytes = Field(default=b"", description="the first bytes, at first")
    read: Access | Literal[False] = Field(default=Access(), description="by 0x23 and 0x35")
    write: Access | Literal[False] = Field(default=Access(), description="by 0x34, 0x3D and routines that erase")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.address + self.size > 1 << 40:
            raise model_error("region", [field_error(("size",), "the region ends beyond 40 bits of address")])
        if len(self.content) > self.size:
            message = f"has {len(self.content)} bytes; the region has {self.size}"
            raise model_error("region", [field_error(("content",), message)])
        return self

    @property
    def end(self) -> int:
        """The first address after the region."""
        return self.address + self.size


class MemoryMap(_Part):
    """All regions, and how they are transferred."""

    regions: dict[str, Region] = Field(default={})
    address_bytes: int = Field(default=4, ge=1, le=5, description="of an address in requests that the tester builds")
    size_bytes: int = Field(default=4, ge=1, le=4, description="of a size in requests that the tester builds")
    formats: list[int] | None = Field(
        default=None, description="addressAndLengthFormatIdentifiers that the ECU takes (0x44: both 4 bytes); null: all"
    )
    max_block: int = Field(
        default=0x402,
        ge=3,
        le=0xFFFF_FFFF,
        description="bytes of a TransferData request, with its two header bytes",
    )
    exit_crc: bool = Field(
        default=False, description="RequestTransferExit carries the CRC-32 of what was transferred, which must match"
    )
    programming_v: tuple[float, float] | None = Field(
        default=None, description="least and greatest supply voltage in V at which flash is written (NRC 0x93, 0x92)"
    )

    @field_validator("formats")
    @classmethod
    def _formats_exist(cls, formats: list[int] | None) -> list[int] | None:
        for value in formats or ():
            if not (1 <= value & 0xF <= 5 and 1 <= value >> 4 <= 4):
                raise ValueError(f"0x{value:X} must be 0xSA: S bytes of size (1 .. 4), A bytes of address (1 .. 5)")
        return formats

    @model_validator(mode="after")
    def _regions_apart(self) -> Self:
        errors = []
        placed = sorted(self.regions.items(), key=lambda item: item[1].address)
        for (name, region), (other, following) in pairwise(placed):
            if region.end > following.address:
                message = f"0x{following.address:X} lies within region {name} (up to 0x{region.end - 1:X})"
                errors.append(field_error(("regions", other, "address"), message))
        total = sum(region.size for region in self.regions.values())
        if total > MAX_BYTES:
            errors.append(field_error(("regions",), f"{total} bytes in all; at most {MAX_BYTES} can be simulated"))
        if self.formats is not None and self.format not in self.formats:
            message = f"must have 0x{self.format:02X}, which address_bytes and size_bytes make"
            errors.append(field_error(("formats",), message))
        if self.programming_v is not None and self.programming_v[0] >= self.programming_v[1]:
            errors.append(field_error(("programming_v",), "the first voltage must be below the second"))
        if errors:
            raise model_error("memory", errors)
        return self

    @property
    def format(self) -> int:
        """The addressAndLengthFormatIdentifier of requests that the tester builds."""
        return self.size_bytes << 4 | self.address_bytes

    def encode(self, address: int, size: int) -> bytes:
        """Format identifier, address and size, as requests carry them. Raises ValueError when one does not fit."""
        try:
            place = address.to_bytes(self.address_bytes, "big") + size.to_bytes(self.size_bytes, "big")
        except OverflowError:
            raise ValueError(
                f"address 0x{address:X} or size {size} does not fit {self.address_bytes} and {self.size_bytes} bytes"
            ) from None
        return bytes((self.format,)) + place
