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

    algorithm: str | None = Field(default=None, description="xor, aes-cmac, or one under labd.security_algorithms")
    key: HexBytes | None = Field(default=None, description="the secret of the algorithm", repr=False)
    command: list[str] | None = Field(
        default=None,
        min_length=1,
        description="what the tester runs for the key: seed in hex on its standard input, key in hex on its standard "
        "output, {level} in its arguments; without an algorithm, the ECU cannot be simulated",
    )
    command_timeout_s: float = Field(default=5, gt=0, le=600, description="how long the command may take")
    seed_length: int = Field(default=4, ge=1, le=64, description="bytes")
    attempts: int = Field(default=3, ge=1, le=255, description="wrong keys until the lock-out")
    delay_s: float = Field(default=10, ge=0, le=86_400, description="how long the lock-out lasts")

    @model_validator(mode="after")
    def _can_be_computed(self) -> Self:
        errors = []
        if self.algorithm is None and self.command is None:
            errors.append(field_error(("algorithm",), "is missing: an algorithm with its key, or a command"))
        if (self.algorithm is None) != (self.key is None):
            absent = "key" if self.key is None else "algorithm"
            errors.append(field_error((absent,), "is missing: algorithm and key go together"))
        if self.algorithm is not None and self.key is not None:
            try:
                function = security.algorithm(self.algorithm)
            except ValueError as error:
                raise model_error("security", [*errors, field_error(("algorithm",), str(error))]) from error
            if self.algorithm in security.ALGORITHMS:
                try:
                    function(self.key, bytes(self.seed_length), 1)
                except ValueError as error:
                    errors.append(field_error(("key",), str(error)))
        if errors:
            raise model_error("security", errors)
        return self

    def key_for(self, seed: bytes, level: int) -> bytes:
        """The key that unlocks ``level`` after ``seed``, by the algorithm. Raises ValueError."""
        if self.algorithm is None or self.key is None:
            raise ValueError("there is a command only, no algorithm")
        return security.algorithm(self.algorithm)(self.key, seed, level)
