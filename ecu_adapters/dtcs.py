"""Trouble codes of an ECU: what they mean, and what the ECU keeps with them."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from ecu_adapters.uds import dtc as dtc_code
from ecu_adapters.yaml_file import field_error, model_error

Severity = Literal["none", "maintenance_only", "check_at_next_halt", "check_immediately"]


class Monitor(BaseModel):
    """What a simulated ECU watches: a message that must come, a signal of it that must keep its range."""

    model_config = ConfigDict(extra="forbid")

    message: str = Field(description="of the bus' database")
    timeout_ms: float = Field(default=1000, ge=1, le=3_600_000, description="longer without the message fails")
    signal: str | None = Field(default=None, description="null: only whether the message comes")
    min: float | None = Field(default=None, description="smallest good value")
    max: float | None = Field(default=None, description="greatest good value")

    @model_validator(mode="after")
    def _range_of_a_signal(self) -> Self:
        if self.signal is None and (self.min is not None or self.max is not None):
            raise model_error("monitor", [field_error(("signal",), "is missing: min and max are for a signal")])
        if self.signal is not None and self.min is None and self.max is None:
            raise model_error("monitor", [field_error(("signal",), "needs min, max, or both")])
        return self


class Dtc(BaseModel):
    """A trouble code in the ECU's memory."""

    model_config = ConfigDict(extra="forbid")

    code: str
    text: str = Field(default="", description="what it means, for people")
    status: int = Field(default=0x2F, ge=0, le=0xFF)
    severity: Severity = "none"
    functional_unit: int = Field(default=0, ge=0, le=0xFF, description="of the severity record")
    snapshot: list[str] = Field(
        default=[], max_length=255, description="data identifiers that the ECU keeps when the test fails"
    )
    confirm_after: int = Field(default=1, ge=1, le=255, description="operation cycles with a failure until confirmed")
    age_after: int = Field(default=40, ge=1, le=255, description="cycles without a failure until forgotten")
    warning: bool = Field(default=False, description="whether a confirmed one asks for the warning indicator")
    permanent: bool = Field(default=False, description="whether a confirmed one is permanent (clearing leaves it so)")
    monitor: Monitor | None = Field(default=None, description="what makes the simulated ECU's test fail by itself")

    @field_validator("code")
    @classmethod
    def _code_parses(cls, code: str) -> str:
        return dtc_code.text(dtc_code.parse(code))

    @property
    def number(self) -> int:
        """The three bytes on the wire as a number."""
        return dtc_code.parse(self.code)

    @property
    def severity_byte(self) -> int:
        """DTCSeverity as it is on the wire (ISO 14229-1, annex D.3)."""
        return dtc_code.SEVERITIES[self.severity]
