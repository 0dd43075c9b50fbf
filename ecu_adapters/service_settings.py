"""Settings of single diagnostic services: periodic reading, authentication, files, link control."""

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from ecu_adapters.security_levels import HexBytes
from ecu_adapters.uds import security
from ecu_adapters.yaml_file import field_error, model_error

MAX_FILE_BYTES = 16 << 20


_NO_LEVEL = 0
"""What an algorithm is given where there is no security level."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Periodic(_Part):
    """ReadDataByPeriodicIdentifier (0x2A)."""

    slow_ms: float = Field(default=1000, ge=1, le=3_600_000, description="period of transmission mode 01")
    medium_ms: float = Field(default=300, ge=1, le=3_600_000, description="period of transmission mode 02")
    fast_ms: float = Field(default=50, ge=1, le=3_600_000, description="period of transmission mode 03")
    most: int = Field(default=16, ge=1, le=255, description="identifiers that can be scheduled at once")
    response_id: int | None = Field(
        default=None,
        ge=0,
        le=0x1FFF_FFFF,
        description="arbitration ID of the data, in frames without ISO-TP (up to 7 bytes); null: as responses",
    )


class Authentication(_Part):
    """Authentication (0x29) by challenge and response with a symmetric key (ACR)."""

    algorithm: str = Field(description="of the proof, as under security")
    key: HexBytes = Field(description="the secret of the algorithm", repr=False)
    indicator: HexBytes = Field(default=bytes(16), description="algorithmIndicator: 16 bytes")
    challenge_length: int = Field(default=16, ge=8, le=64, description="bytes")

    @field_validator("indicator")
    @classmethod
    def _sixteen(cls, value: bytes) -> bytes:
        if len(value) != 16:
            raise ValueError(f"must have 16 bytes, not {len(value)}")
        return value

    @model_validator(mode="after")
    def _algorithm_works(self) -> Self:
        try:
            security.algorithm(self.algorithm)
        except ValueError as error:
            raise model_error("authentication", [field_error(("algorithm",), str(error))]) from error
        try:
            self.proof_for(bytes(self.challenge_length))
        except ValueError as error:
            raise model_error("authentication", [field_error(("key",), str(error))]) from error
        return self

    def proof_for(self, challenge: bytes) -> bytes:
        """The proof of ownership that answers a challenge."""
        return security.algorithm(self.algorithm)(self.key, challenge, _NO_LEVEL)


class Files(_Part):
    """The files that RequestFileTransfer (0x38) reads and writes."""

    content: dict[str, HexBytes] = Field(default={}, description="by path: the bytes, as hex text")
    max_total: int = Field(default=1 << 20, ge=0, le=MAX_FILE_BYTES, description="bytes of all files together")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        errors = [
            field_error(("content", path), "a path has 1 .. 255 ASCII characters")
            for path in self.content
            if not (path.isascii() and 1 <= len(path) <= 255)
        ]
        total = sum(map(len, self.content.values()))
        if total > self.max_total:
            errors.append(field_error(("content",), f"{total} bytes in all are more than max_total = {self.max_total}"))
        if errors:
            raise model_error("files", errors)
        return self
