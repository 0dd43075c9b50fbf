"""How a bus does besides its frames: the controller's state, errors, load, and what is lost."""

import difflib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType

import grpc

from bench_agent.client.connection import Connection, to_ms
from bench_agent.client.description import BUS_STATES
from bench_agent.client.errors import InvalidRequest, from_rpc
from bench_agent.protocol import bench_pb2, bus_pb2

_BY_NAME = {name: number for number, name in BUS_STATES.items()}


@dataclass(frozen=True, slots=True)
class BusErrorFrame:
    """What a controller has told of an error (linux/can/error.h)."""

    timestamp_ns: int
    """Since the Unix epoch."""
    kinds: tuple[str, ...]
    """"no_ack", "stuff_error", "bus_off", ..."""
    detail: str
    """For people."""
    tx_errors: int | None = None
    """The controller's counters; None when the frame does not carry them."""
    rx_errors: int | None = None


@dataclass(frozen=True, slots=True)
class SubscriberStats:
    """Frames of one stream from the bus."""

    delivered: int
    dropped: int
    """Lost because the subscriber did not take them fast enough."""
    waiting: int


@dataclass(frozen=True, slots=True)
class BusStats:
    """How a bus does. Counts are since the agent opened it."""

    state: str
    """error-active, error-warning, error-passive or bus-off (ISO 11898-1); unknown while the bus is not open."""
    since_ns: int
    """When the state began, since the Unix epoch; 0: when the bus was opened."""
    fault: str
    """Why the bus is not open, or why nobody brings it back from bus-off; empty otherwise."""
    tx_errors: int
    """The controller's counters, as far as it has told them."""
    rx_errors: int
    frames_per_s: float
    """In the last second."""
    load_typical: float | None
    """Percent of the last second that frames were on the wire, with as many stuff bits as random data have. None where
    the bit rate is not known."""
    load_worst: float | None
    """The same with as many stuff bits as there can be."""
    bitrate: int | None
    """bit/s."""
    data_bitrate: int | None
    received: int
    sent: int
    send_failed: int
    lost: int
    """Dropped by the kernel or the driver before the agent saw them."""
    error_frames: int
    bus_offs: int
    """How often the controller went bus-off, and how often it came back."""
    recoveries: int
    errors: dict[str, int]
    """How often each kind of error was told."""
    last_errors: tuple[BusErrorFrame, ...]
    """Oldest first."""
    subscribers: tuple[SubscriberStats, ...]


@dataclass(frozen=True, slots=True)
class BusStateChange:
    """The controller is in another state. The first event of a watch has ``before`` equal to ``state``."""

    timestamp_ns: int
    state: str
    before: str


@dataclass(frozen=True, slots=True)
class BusFramesLost:
    """The kernel or the driver has dropped frames; ``total`` since the bus was opened."""

    timestamp_ns: int
    lost: int
    total: int


@dataclass(frozen=True, slots=True)
class BusRestart:
    """The agent has tried to bring the controller back from bus-off; ``fault`` is empty when that worked."""

    timestamp_ns: int
    attempt: int
    fault: str


@dataclass(frozen=True, slots=True)
class BusStaysOff:
    """Nobody brings the controller back from bus-off any more."""

    timestamp_ns: int
    reason: str


BusEvent = BusErrorFrame | BusStateChange | BusFramesLost | BusRestart | BusStaysOff


