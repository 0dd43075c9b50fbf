"""What only the simulated ECU takes from a description: the messages that it sends, its speed, its faults."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from ecu_adapters.security_levels import HexBytes
from ecu_adapters.yaml_file import field_error, model_error


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Follow(_Part):
    """A signal that follows one of another message, as far as ``rate_per_s`` lets it."""

    message: str
    signal: str
    rate_per_s: float | None = Field(default=None, gt=0, description="greatest change per second; null: at once")


class CyclicMessage(_Part):
    """A message of the DBC that the simulated ECU sends by itself."""

    message: str
    period_ms: float | None = Field(default=None, ge=1, le=3_600_000, description="null: GenMsgCycleTime of the DBC")
    signals: dict[str, int | float | str] = {}
    follow: dict[str, Follow] = {}


ANSWER_FAULTS = frozenset({"nrc", "pending", "no_answer", "garbage", "other_service", "slow", "truncated"})
"""What is wrong with an answer as a whole."""
FRAME_FAULTS = frozenset({"drop_frame", "delay_frame", "wrong_sequence", "lose_frame"})
"""What is wrong with a frame of a segmented PDU."""


class Fault(_Part):
    """Something that the simulated ECU does wrong on purpose."""

    kind: Literal[
        "nrc", "pending", "no_answer", "garbage", "other_service", "slow", "truncated",
        "drop_frame", "delay_frame", "wrong_sequence", "lose_frame",
        "fc_wait", "fc_overflow", "fc_none", "fc_pace",
    ]  # fmt: skip
    service: int | None = Field(default=None, ge=0, le=0xFF, description="only answers to this service; null: all")
    times: int | None = Field(default=None, ge=1, le=1_000_000, description="how often; null: until cleared")
    nrc: int = Field(default=0x22, ge=1, le=0xFF, description="of kind nrc")
    count: int | None = Field(
        default=None, ge=1, le=10_000, description="0x78 before the answer, or flow controls 'wait'; null: for ever"
    )
    delay_ms: float = Field(
        default=1000,
        ge=0,
        le=3_600_000,
        description="of the kinds slow and delay_frame; pending: between two 0x78, 10 ms or more, as far as P2* allows",
    )
    frame: int = Field(
        default=1, ge=0, le=100_000, description="which consecutive frame; 0: the first frame, or a single one"
    )
    data: HexBytes = Field(
        default_factory=lambda: bytes.fromhex("DEADBEEF"),
        description="of kind garbage: what is answered",
        json_schema_extra={"default": "DEADBEEF"},
    )
    length: int = Field(default=1, ge=1, le=4095, description="of kind truncated: bytes that are left of the answer")
    block_size: int = Field(default=0, ge=0, le=0xFF, description="of kind fc_pace")
    stmin: int = Field(default=0, ge=0, le=0xFF, description="of kind fc_pace, as flow control carries it")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.service is not None and self.kind not in ANSWER_FAULTS:
            message = f"is for {', '.join(sorted(ANSWER_FAULTS))}; frames do not know their service"
            raise model_error("fault", [field_error(("service",), message)])
        if self.kind.startswith("fc_") and self.times is not None:
            raise model_error("fault", [field_error(("times",), "flow control stays as it is until cleared")])
        return self


class Draw(_Part):
    """What the ECU draws, in A, by its state."""

    boot_a: float = Field(default=0.6, ge=0, le=1000, description="while booting")
    run_a: float = Field(default=0.35, ge=0, le=1000, description="running, ignition on")
    sleep_a: float = Field(default=0.002, ge=0, le=1000, description="battery only, ignition off")
    ignition_a: float = Field(default=0.01, ge=0, le=1000, description="from the ignition terminal")


class Power(_Part):
    """The power input. Voltages come from the agent's simulated power channels, or from a test."""

    kl30: str | None = Field(
        default=None, description="power channel of the bench that is the battery; null: always on"
    )
    kl15: str | None = Field(default=None, description="power channel of the bench that is the ignition")
    draw: Draw = Draw()
    measured: list[str] = Field(default=[], description="data identifiers that carry the battery's voltage in V")
    brown_out_v: float = Field(default=6.5, ge=0, le=60, description="below it the ECU is off; coming back, it boots")
    on_v: float = Field(default=7.5, ge=0, le=60, description="from it on the ECU starts; at least brown_out_v")
    ignition_v: float = Field(default=6.0, ge=0, le=60, description="from it on the ignition is on")
    boot_ms: float = Field(default=200, ge=0, le=60_000, description="silence after power comes")

    @model_validator(mode="after")
    def _hysteresis(self) -> Self:
        if self.on_v < self.brown_out_v:
            message = f"{self.on_v:g} V is below brown_out_v = {self.brown_out_v:g} V"
            raise model_error("power", [field_error(("on_v",), message)])
        return self


class BootLine(_Part):
    """A line that the ECU prints while it boots."""

    text: str = Field(max_length=1000)
    after_ms: float = Field(default=0, ge=0, le=60_000, description="since the line before it, or since power came")


class SerialConsole(_Part):
    """A serial console with a boot log and a small shell: a pty that the agent's consoles can open."""

    boot: list[BootLine] = Field(default=[], max_length=1000)
    prompt: str = Field(default="> ", max_length=100)
    version: str = Field(default="", max_length=1000, description="what the command version prints")
    echo: bool = True


class Behaviour(_Part):
    """How the simulated ECU behaves beyond what the standard says."""

    response_delay_ms: float = Field(default=0, ge=0, le=60_000, description="time to work on any request")
    service_delay_ms: dict[int, float] = Field(
        default={}, description="the same for one service (0x14: 300); longer than P2 makes it answer 0x78 first"
    )
    reset_ms: float = Field(default=100, ge=0, le=60_000, description="silence while booting after ECUReset")
    nvm: Literal["lease", "keep"] = Field(
        default="lease",
        description="lease: every lease finds the ECU as described; keep: written data, DTCs, flash and lock-outs "
        "outlive leases and the agent",
    )
    clock: Literal["real", "virtual"] = Field(default="real", description="virtual: time passes when a test says so")
    faults: list[Fault] = Field(default=[], max_length=100, description="in force from the start")
    power: Power = Power()
    console: SerialConsole | None = Field(default=None, description="null: the ECU has no serial console")

    @field_validator("service_delay_ms")
    @classmethod
    def _delays_bounded(cls, value: dict[int, float]) -> dict[int, float]:
        for service, delay in value.items():
            if not 0 <= service <= 0xFF or not 0 <= delay <= 3_600_000:
                raise ValueError(f"0x{service:02X}: {delay:g} must be a service (0 .. 0xFF) and 0 .. 3600000 ms")
        return value
