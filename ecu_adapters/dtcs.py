"""Trouble codes of an ECU: what they mean, and what the ECU keeps with them."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from ecu_adapters.uds import dtc as dtc_code

Severity = Literal["none", "maintenance_only", "check_at_next_halt", "check_immediately"]


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
