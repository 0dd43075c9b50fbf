"""The power supplies of a leased bench."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import grpc

from bench_agent.client.connection import Connection
from bench_agent.client.errors import from_rpc
from bench_agent.protocol import power_pb2

_STATES = {power_pb2.POWER_ON: "on", power_pb2.POWER_OFF: "off"}


@dataclass(frozen=True, slots=True)
class PowerReading:
    """What a channel delivered, V and A; None is what its supply does not measure."""

    time_ns: int
    """ns since the Unix epoch, on the agent's clock."""
    voltage: float | None
    current: float | None


@dataclass(frozen=True, slots=True)
class PowerChannelState:
    """A channel as the agent last heard of it."""

    name: str
    supply: str
    terminal: str
    """DIN 72552: kl30 (battery), kl15 (ignition); or empty."""
    state: str
    """on, off or unknown."""
    voltage: float | None
    """V, as last set."""
    current_limit: float | None
    """A, as last set."""
    max_voltage: float | None
    max_current: float | None
    reading: PowerReading | None
    """The last measurement."""
    fault: str
    """Why the supply does not do what it should; empty when it does."""
    settable: bool


@dataclass(frozen=True, slots=True)
class ProfileStep:
    """A voltage that was set (V), when it was due and when the supply had taken it (ms from the start)."""

    planned_ms: float
    achieved_ms: float
    voltage: float


@dataclass(frozen=True, slots=True)
class ProfileResult:
    """How a voltage profile went."""

    name: str
    source: str
    """The standard's clause that it follows; empty for points of one's own."""
    steps: tuple[ProfileStep, ...]
    skipped: int
    """Steps overtaken by their successor, because the supply took too long."""
    worst_ms: float
    """The longest that a voltage was set after its time."""


@dataclass(frozen=True, slots=True)
class ProfileInfo:
    """A built-in profile: points of (ms, V)."""

    name: str
    source: str
    points: tuple[tuple[float, float], ...]


class PowerChannelClient:
    """One channel, by name or by terminal. Cheap to make; thread-safe. All methods raise a BenchError."""

    def __init__(self, connection: Connection, name: str) -> None:
        self._connection = connection
        self.name = name

    def on(self) -> PowerChannelState:
        """Returns when the supply has done it."""
        return self._switch(True)

    def off(self) -> PowerChannelState:
        """Returns when the supply has done it."""
        return self._switch(False)

    def cycle(self, off_s: float = 1.0) -> PowerChannelState:
        """Off, a pause of ``off_s`` that the agent keeps, and on."""
        request = power_pb2.PowerCycleRequest(channel=self.name, off_ms=round(off_s * 1000))
        return _state(self._connection.ask(self._connection.power.Cycle, request, off_s))

    def set(self, *, voltage: float | None = None, current_limit: float | None = None) -> PowerChannelState:
        """Sets V and A, within the limits of the agent's configuration."""
        request = power_pb2.PowerSetRequest(channel=self.name, voltage=voltage, current_limit=current_limit)
        return _state(self._connection.ask(self._connection.power.Set, request))

    def measure(self) -> PowerReading:
        """What it delivers now."""
        request = power_pb2.PowerMeasureRequest(channel=self.name)
        return _reading(self._connection.ask(self._connection.power.Measure, request))

    def measurements(self, since_ns: int = 0) -> list[PowerReading]:
        """What was measured at intervals during this lease, oldest first."""
        request = power_pb2.PowerMeasurementsRequest(channel=self.name, since_ns=since_ns)
        reply = self._connection.ask(self._connection.power.Measurements, request)
        return [_reading(one) for one in reply.readings]

    def profile(self, name: str = "", points: Sequence[tuple[float, float]] = (), *, step_ms: int = 0) -> ProfileResult:
        """Plays voltage over time on the agent, and waits for its end: a built-in profile, or points of (ms, V).

        Straight lines between the points, in steps of ``step_ms`` (0: what the supply can do). Ending the connection
        aborts it; the channel then has its former voltage again.
        """
        self._connection.prepared()
        source, steps, done = "", [], power_pb2.PowerProfileDone()
        for event in self._profile_events(name, points, step_ms):
            match event.WhichOneof("event"):
                case "started":
                    source = event.started.source
                case "step":
                    step = event.step
                    steps.append(ProfileStep(step.planned_ms, step.achieved_ms, step.voltage))
                case "done":
                    done = event.done
        return ProfileResult(name, source, tuple(steps), done.skipped, done.worst_ms)

    def _profile_events(
        self, name: str, points: Sequence[tuple[float, float]], step_ms: int
    ) -> Iterator[power_pb2.PowerProfileEvent]:
        request = power_pb2.PowerProfileRequest(
            channel=self.name,
            name=name,
            points=[power_pb2.PowerPoint(at_ms=at, voltage=voltage) for at, voltage in points],
            step_ms=step_ms,
        )
        call = self._connection.power.Profile(request, metadata=self._connection.metadata)
        try:
            yield from call
        except grpc.RpcError as error:
            raise from_rpc(error, self._connection.target) from None
        finally:
            call.cancel()  # an interrupted caller aborts the profile

    def _switch(self, on: bool) -> PowerChannelState:
        request = power_pb2.PowerSwitchRequest(channel=self.name, on=on)
        return _state(self._connection.ask(self._connection.power.Switch, request))


class PowerClient:
    """All channels of the bench. Thread-safe. All methods raise a BenchError."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def channel(self, name: str) -> PowerChannelClient:
        """By name, or by terminal: kl30, kl15. What does not exist is found out by its first use."""
        return PowerChannelClient(self._connection, name)

    def channels(self) -> list[PowerChannelState]:
        """All of them, as the agent last heard of them."""
        reply = self._connection.ask(self._connection.power.Channels, power_pb2.PowerChannelsRequest())
        return [_state(one) for one in reply.channels]

    def ignition(self, on: bool) -> PowerChannelState:
        """Switches terminal 15 (DIN 72552)."""
        channel = self.channel("kl15")
        return channel.on() if on else channel.off()

    def profiles(self) -> list[ProfileInfo]:
        """The built-in profiles."""
        reply = self._connection.ask(self._connection.power.Profiles, power_pb2.PowerProfilesRequest())
        return [
            ProfileInfo(one.name, one.source, tuple((point.at_ms, point.voltage) for point in one.points))
            for one in reply.profiles
        ]


def _reading(wire: power_pb2.PowerReading) -> PowerReading:
    return PowerReading(
        wire.time_ns,
        wire.voltage if wire.HasField("voltage") else None,
        wire.current if wire.HasField("current") else None,
    )


def _state(wire: power_pb2.PowerChannel) -> PowerChannelState:
    return PowerChannelState(
        wire.name,
        wire.supply,
        wire.terminal,
        _STATES.get(wire.state, "unknown"),
        wire.voltage if wire.HasField("voltage") else None,
        wire.current_limit if wire.HasField("current_limit") else None,
        wire.max_voltage if wire.HasField("max_voltage") else None,
        wire.max_current if wire.HasField("max_current") else None,
        _reading(wire.reading) if wire.HasField("reading") else None,
        wire.fault,
        wire.settable,
    )
