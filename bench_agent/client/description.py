"""What a bench carries, as plain data."""

from dataclasses import dataclass

from bench_agent.protocol import bench_pb2


@dataclass(frozen=True, slots=True)
class BusInfo:
    """A CAN bus: python-can interface and channel, and the names of its DBC's messages (empty without one)."""

    name: str
    interface: str
    channel: str
    fd: bool
    messages: tuple[str, ...]
    state: str = "unknown"
    """Of the agent's controller: error-active, error-warning, error-passive, bus-off; unknown while it is not open."""
    lost: int = 0
    """Frames that the kernel or the driver dropped before the agent saw them, since the bus was opened."""
    error_frames: int = 0


BUS_STATES: "dict[bench_pb2.BusState.ValueType, str]" = {
    bench_pb2.BUS_ERROR_ACTIVE: "error-active",
    bench_pb2.BUS_ERROR_WARNING: "error-warning",
    bench_pb2.BUS_ERROR_PASSIVE: "error-passive",
    bench_pb2.BUS_OFF: "bus-off",
    bench_pb2.BUS_UNKNOWN: "unknown",
}
"""Their names, by their numbers on the wire."""


@dataclass(frozen=True, slots=True)
class DidInfo:
    """A data identifier that the ECU's description knows."""

    name: str
    did: int
    type: str
    unit: str


@dataclass(frozen=True, slots=True)
class EcuInfo:
    """A diagnostic ECU. IDs in SocketCAN form: bit 31 marks a 29-bit one."""

    name: str
    bus: str
    request_id: int
    response_id: int
    simulated: bool
    dids: tuple[DidInfo, ...]


@dataclass(frozen=True, slots=True)
class ConsoleInfo:
    """A serial console: its port as configured, and bit/s."""

    name: str
    port: str
    baudrate: int


@dataclass(frozen=True, slots=True)
class PowerInfo:
    """A channel of a power supply. ``terminal`` as in DIN 72552: kl30 (battery), kl15 (ignition); or empty."""

    name: str
    supply: str
    driver: str
    terminal: str


@dataclass(frozen=True, slots=True)
class AdapterInfo:
    """A device of the bench that a driver of the lab's own operates."""

    name: str
    driver: str
    methods: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Description:
    """A bench: its labels, buses, ECUs and health."""

    name: str
    labels: dict[str, str]
    buses: tuple[BusInfo, ...]
    ecus: tuple[EcuInfo, ...]
    healthy: bool
    health_reason: str
    """Why it is not healthy; of a healthy one, which hook failed although the bench goes on."""
    consoles: tuple[ConsoleInfo, ...] = ()
    power: tuple[PowerInfo, ...] = ()
    adapters: tuple[AdapterInfo, ...] = ()


def from_wire(wire: bench_pb2.BenchDescription) -> Description:
    """The plain form of the agent's answer."""
    return Description(
        name=wire.name,
        labels=dict(wire.labels),
        buses=tuple(_bus(bus) for bus in wire.buses),
        ecus=tuple(
            EcuInfo(
                e.name,
                e.bus,
                e.request_id,
                e.response_id,
                e.simulated,
                tuple(DidInfo(d.name, d.did, d.type, d.unit) for d in e.dids),
            )
            for e in wire.ecus
        ),
        healthy=wire.health == bench_pb2.HEALTHY,
        health_reason=wire.health_reason,
        consoles=tuple(ConsoleInfo(c.name, c.port, c.baudrate) for c in wire.consoles),
        power=tuple(PowerInfo(p.name, p.supply, p.driver, p.terminal) for p in wire.power),
        adapters=tuple(AdapterInfo(a.name, a.driver, tuple(a.methods)) for a in wire.adapters),
    )


def _bus(wire: bench_pb2.BusDescription) -> BusInfo:
    state = BUS_STATES.get(wire.state, "unknown")
    messages = tuple(wire.messages)
    return BusInfo(wire.name, wire.interface, wire.channel, wire.fd, messages, state, wire.lost, wire.error_frames)
