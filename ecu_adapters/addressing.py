"""How an ECU is addressed on its bus: the section ``addressing`` of its description."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import InitErrorDetails

from ecu_adapters.bus import EXTENDED_FLAG
from ecu_adapters.yaml_file import field_error, model_error

AddressingMode = Literal["normal", "normal_fixed", "extended", "mixed"]

_FIXED_IDS = {"normal_fixed": (0x18DA_0000, 0x18DB_0000), "mixed": (0x18CE_0000, 0x18CD_0000)}
"""Bits 28-16 of 29-bit IDs made from addresses, physical and functional (ISO 15765-2, 10.3.3 and 10.3.5)."""
_FUNCTIONAL_TARGET = 0x33
"""Legislated on-board diagnostics (ISO 15765-4)."""


class Addressing(BaseModel):
    """Who is who on the bus, in one of the modes of ISO 15765-2.

    Normal and extended mode, and mixed mode of 11 bits, name the arbitration IDs (29 bits with ``extended``); normal
    fixed and mixed mode of 29 bits make them of the addresses. After validation the IDs are there in every mode.
    """

    model_config = ConfigDict(extra="forbid")

    mode: AddressingMode = "normal"
    request_id: int = Field(default=-1, ge=0, description="tester to ECU")
    response_id: int = Field(default=-1, ge=0, description="ECU to tester")
    functional_id: int | None = Field(default=None, ge=0, description="tester to all ECUs")
    extended: bool = False
    source: int | None = Field(default=None, ge=0, le=0xFF, description="the tester's address")
    target: int | None = Field(default=None, ge=0, le=0xFF, description="the ECU's address")
    functional_target: int | None = Field(default=None, ge=0, le=0xFF, description="the address of all ECUs")
    address_extension: int | None = Field(default=None, ge=0, le=0xFF, description="mixed mode: N_AE")

    @model_validator(mode="after")
    def _complete(self) -> Self:
        """Checks the fields of the mode, and makes the IDs of the modes that compute them."""
        errors = self._field_errors()
        if not errors and self._made_of_addresses:
            self._make_ids()
        errors = errors or self._id_errors()
        if errors:
            raise model_error("addressing", errors)
        return self

    @classmethod
    def none(cls) -> Self:
        """Of an ECU that no CAN bus leads to."""
        return cls.model_construct()

    @property
    def request_can_id(self) -> int:
        """The request ID as in SocketCAN: bit 31 set for 29-bit IDs."""
        return self.request_id | (EXTENDED_FLAG if self.extended else 0)

    @property
    def response_can_id(self) -> int:
        """The response ID as in SocketCAN: bit 31 set for 29-bit IDs."""
        return self.response_id | (EXTENDED_FLAG if self.extended else 0)

    @property
    def functional_can_id(self) -> int | None:
        """The functional ID as in SocketCAN; None without one."""
        return None if self.functional_id is None else self.functional_id | (EXTENDED_FLAG if self.extended else 0)

    @property
    def request_prefix(self) -> bytes:
        """The byte in front of the tester's frames: the ECU's address (extended mode) or N_AE (mixed mode)."""
        return self._prefix(self.target)

    @property
    def response_prefix(self) -> bytes:
        """The byte in front of the ECU's frames: the tester's address (extended mode) or N_AE (mixed mode)."""
        return self._prefix(self.source)

    @property
    def functional_prefix(self) -> bytes:
        """The byte in front of requests to all ECUs."""
        return self._prefix(self.functional_target)

    def _prefix(self, address: int | None) -> bytes:
        if self.mode == "extended" and address is not None:
            return bytes((address,))
        return bytes((self.address_extension,)) if self.address_extension is not None else b""

    @property
    def _made_of_addresses(self) -> bool:
        return self.mode == "normal_fixed" or (self.mode == "mixed" and self.source is not None)

    def _field_errors(self) -> list[InitErrorDetails]:
        addresses = {"source", "target", "functional_target"}
        ids = {"request_id", "response_id"}
        required, refused = {
            "normal": (ids, addresses | {"address_extension"}),
            "normal_fixed": ({"source", "target"}, ids | {"functional_id", "extended", "address_extension"}),
            "extended": (ids | {"source", "target"}, {"address_extension"}),
            "mixed": ({"address_extension"}, set[str]()),
        }[self.mode]
        given = {name for name in self.model_fields_set if getattr(self, name) is not None}
        if self.mode == "mixed":
            fixed = bool(given & addresses)
            required = required | ({"source", "target"} if fixed else ids)
            refused = ids | {"functional_id", "extended"} if fixed else set()
        errors = [field_error((name,), "is missing") for name in sorted(required - given)]
        errors += [field_error((name,), f"has no meaning in mode {self.mode}") for name in sorted(refused & given)]
        if self.mode == "extended" and (self.functional_id is None) != (self.functional_target is None):
            absent = "functional_id" if self.functional_id is None else "functional_target"
            errors.append(field_error((absent,), "is missing: requests to all ECUs need functional_id and _target"))
        return errors

    def _make_ids(self) -> None:
        physical, functional = _FIXED_IDS[self.mode]
        source, target = self.source or 0, self.target or 0
        to_all = _FUNCTIONAL_TARGET if self.functional_target is None else self.functional_target
        self.request_id = physical | target << 8 | source
        self.response_id = physical | source << 8 | target
        self.functional_id = functional | to_all << 8 | source
        self.extended = True

    def _id_errors(self) -> list[InitErrorDetails]:
        if self._made_of_addresses:
            if self.source == self.target:
                return [field_error(("target",), f"0x{self.target:02X} is the source too")]
            return []
        limit = 0x1FFF_FFFF if self.extended else 0x7FF
        hint = "" if self.extended else "; set extended: true for 29-bit IDs"
        errors: list[InitErrorDetails] = []
        seen: dict[tuple[int, bytes], str] = {}
        prefixes = {
            "request_id": self.request_prefix,
            "response_id": self.response_prefix,
            "functional_id": self.functional_prefix,
        }
        for name, prefix in prefixes.items():
            value = getattr(self, name)
            if value is None:
                continue
            # In extended mode the address byte tells apart who shares an ID.
            address = (value, prefix if self.mode == "extended" else b"")
            if value > limit:
                errors.append(field_error((name,), f"0x{value:X} is above 0x{limit:X}{hint}"))
            elif address in seen:
                errors.append(field_error((name,), f"0x{value:X} is the {seen[address]} too"))
            seen.setdefault(address, name)
        return errors
