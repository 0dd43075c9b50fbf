"""Routines of an ECU: what RoutineControl starts, stops and asks the results of, with which parameters.

What the simulated ECU does is said by ``action``. It finds its parameters by their names: ``address``, ``size`` and
``crc`` among the options of the start; and it puts what it found into ``crc`` and ``result`` (0: they match, 1: not)
of a status record. Everything else in a status record has the value that the description gives.
"""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ecu_adapters.dids import Access
from ecu_adapters.records import Fields, NumberField
from ecu_adapters.yaml_file import field_error, model_error


class Step(BaseModel):
    """One sub-function of RoutineControl on a routine."""

    model_config = ConfigDict(extra="forbid")

    options: Fields = Field(default=[], description="what the request carries after the identifier")
    status: Fields = Field(default=[], description="what the response carries after the identifier")


class Routine(BaseModel):
    """One routine. A sub-function that is not described is one that the routine does not have."""

    model_config = ConfigDict(extra="forbid")

    id: int = Field(ge=0, le=0xFFFF)
    access: Access = Access()
    start: Step | None = Step()
    stop: Step | None = None
    results: Step | None = None
    action: Literal["none", "erase", "check", "checksum"] = Field(
        default="none", description="erase memory; check: compare its CRC with the option; checksum: answer its CRC"
    )
    region: str | None = Field(
        default=None, description="region of the memory that the action is for; null: the option, or the last download"
    )
    crc: Literal["crc32", "crc16"] = Field(default="crc32", description="IEEE 802.3; crc16: CRC-16/CCITT-FALSE")
    duration_ms: float = Field(default=0, ge=0, le=3_600_000, description="how long the simulated ECU takes")
    background: bool = Field(
        default=False, description="the start is answered at once; results are there when duration_ms have passed"
    )

    @model_validator(mode="after")
    def _does_something(self) -> Self:
        if self.start is self.stop is self.results is None:
            raise model_error("routine", [field_error(("start",), "the routine has no sub-function at all")])
        errors = []
        if self.background and self.results is None:
            errors.append(field_error(("background",), "needs results, or nobody learns how it ended"))
        if self.action != "none":
            options = _numbers(self.start.options if self.start is not None else [])
            if ("address" in options) is not ("size" in options):
                errors.append(field_error(("start",), "address and size go together, both of type uint"))
            if "address" in options and self.region is not None:
                errors.append(field_error(("region",), "goes without address and size among the options"))
            if self.action == "check" and options.get("crc") != self.crc_bytes:
                message = f"check takes an option crc of type uint and {self.crc_bytes} bytes"
                errors.append(field_error(("start",), message))
        elif self.region is not None:
            errors.append(field_error(("region",), "is for the actions erase, check and checksum"))
        if errors:
            raise model_error("routine", errors)
        return self

    @property
    def crc_bytes(self) -> int:
        """Length of its CRC."""
        return 4 if self.crc == "crc32" else 2


def _numbers(fields: Fields) -> dict[str, int]:
    """The lengths of the integers among the fields, by name."""
    return {part.name: part.length for part in fields if isinstance(part, NumberField)}
