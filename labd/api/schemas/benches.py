"""Benches."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from labd.api.schemas.common import Time
from labd.model.bench import BenchState, Health
from labd.services.calendar import Taken


class Bus(BaseModel):
    """A CAN bus of a bench."""

    name: str
    interface: str
    channel: str
    fd: bool
    messages: list[str]
    state: Annotated[
        str,
        Field(
            description="Of the agent's CAN controller: error-active, error-warning, error-passive, bus-off; unknown "
            "while the bus is not open."
        ),
    ] = "unknown"
    lost: Annotated[int, Field(description="Frames dropped before the agent saw them, since the bus was opened.")] = 0
    error_frames: int = 0


class Did(BaseModel):
    """A data identifier that an ECU's description knows."""

    name: str
    did: int
    type: str
    unit: str


class Ecu(BaseModel):
    """A diagnostic ECU of a bench. IDs as in SocketCAN (bit 31 marks a 29-bit one), over DoIP logical addresses."""

    name: str
    bus: str
    request_id: int
    response_id: int
    simulated: bool
    dids: list[Did]


class Console(BaseModel):
    """A serial console of a bench."""

    name: str
    port: Annotated[str, Field(description="As the agent's configuration has it: a device, or a URL of pyserial.")]
    baudrate: Annotated[int, Field(description="bit/s")]


class PowerChannel(BaseModel):
    """A channel of a power supply."""

    name: str
    supply: str
    driver: str
    terminal: Annotated[str, Field(description="DIN 72552: kl30 (battery), kl15 (ignition); or empty.")]
    state: Literal["on", "off", "unknown"] = "unknown"
    measured_voltage: Annotated[float | None, Field(description="V; null: not measured.")] = None
    measured_current: Annotated[float | None, Field(description="A; null: not measured.")] = None
    measured_at: Time | None = None


class Adapter(BaseModel):
    """A device of the lab's own."""

    name: str
    driver: str
    methods: list[str]


class Equipment(BaseModel):
    """What a bench carries beside buses and ECUs."""

    consoles: list[Console] = []
    power: list[PowerChannel] = []
    adapters: list[Adapter] = []


class CleanUpStep(BaseModel):
    """One step of bringing a bench back to its safe state."""

    name: str
    elapsed_ms: int
    fault: str | None = Field(description="Why it failed; null when it worked.")


class Bench(BaseModel):
    """A bench as labd knows it."""

    name: str
    agent: str
    address: str = Field(description="host:port of the agent's gRPC door.")
    labels: dict[str, str]
    health: Health
    health_reason: str = Field(
        description="Why it is not healthy; of a healthy one, which hook failed although the bench goes on."
    )
    state: BenchState
    lease_id: str | None
    holder: str | None
    epoch: int
    last_seen: Time | None
    draining: bool = Field(description="An operator keeps new leases from it, or from its agent.")
    drain_reason: str
    buses: list[Bus]
    ecus: list[Ecu]
    equipment: Equipment
    last_clean_up: list[CleanUpStep] = Field(description="What was undone at the end of the latest lease, in order.")


class CalendarEntry(BaseModel):
    """A time in which somebody has the bench."""

    starts_at: Time
    ends_at: Time = Field(description="At the latest, without the clean-up after it.")
    taken: Taken = Field(description="`kept`: it is kept free for who has waited longest.")
    lease_id: str | None = Field(description="null: of a team that is not for you to see.")
    holder: str | None


class Calendar(BaseModel):
    """What is certain of a bench from now on."""

    bench: str
    entries: list[CalendarEntry] = Field(description="In order.")
    next_free: Time | None = Field(
        description="From when on it is free for as long as was asked; null: never, as things are."
    )
