"""A J1939 node on a bus of the bench: parameter groups sent, asked for and awaited; the agent runs the transport."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Protocol

import grpc

from bench_agent.client.conditions import Condition, to_wire
from bench_agent.client.connection import Connection, to_ms
from bench_agent.client.errors import J1939Failure, from_rpc
from bench_agent.client.traffic import wired
from bench_agent.protocol import bench_pb2, j1939_pb2, j1939_pb2_grpc
from bench_agent.protocol.values import Plain, from_values

GLOBAL = 255
"""Destination address of what is meant for all."""


@dataclass(frozen=True, slots=True)
class J1939Message:
    """A message, whether it came in one frame or in many."""

    pgn: int
    source: int
    destination: int
    """255: all."""
    priority: int
    data: bytes
    timestamp_ns: int
    """Of its last frame, on the agent's clock, since the Unix epoch."""
    name: str = ""
    """In the bus' DBC; empty when that does not know the PGN."""
    signals: dict[str, Plain] = field(default_factory=dict)
    """None: not available."""

    def __str__(self) -> str:
        name = f" {self.name}" if self.name else ""
        return f"PGN 0x{self.pgn:04X}{name} 0x{self.source:02X} -> 0x{self.destination:02X} {self.data.hex().upper()}"


@dataclass(frozen=True, slots=True)
class J1939Filter:
    """Matches when all that is given does."""

    pgn: int | None = None
    source: int | None = None
    destination: int | None = None
    """The node's address, or 255."""


@dataclass(frozen=True, slots=True)
class J1939Lost:
    """A message in several frames that had begun to come and was lost."""

    pgn: int
    source: int
    error: J1939Failure


@dataclass(frozen=True, slots=True)
class J1939Expectation:
    """How waiting for a message ended."""

    met: bool
    message: J1939Message | None
    """The one that met the conditions, or else the last that passed the filter; None if there was none."""
    seen: int = 0
    """Messages that passed the filter."""
    unmet: tuple[str, ...] = ()
    """The conditions that the last one did not meet, as text."""
    lost: tuple[J1939Lost, ...] = ()


@dataclass(frozen=True, slots=True)
class J1939State:
    """How a node is; counters since it was opened."""

    address: int
    sent: int
    received: int
    send_errors: int
    receive_errors: int
    """Messages in several frames that had begun to come and were lost."""
    lost: tuple[J1939Lost, ...]
    """The latest of them."""
    ignored: int
    """Frames of the transport protocol that belong to no message."""
    dropped: int
    """Frames dropped because the agent was too far behind."""
    conflicts: int
    """Frames that another node sent with this node's address."""
    fault: str
    """Why it cannot send; empty when it can."""


