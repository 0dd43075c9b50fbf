"""A CAN bus of a leased bench."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench_agent.client import bus_monitor
from bench_agent.client.bus_monitor import BusEvents, BusStats
from bench_agent.client.conditions import Condition, Rule, apply_rule, to_wire
from bench_agent.client.connection import Connection, to_ms
from bench_agent.client.errors import InvalidRequest
from bench_agent.client.frame_stream import FrameFilter, FrameStream
from bench_agent.client.j1939 import J1939Client, open_node
from bench_agent.client.replay import OnProgress, Playing, ReplayClient, ReplayProgress, log_frames
from bench_agent.client.traffic import (
    AliveCounter,
    CycleTimes,
    CyclicClient,
    PayloadChecksum,
    PayloadFunction,
    Prepared,
    RestBusClient,
    cyclic_request,
    start_rest_bus,
    wired,
)
from bench_agent.protocol import bench_pb2, frames, traffic_pb2
from bench_agent.protocol.frames import Frame
from bench_agent.protocol.values import Plain, from_values


@dataclass(frozen=True, slots=True)
class SentMessage:
    """A DBC message that the bus driver has taken."""

    timestamp_ns: int
    """The moment before the driver was given the frame, on the agent's clock, since the Unix epoch."""
    frame: Frame


@dataclass(frozen=True, slots=True)
class Expectation:
    """How waiting for a message or frame ended."""

    met: bool
    frame: Frame | None
    """The frame that met the conditions, or else the last that matched the message or ID; None if there was none."""
    signals: dict[str, Plain] = field(default_factory=dict)
    """The frame's decoded signals, if the bus has a DBC that knows it."""
    seen: int = 0
    """Frames that matched the message or ID."""
    unmet: tuple[str, ...] = ()
    """The conditions that the last seen frame did not meet, or why the rule was not met, as text."""
    matched: int = 0
    """Frames that met all conditions."""