class BusEvents:
    """The events of a bus, to be used as a context manager and iterated over.

    Iterating waits for the next event, and ends when the context does. Raises a BenchError when the agent ends it.
    """

    def __init__(self, connection: Connection, bus: str) -> None:
        self._connection = connection
        self._request = bus_pb2.BusRequest(bus=bus)
        self._events: Iterator[bus_pb2.BusEvent] | None = None
        self._cancel: Callable[[], object] | None = None
        self._closed = threading.Event()
        self.dropped = 0
        """Events lost so far because they were not read fast enough."""

    def __enter__(self) -> "BusEvents":
        call = self._connection.monitor.Watch(self._request, metadata=self._connection.metadata)
        self._events, self._cancel = call, call.cancel
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the iteration; any thread may call it."""
        self._closed.set()
        if self._cancel is not None:
            self._cancel()

    def __iter__(self) -> Iterator[BusEvent]:
        if self._events is None:
            raise RuntimeError("use it as a context manager")
        try:
            for wire in self._events:
                self.dropped = wire.dropped
                yield _event(wire)
        except grpc.RpcError as error:
            if not self._closed.is_set():
                raise from_rpc(error, self._connection.target) from None


def stats(connection: Connection, bus: str) -> BusStats:
    """How the bus does now. Raises a BenchError."""
    return _stats(connection.ask(connection.monitor.Stats, bus_pb2.BusRequest(bus=bus)))


def recover(connection: Connection, bus: str) -> BusStats:
    """Brings the controller back that is bus-off. Raises a BenchError."""
    # A driver that must be opened anew takes its time.
    return _stats(connection.ask(connection.monitor.Recover, bus_pb2.BusRequest(bus=bus), 10.0))


def expect_state(connection: Connection, bus: str, state: str, timeout_s: float) -> tuple[bool, str]:
    """Whether the bus was in ``state`` within ``timeout_s``, and the state that decided. Raises a BenchError."""
    wanted = _BY_NAME.get(state)
    if wanted is None:
        close = difflib.get_close_matches(state, _BY_NAME, n=1)
        hint = f"did you mean {close[0]}?" if close else f"it must be one of {', '.join(_BY_NAME)}"
        raise InvalidRequest(f"state is {state!r}; {hint}")
    try:
        request = bus_pb2.ExpectStateRequest(bus=bus, state=wanted, timeout_ms=to_ms(timeout_s))
    except ValueError as error:
        raise InvalidRequest(str(error)) from None
    reply = connection.ask(connection.monitor.ExpectState, request, timeout_s)
    return reply.met, _name(reply.state)


def _stats(wire: bus_pb2.BusStats) -> BusStats:
    return BusStats(
        state=_name(wire.state),
        since_ns=wire.since_ns,
        fault=wire.fault,
        tx_errors=wire.tx_errors,
        rx_errors=wire.rx_errors,
        frames_per_s=wire.frames_per_s,
        load_typical=wire.load_typical if wire.HasField("load_typical") else None,
        load_worst=wire.load_worst if wire.HasField("load_worst") else None,
        bitrate=wire.bitrate or None,
        data_bitrate=wire.data_bitrate or None,
        received=wire.received,
        sent=wire.sent,
        send_failed=wire.send_failed,
        lost=wire.lost,
        error_frames=wire.error_frames,
        bus_offs=wire.bus_offs,
        recoveries=wire.recoveries,
        errors=dict(sorted(wire.errors.items())),
        last_errors=tuple(_error(error) for error in wire.last_errors),
        subscribers=tuple(SubscriberStats(one.delivered, one.dropped, one.waiting) for one in wire.subscribers),
    )


def _event(wire: bus_pb2.BusEvent) -> BusEvent:
    at = wire.timestamp_ns
    match wire.WhichOneof("what"):
        case "error":
            return _error(wire.error)
        case "lost":
            return BusFramesLost(at, wire.lost.lost, wire.lost.total)
        case "restart":
            return BusRestart(at, wire.restart.attempt, wire.restart.fault)
        case "stays_off":
            return BusStaysOff(at, wire.stays_off.reason)
    return BusStateChange(at, _name(wire.state.state), _name(wire.state.before))


def _error(wire: bus_pb2.ErrorFrame) -> BusErrorFrame:
    return BusErrorFrame(
        wire.timestamp_ns,
        tuple(wire.kinds),
        wire.detail,
        wire.tx_errors if wire.HasField("tx_errors") else None,
        wire.rx_errors if wire.HasField("rx_errors") else None,
    )


def _name(state: "bench_pb2.BusState.ValueType") -> str:
    return BUS_STATES.get(state, "unknown")
