"""Levels of SecurityAccess, as an ECU's description gives them."""

from typing import Annotated, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from ecu_adapters.uds import security
from ecu_adapters.yaml_file import field_error, model_error


def _hex_bytes(value: object) -> object:
    # The text is a secret: no error may show it.
    if isinstance(value, str):
        try:
            return bytes.fromhex(value)
        except ValueError:
            raise PydanticCustomError("config", "expected hex digits in pairs") from None
    if not isinstance(value, bytes):
        raise PydanticCustomError("config", "expected hex digits in quotes")
    return value


HexBytes = Annotated[bytes, BeforeValidator(_hex_bytes)]
"""Bytes, written as hex text."""


class Security(BaseModel):
    """One level of SecurityAccess."""

    model_config = ConfigDict(extra="forbid")

    algorithm: str
    key: HexBytes = Field(description="the secret of the algorithm", repr=False)
    seed_length: int = Field(default=4, ge=1, le=64, description="bytes")
    attempts: int = Field(default=3, ge=1, le=255, description="wrong keys until the lock-out")
    delay_s: float = Field(default=10, ge=0, le=86_400, description="how long the lock-out lasts")

    @model_validator(mode="after")
    def _algorithm_works(self) -> Self:
        try:
            security.algorithm(self.algorithm)
        except ValueError as error:
            raise model_error("security", [field_error(("algorithm",), str(error))]) from error
        try:
            self.key_for(bytes(self.seed_length))
        except ValueError as error:
            raise model_error("security", [field_error(("key",), str(error))]) from error
        return self

    def key_for(self, seed: bytes) -> bytes:
        """The key that unlocks this level after ``seed``."""
        return security.algorithm(self.algorithm)(self.key, seed)