class BusClient:
    """One bus. Cheap to make; thread-safe."""

    def __init__(self, connection: Connection, name: str) -> None:
        self._connection = connection
        self.name = name

    def send(self, frame: Frame | Sequence[Frame]) -> int:
        """Puts one frame or several on the bus, in order.

        Returns the moment before the driver was given the last one, ns since the Unix epoch on the agent's clock: what
        answers it is newer. Timestamps of the given frames are ignored. Raises a BenchError.
        """
        batch = _checked([frame] if isinstance(frame, Frame) else frame)
        stub = self._connection.stub
        reply = self._connection.ask(stub.Send, bench_pb2.SendRequest(bus=self.name, frames=batch))
        return reply.timestamp_ns

    def send_message(
        self, name: str, signals: Mapping[str, object] | None = None, *, force: bool = False
    ) -> SentMessage:
        """Encodes a message of the bus' DBC on the agent and sends it.

        ``signals`` are physical values or names from the value table; those left out take the DBC's initial value.
        ``force`` lets values pass that are outside the DBC's bounds, as far as the signal's bits go.

        Raises a BenchError.
        """
        message = bench_pb2.SignalMessage(name=name, signals=wired(signals or {}), force=force)
        stub = self._connection.stub
        reply = self._connection.ask(stub.Send, bench_pb2.SendRequest(bus=self.name, message=message))
        return SentMessage(reply.timestamp_ns, next(frames.unbatch(reply.frames)))

    def cyclic(
        self,
        what: Frame | str,
        signals: Mapping[str, object] | None = None,
        *,
        period_s: float | None = None,
        counter: AliveCounter | None = None,
        checksum: PayloadChecksum | None = None,
        payload: PayloadFunction | None = None,
        force: bool = False,
    ) -> CyclicClient:
        """Has the agent send a message of the DBC, or a frame, with a period (None: the DBC's cycle time).

        It goes on until it is stopped or the lease ends. ``payload`` is called here, not on the agent, whenever values
        change: once for each value of the counter. Raises a BenchError.
        """
        request = cyclic_request(self.name, what, signals or {}, period_s, counter, checksum, force=force)
        if payload is not None:
            return CyclicClient(self._connection, Prepared(self._connection, request).carry_out_with(payload), payload)
        return CyclicClient(self._connection, self._connection.ask(self._connection.traffic.StartCyclic, request))

    def prepare_cyclic(
        self,
        what: Frame | str,
        signals: Mapping[str, object] | None = None,
        *,
        period_s: float | None = None,
        counter: AliveCounter | None = None,
        force: bool = False,
    ) -> Prepared:
        """A cyclic message for which the caller makes the payloads, now and whenever values change (`CyclicClient`).

        Raises a BenchError.
        """
        return Prepared(
            self._connection, cyclic_request(self.name, what, signals or {}, period_s, counter, None, force=force)
        )

    def restbus(
        self,
        absent: Iterable[str] = (),
        *,
        include: Iterable[str] = (),
        except_messages: Iterable[str] = (),
        protect: Mapping[str, tuple[AliveCounter | None, PayloadChecksum | None]] | None = None,
        database: Path | None = None,
    ) -> RestBusClient:
        """Has the agent send every message of the DBC except those of some nodes.

        Left out are the messages of ``absent`` nodes, of the bench's own ECUs on this bus unless named in ``include``,
        and ``except_messages``. ``protect`` gives messages counters and checksums. ``database`` (DBC, KCD,
        ARXML or SYM) stands in for that of the bus. Raises a BenchError, and OSError for a file that cannot be read.
        """
        return start_rest_bus(self._connection, self.name, absent, include, except_messages, protect or {}, database)

    def j1939(
        self,
        address: int,
        *,
        name: int | None = None,
        answers: Mapping[int, bytes] | None = None,
        bam_spacing_s: float = 0.05,
        packets_per_cts: int = 16,
        holds: int = 0,
    ) -> J1939Client:
        """Puts a J1939 node with a source address (0 .. 253) on the bus.

        With a 64-bit ``name`` it claims the address first. Requests for the PGNs in ``answers`` are answered with their
        data; others for this node alone get a negative acknowledgement. ``bam_spacing_s`` (0.05 .. 0.2) lies between
        the packets of what it sends to all; it asks senders for ``packets_per_cts`` packets at once, and holds them off
        ``holds`` times before each block. Raises a BenchError, ValueError for what is no address.
        """
        return open_node(
            self._connection, self.name, address, name, answers or {}, bam_spacing_s, packets_per_cts, holds
        )

    def expect_message(
        self,
        name: str,
        conditions: Iterable[Condition] = (),
        timeout_s: float = 1.0,
        since_ns: int = 0,
        rule: Rule | None = None,
    ) -> Expectation:
        """Waits until one message of the DBC meets all conditions, or ``timeout_s`` have passed.

        ``rule`` asks for more than one frame, or for none: `Held`, `AtLeast`, `Exactly`, `CycleWithin`.
        Frames with a timestamp after ``since_ns`` count if the agent still remembers them; 0: only those from now on.
        Not meeting the conditions is no error: look at ``met``. Raises a BenchError.
        """
        request = bench_pb2.ExpectRequest(
            bus=self.name,
            message=name,
            conditions=[to_wire(condition) for condition in conditions],
            timeout_ms=to_ms(timeout_s),
            since_ns=since_ns,
        )
        return self._expect(request, timeout_s, rule)

    def expect_frame(
        self,
        can_id: int,
        data: bytes | None = None,
        timeout_s: float = 1.0,
        since_ns: int = 0,
        rule: Rule | None = None,
    ) -> Expectation:
        """Waits for a frame with this ID (SocketCAN form: bit 31 for 29 bits) and, if given, exactly this data.

        Otherwise as `expect_message`.
        """
        request = bench_pb2.ExpectRequest(
            bus=self.name,
            frame=bench_pb2.FrameMatch(id=can_id, data=data),
            timeout_ms=to_ms(timeout_s),
            since_ns=since_ns,
        )
        return self._expect(request, timeout_s, rule)

    def measure_cycle(self, what: str | int, duration_s: float) -> CycleTimes:
        """Listens to a message of the DBC, or to an ID (SocketCAN form), for so long. Own frames count too.

        Raises a BenchError.
        """
        request = traffic_pb2.CycleRequest(bus=self.name, duration_ms=to_ms(duration_s))
        if isinstance(what, int):
            request.frame.id = what
        else:
            request.message = what
        reply = self._connection.ask(self._connection.traffic.MeasureCycle, request, duration_s)
        return CycleTimes(
            frames=reply.frames,
            shortest_s=reply.shortest_us / 1e6,
            mean_s=reply.mean_us / 1e6,
            longest_s=reply.longest_us / 1e6,
            first_ns=reply.first_ns,
            last_ns=reply.last_ns,
        )

    def stream(self, filters: Sequence[FrameFilter] = (), *, own_frames: bool = False) -> FrameStream:
        """A live subscription, to be used as a context manager.

        A frame is delivered if any of ``filters`` matches; without filters, all are. ``own_frames``: also those that
        the agent itself put on the bus. Raises a BenchError.
        """
        return FrameStream(self._connection, self.name, filters, own_frames=own_frames)

    def stats(self) -> BusStats:
        """The controller's state, errors, load, and what is lost. Raises a BenchError."""
        return bus_monitor.stats(self._connection, self.name)

    def expect_state(self, state: str, timeout_s: float = 1.0) -> bool:
        """Waits until the controller is in ``state``, be it for a moment; whether that was so within ``timeout_s``.

        error-active, error-warning, error-passive, bus-off; unknown: the bus is not open. Raises a BenchError.
        """
        return bus_monitor.expect_state(self._connection, self.name, state, timeout_s)[0]

    def recover(self) -> BusStats:
        """Brings the controller back that is bus-off; does nothing otherwise. Raises a BenchError with the reason."""
        return bus_monitor.recover(self._connection, self.name)

    def watch(self) -> BusEvents:
        """What happens on the bus besides its frames, to be used as a context manager and iterated over."""
        return BusEvents(self._connection, self.name)

    def replay(
        self,
        log: Path | Iterable[Frame],
        *,
        speed: float = 1.0,
        filters: Sequence[FrameFilter] = (),
        channel: str | None = None,
        loop: int = 1,
        on_progress: OnProgress | None = None,
    ) -> ReplayProgress:
        """Plays a BLF, ASC or candump log, or frames, on the bus, with the distances of their timestamps.

        The agent keeps the time. ``speed`` 2 is twice as fast, 0 as fast as the bus takes the frames. Of a log, only
        frames of its ``channel``, if given, and that match any of ``filters``; ``loop`` times over. Returns when the
        last frame is sent; ``on_progress`` is called some times a second. Frames that the bus refuses are counted.
        Raises a BenchError (LogError for a damaged log) and OSError.
        """
        listed = log_frames(log, channel=channel, loop=loop) if isinstance(log, Path) else log
        return Playing(self._connection, self.name, listed, speed, filters).run(on_progress)

    def start_replay(
        self,
        log: Path | Iterable[Frame],
        *,
        speed: float = 1.0,
        filters: Sequence[FrameFilter] = (),
        channel: str | None = None,
        loop: int = 1,
    ) -> ReplayClient:
        """The same as `replay`, beside whatever the caller does meanwhile. Raises a BenchError."""
        listed = log_frames(log, channel=channel, loop=loop) if isinstance(log, Path) else log
        return ReplayClient(Playing(self._connection, self.name, listed, speed, filters), self._connection.timeout_s)

    def _expect(self, request: bench_pb2.ExpectRequest, timeout_s: float, rule: Rule | None) -> Expectation:
        try:
            apply_rule(request, rule)
        except (TypeError, ValueError) as error:
            raise InvalidRequest(f"{rule}: {error}") from None
        reply = self._connection.ask(self._connection.stub.Expect, request, timeout_s)
        return Expectation(
            met=reply.met,
            frame=next(frames.unbatch(reply.frame), None),
            signals=from_values(reply.signals),
            seen=reply.seen,
            unmet=tuple(reply.unmet),
            matched=reply.matched,
        )


def _checked(listed: Sequence[Frame]) -> bench_pb2.FrameBatch:
    for frame in listed:
        try:
            frames.check(frame)
        except ValueError as error:
            raise InvalidRequest(str(error)) from None
    return frames.batch(listed)
