"""Which bus to open, and how its interface is set up."""

from typing import Any, Self

import can
from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import InitErrorDetails

from ecu_adapters.bus_off import BusOffPolicy
from ecu_adapters.yaml_file import field_error, model_error

WITHOUT_CONTROLLER = frozenset({"virtual", "udp_multicast", "unix"})
"""Interfaces where nobody acknowledges frames: what is only listened to needs no set-up there."""
SILENT_OPTIONS: dict[str, dict[str, Any]] = {
    "kvaser": {"driver_mode": False},
    "pcan": {"state": can.BusState.PASSIVE},
    "slcan": {"listen_only": True},
}
"""python-can's arguments that keep a controller from acknowledging frames and from sending error flags."""
_SAMPLE_POINT = "where in the bit it is sampled, for example 0.8; null: as the driver finds best"


class CanConfig(BaseModel):
    """Which bus to open, in python-can's terms."""

    model_config = ConfigDict(extra="forbid")

    interface: str = Field(
        min_length=1, description="virtual, socketcan, udp_multicast, socketcand, vector, ...; unix: see below"
    )
    channel: str = Field(min_length=1)
    bitrate: int | None = Field(default=None, gt=0, le=8_000_000, description="bit/s; null: as the interface is set up")
    sample_point: float | None = Field(default=None, ge=0.5, lt=1, description=f"socketcan: {_SAMPLE_POINT}")
    fd: bool = False
    data_bitrate: int | None = Field(default=None, gt=0, le=16_000_000, description="bit/s of the FD data phase")
    data_sample_point: float | None = Field(default=None, ge=0.5, lt=1, description="the same in the FD data phase")
    listen_only: bool = Field(
        default=False, description="the controller acknowledges nothing, and nothing may be sent on the bus"
    )
    restart_ms: int | None = Field(
        default=None, gt=0, le=600_000, description="socketcan: the kernel itself restarts after bus-off, after so long"
    )
    bus_off: BusOffPolicy = BusOffPolicy()
    options: dict[str, Any] = Field(default={}, description="further arguments of python-can's bus class")

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        errors: list[InitErrorDetails] = []

        def wrong(field: str, message: str) -> None:
            errors.append(field_error((field,), message, getattr(self, field)))

        for field in ("data_bitrate", "data_sample_point"):
            if getattr(self, field) is not None and not self.fd:
                wrong(field, "is of CAN FD; set fd: true, or leave it out")
        for field, needed in (("sample_point", "bitrate"), ("data_sample_point", "data_bitrate")):
            if getattr(self, field) is None:
                continue
            if getattr(self, needed) is None:
                wrong(field, f"needs {needed}: the bit time is made of both")
            if self.interface != "socketcan":
                wrong(field, f"is set on socketcan only; with {self.interface}, give the driver's own under options")
        if self.data_bitrate is not None and self.bitrate is None:
            wrong("data_bitrate", "needs bitrate: the arbitration phase has one of its own")
        if self.restart_ms is not None:
            if self.interface != "socketcan":
                wrong("restart_ms", "is of the kernel's SocketCAN; with other interfaces, use bus_off")
            elif "bus_off" in self.model_fields_set:
                wrong(
                    "restart_ms", "and bus_off are both given; either the kernel restarts the controller or the agent"
                )
        if self.listen_only and not self._can_be_silent():
            wrong(
                "listen_only",
                f"labd cannot keep {self.interface} silent; give the driver's own option for it under options, too",
            )
        if errors:
            raise model_error("bus", errors)
        return self

    def _can_be_silent(self) -> bool:
        known = {"socketcan"} | WITHOUT_CONTROLLER | SILENT_OPTIONS.keys()
        return self.interface in known or bool(self.options)