class J1939Client:
    """A node. Made by `BusClient.j1939`; closed by `close`, the end of its context, or the end of the lease."""

    def __init__(self, connection: Connection, request: j1939_pb2.J1939Open) -> None:
        """Raises a BenchError when the address is not valid, or was claimed by another node."""
        self._connection = connection
        self._stub = j1939_pb2_grpc.J1939Stub(connection.channel)
        opened = connection.ask(self._stub.Open, request)
        self._number = opened.node
        self.bus = opened.bus
        self.address = opened.address

    def __enter__(self) -> "J1939Client":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def send(
        self,
        what: int | str,
        content: bytes | Mapping[str, object] = b"",
        destination: int | None = None,
        *,
        priority: int | None = None,
        force: bool = False,
        timeout_s: float = 30.0,
    ) -> J1939Message:
        """Sends a PGN with data (up to 1785 bytes), or a message of the DBC with signals; what was sent, and when.

        The timestamp is the moment before the driver was given the last frame: what answers it is newer.

        Without ``destination``, to all: longer than 8 bytes by BAM, which takes 50 ms for every 7 bytes. Else by
        RTS/CTS, and it has arrived. Signals left out take the DBC's initial value, or else are not available.
        ``force`` lets values pass that are outside the DBC's bounds. Raises J1939Failure or another BenchError.
        """
        request = j1939_pb2.J1939Send(
            node=self._number, destination=destination, priority=priority, timeout_ms=to_ms(timeout_s)
        )
        if isinstance(what, str):
            if isinstance(content, bytes) and content:
                raise TypeError(f"message {what!r} takes signals, not bytes")
            signals = wired(dict(content) if isinstance(content, Mapping) else {})
            request.message.CopyFrom(bench_pb2.SignalMessage(name=what, signals=signals, force=force))
        elif isinstance(content, bytes):
            request.data.CopyFrom(j1939_pb2.J1939Data(pgn=_pgn(what), data=content))
        else:
            raise TypeError(f"PGN 0x{what:X} takes bytes; signals go with the name of a message of the DBC")
        reply = self._connection.ask(self._stub.Send, request, timeout_s)
        if reply.HasField("error"):
            raise _failure(reply.error)
        return replace(_message(reply.message), timestamp_ns=reply.timestamp_ns)

    def request(self, what: int | str, destination: int | None = None, timeout_s: float = 1.25) -> J1939Message:
        """Asks a node, or everybody, for a PGN or a message of the DBC; the first answer.

        That may be a positive acknowledgement (PGN 0xE800). ``timeout_s`` is for the whole answer: one to all by BAM
        takes 50 ms for every 7 bytes. Raises J1939Failure ("no_answer", "refused", or what became of the transfer) or
        another BenchError.
        """
        request = j1939_pb2.J1939Request(node=self._number, destination=destination, timeout_ms=to_ms(timeout_s))
        if isinstance(what, str):
            request.name = what
        else:
            request.pgn = _pgn(what)
        reply = self._connection.ask(self._stub.Request, request, timeout_s)
        if reply.WhichOneof("outcome") == "error":
            raise _failure(reply.error)
        return _message(reply.message)

    def expect(
        self,
        what: int | str | None = None,
        conditions: Iterable[Condition] = (),
        timeout_s: float = 1.0,
        *,
        source: int | None = None,
        destination: int | None = None,
        data: bytes | None = None,
        since_ns: int = 0,
    ) -> J1939Expectation:
        """Waits for a message (None: any) that meets all conditions and, if given, has exactly this data.

        Messages with a timestamp after ``since_ns`` count if the agent still remembers them; 0: only those from now
        on. Not meeting the conditions is no error: look at ``met``. Raises a BenchError.
        """
        pgn = _pgn(what) if isinstance(what, int) else None
        request = j1939_pb2.J1939Expect(
            node=self._number,
            filter=_filter(J1939Filter(pgn, source, destination)),
            name=what if isinstance(what, str) else "",
            data=data,
            conditions=[to_wire(condition) for condition in conditions],
            timeout_ms=to_ms(timeout_s),
            since_ns=since_ns,
        )
        reply = self._connection.ask(self._stub.Expect, request, timeout_s)
        return J1939Expectation(
            met=reply.met,
            message=_message(reply.message) if reply.HasField("message") else None,
            seen=reply.seen,
            unmet=tuple(reply.unmet),
            lost=_lost(reply.lost),
        )

    def receive(self, filters: Sequence[J1939Filter] = ()) -> "J1939Stream":
        """A live subscription, to be used as a context manager: what any of the filters lets pass, or everything."""
        return J1939Stream(self._connection, self._stub, self._number, filters)

    def state(self) -> J1939State:
        """Counters and faults. Raises a BenchError."""
        state = self._connection.ask(self._stub.State, j1939_pb2.J1939NodeRequest(node=self._number))
        return J1939State(
            address=state.address,
            sent=state.sent,
            received=state.received,
            send_errors=state.send_errors,
            receive_errors=state.receive_errors,
            lost=_lost(state.lost),
            ignored=state.ignored,
            dropped=state.dropped,
            conflicts=state.conflicts,
            fault=state.fault,
        )

    def close(self) -> None:
        """Takes the node off the bus. Raises a BenchError when it is gone already."""
        self._connection.ask(self._stub.Close, j1939_pb2.J1939NodeRequest(node=self._number))


