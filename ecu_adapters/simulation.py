"""What only the simulated ECU takes from a description: the messages that it sends, its speed, its faults."""

from pydantic import BaseModel, ConfigDict, Field, field_validator


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


class Behaviour(_Part):
    """How the simulated ECU behaves beyond what the standard says."""

    response_delay_ms: float = Field(default=0, ge=0, le=60_000, description="time to work on any request")
    service_delay_ms: dict[int, float] = Field(
        default={}, description="the same for one service (0x14: 300); longer than P2 makes it answer 0x78 first"
    )
    reset_ms: float = Field(default=100, ge=0, le=60_000, description="silence while booting after ECUReset")

    @field_validator("service_delay_ms")
    @classmethod
    def _delays_bounded(cls, value: dict[int, float]) -> dict[int, float]:
        for service, delay in value.items():
            if not 0 <= service <= 0xFF or not 0 <= delay <= 3_600_000:
                raise ValueError(f"0x{service:02X}: {delay:g} must be a service (0 .. 0xFF) and 0 .. 3600000 ms")
        return value
