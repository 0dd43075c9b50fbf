"""When a controller that went bus-off is restarted: the policy, and the decisions that follow from it."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

STEADY_S = 10.0
"""A controller that stays on the bus for so long (s) after a restart has recovered: attempts count from 0 again."""


class BusOffPolicy(BaseModel):
    """What the agent does about bus-off."""

    model_config = ConfigDict(extra="forbid")

    recover: Literal["auto", "manual", "never"] = Field(
        default="auto", description="manual: when a lease holder asks, and at the end of a lease; never: not at all"
    )
    after_ms: int = Field(default=1000, ge=10, le=600_000, description="ms from bus-off, or a failed attempt, on")
    max_attempts: int = Field(default=10, ge=1, le=1_000_000, description="in a row, without 10 s on the bus between")


class Restarts:
    """Counts attempts and says when the next is due. The time is handed in: seconds on any clock that only grows."""

    def __init__(self, policy: BusOffPolicy) -> None:
        self._policy = policy
        self._back_at: float | None = None
        self.attempts = 0
        """In a row."""

    def bus_off(self, now: float) -> None:
        """The controller has gone bus-off."""
        if self._back_at is not None and now - self._back_at >= STEADY_S:
            self.attempts = 0
        self._back_at = None

    def back(self, now: float) -> None:
        """The controller is on the bus again."""
        self._back_at = now

    def due_s(self) -> float | None:
        """How long to wait before the next attempt by itself; None: there is none."""
        if self._policy.recover != "auto" or self.attempts >= self._policy.max_attempts:
            return None
        return self._policy.after_ms / 1000

    def tried(self) -> int:
        """An attempt is made; its number."""
        self.attempts += 1
        return self.attempts

    def why_not(self) -> str:
        """Why no attempt is due."""
        match self._policy.recover:
            case "never":
                return "its configuration says bus_off.recover: never"
            case "manual":
                return "it waits for somebody to ask for its recovery (bus_off.recover: manual)"
        return f"{self.attempts} attempts to restart it did not last (bus_off.max_attempts)"
