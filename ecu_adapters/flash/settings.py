"""How an ECU is flashed: the section ``flash`` of its description. Where it can be, ``memory`` says."""

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ecu_adapters.security_levels import HexBytes
from ecu_adapters.yaml_file import field_error, model_error

_Request = Annotated[HexBytes, Field(min_length=1)]
_ANEW = (0x10, 0x11)
"""DiagnosticSessionControl and ECUReset."""


class FlashSettings(BaseModel):
    """The steps before, between and after the transfers. Routines are named as under ``routines``.

    A routine's options are filled by their names: ``address`` and ``size`` of what is written, and ``crc`` with its
    checksum, by the algorithm that the routine names. One without ``address`` is started once for the whole image, one
    with it for each part.
    """

    model_config = ConfigDict(extra="forbid")

    before: list[_Request] = Field(
        default=[], description='requests before anything else: "10 03", "85 02" (no DTCs), "28 03 01" (quiet bus)'
    )
    session: str | None = Field(default="programming", description="the session for the transfers; null: as it is")
    security: int | None = Field(default=None, description="the level to unlock in that session")
    erase: str | None = Field(default=None, description="routine that erases, before each transfer")
    check: str | None = Field(default=None, description="routine that checks what was written, after each transfer")
    data_format: int = Field(default=0x00, ge=0, le=0xFF, description="dataFormatIdentifier; 0: plain")
    max_block: int = Field(
        default=0xFFFF_FFFF, ge=3, le=0xFFFF_FFFF, description="bound on the ECU's own block length, in bytes"
    )
    retries: int = Field(default=0, ge=0, le=100, description="how often a block whose answer was lost is sent again")
    resume: bool = Field(
        default=False,
        description="whether the ECU lets a broken transfer go on with a new RequestDownload, after a new session",
    )
    after: list[_Request] = Field(default=[], description='requests at the end: "11 01" (reset), "28 00 01", "85 01"')
    step_timeout_s: float = Field(
        default=60, gt=0, le=3600, description="how long one request may take, all waiting for 0x78 included"
    )

    @model_validator(mode="after")
    def _resume_begins_anew(self) -> Self:
        """An ECU refuses RequestDownload while a transfer is in work (ISO 14229-1, 14.2.4: NRC 0x22)."""
        if self.resume and self.session is None and not any(request[0] in _ANEW for request in self.before):
            message = "needs session, or 0x10 or 0x11 in before: only that ends the transfer that has broken off"
            raise model_error("flash", [field_error(("resume",), message)])
        return self
