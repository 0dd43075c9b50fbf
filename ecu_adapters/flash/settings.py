"""How an ECU is flashed: the section ``flash`` of its description. Where it can be, ``memory`` says."""

from pydantic import BaseModel, ConfigDict, Field

from ecu_adapters.security_levels import HexBytes


class FlashSettings(BaseModel):
    """The steps before, between and after the transfers. Routines are named as under ``routines``.

    A routine's options are filled by their names: ``address`` and ``size`` of what is written, and ``crc`` with its
    checksum, by the algorithm that the routine names. One without ``address`` is started once for the whole image, one
    with it for each part.
    """

    model_config = ConfigDict(extra="forbid")

    before: list[HexBytes] = Field(
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
        default=False, description="whether the ECU lets a broken transfer go on with a new RequestDownload in between"
    )
    after: list[HexBytes] = Field(default=[], description='requests at the end: "11 01" (reset), "28 00 01", "85 01"')
    step_timeout_s: float = Field(
        default=60, gt=0, le=3600, description="how long one request may take, all waiting for 0x78 included"
    )