class _Call(Protocol):
    def __next__(self) -> j1939_pb2.J1939Batch: ...
    def cancel(self) -> bool: ...


class J1939Stream:
    """Messages as they come, within a context. One thread reads."""

    def __init__(
        self,
        connection: Connection,
        stub: "j1939_pb2_grpc.J1939Stub",
        number: int,
        filters: Sequence[J1939Filter],
    ) -> None:
        self._connection = connection
        self._stub = stub
        self._request = j1939_pb2.J1939Receive(node=number, filters=[_filter(wanted) for wanted in filters])
        self._call: _Call | None = None
        self.dropped = 0
        """Messages dropped at the agent because they were not read fast enough."""
        self.lost: list[J1939Lost] = []
        """Those that had begun to come and were lost on the bus; the latest hundred."""

    def __enter__(self) -> "J1939Stream":
        """From here on every message comes, or is counted as dropped. Raises a BenchError."""
        self._call = self._stub.Receive(self._request, metadata=self._connection.metadata)
        self._next()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._call is not None:
            self._call.cancel()

    def __iter__(self) -> Iterator[J1939Message]:
        """Waits for each message, without end. Raises the BenchError that ends the stream."""
        while True:
            yield from self._next()

    def _next(self) -> list[J1939Message]:
        if self._call is None:
            raise RuntimeError("a J1939 stream is read within its context: with node.receive() as messages: ...")
        try:
            batch = next(self._call)
        except grpc.RpcError as error:
            raise from_rpc(error, self._connection.target) from None
        self.dropped = batch.dropped
        self.lost = [*self.lost, *_lost(batch.lost)][-100:]
        return [_message(message) for message in batch.messages]


def open_node(
    connection: Connection,
    bus: str,
    address: int,
    name: int | None,
    answers: Mapping[int, bytes],
    bam_spacing_s: float,
    packets_per_cts: int,
    holds: int,
) -> J1939Client:
    """See `BusClient.j1939`."""
    for what, value, high in (
        ("address", address, 253),
        ("packets_per_cts", packets_per_cts, 255),
        ("holds", holds, 100),
    ):
        if not 0 <= value <= high:
            raise ValueError(f"{what} is {value}; it must be 0 .. {high}")
    request = j1939_pb2.J1939Open(
        bus=bus,
        address=address,
        name=name,
        answers={_pgn(pgn): data for pgn, data in answers.items()},
        bam_spacing_ms=to_ms(bam_spacing_s),
        packets_per_cts=packets_per_cts,
        holds=holds,
    )
    return J1939Client(connection, request)


def _pgn(pgn: int) -> int:
    if not 0 <= pgn <= 0x3FFFF:
        raise ValueError(f"PGN is {pgn:#x}; it must be 0x0 .. 0x3FFFF")
    return pgn


def _filter(wanted: J1939Filter) -> j1939_pb2.J1939Filter:
    for what, value in (("source", wanted.source), ("destination", wanted.destination)):
        if value is not None and not 0 <= value <= GLOBAL:
            raise ValueError(f"{what} is {value}; it must be 0 .. {GLOBAL}")
    return j1939_pb2.J1939Filter(
        pgn=None if wanted.pgn is None else _pgn(wanted.pgn), source=wanted.source, destination=wanted.destination
    )


def _message(wire: j1939_pb2.J1939Message) -> J1939Message:
    return J1939Message(
        pgn=wire.pgn,
        source=wire.source,
        destination=wire.destination,
        priority=wire.priority,
        data=wire.data,
        timestamp_ns=wire.timestamp_ns,
        name=wire.name,
        signals=from_values(wire.signals),
    )


def _failure(error: j1939_pb2.J1939Error) -> J1939Failure:
    return J1939Failure(error.message, error.kind, error.frame, error.code)


def _lost(wires: Iterable[j1939_pb2.J1939Lost]) -> tuple[J1939Lost, ...]:
    return tuple(J1939Lost(lost.pgn, lost.source, _failure(lost.error)) for lost in wires)
