"""What the agent sends by itself on a bus: cyclic messages and the rest of the bus. All of it ends with the lease."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bench_agent.client.connection import Connection
from bench_agent.client.errors import InvalidRequest
from bench_agent.protocol import bench_pb2, frames, traffic_pb2
from bench_agent.protocol.frames import Frame
from bench_agent.protocol.values import to_values

PayloadFunction = Callable[[bytes, int], bytes]
"""From the payload as the agent would send it, and the counter's value, to the payload that is to be sent."""


MAX_DATABASE_BYTES = 3 * 1024 * 1024
"""Largest database file that goes to the agent."""


@dataclass(frozen=True, slots=True)
class PayloadBits:
    """Some bits of a payload, numbered as in a DBC."""

    start: int
    length: int
    big_endian: bool = False


@dataclass(frozen=True, slots=True)
class AliveCounter:
    """Counts frames in a signal, in some bits, or (for a payload function) nowhere."""

    signal: str = ""
    bits: PayloadBits | None = None
    modulo: int = 0
    """How many values it takes; 0: as many as its bits have."""
    first: int = 0
    """The lowest value."""
    step: int = 1


@dataclass(frozen=True, slots=True)
class PayloadChecksum:
    """Protects the payload of a message."""

    algorithm: str
    """xor8, sum8, crc8, crc8_j1850, crc8_8h2f, crc16_ccitt, e2e_p02 or e2e_p05 (which have places of their own)."""
    signal: str = ""
    bits: PayloadBits | None = None
    first: int = 0
    """The first byte covered; bytes of the checksum itself are left out."""
    last: int | None = None
    """The last byte covered; None: to the end."""
    initial: int | None = None
    """Start value instead of the algorithm's own."""
    xor_out: int = 0
    data_ids: tuple[int, ...] = ()
    """One, or one for each counter value; follows the covered bytes."""


@dataclass(frozen=True, slots=True)
class CyclicState:
    """How a message is doing."""

    id: int
    bus: str
    message: str
    """Empty for a raw frame."""
    can_id: int
    """SocketCAN form: bit 31 marks a 29-bit ID."""
    period_s: float | None
    """None: sent on events only."""
    on_change: bool
    running: bool
    counter_frozen: bool
    corrupted: bool
    in_kernel: bool
    """Sent by the kernel's broadcast manager."""
    sent: int
    failed: int
    """Periods without a frame because the bus did not take it; ``error`` is the last reason."""
    late: int
    """Periods without a frame because the agent was late by half a period or more."""
    error: str


class Prepared:
    """A start or a change of values that waits for payloads: what the agent would send, one for each counter state."""

    def __init__(self, connection: Connection, request: "traffic_pb2.CyclicRequest | traffic_pb2.CyclicUpdate") -> None:
        """Raises a BenchError when the agent refuses it."""
        self._connection = connection
        self._request = request
        wrapped = (
            traffic_pb2.PreviewRequest(start=request)
            if isinstance(request, traffic_pb2.CyclicRequest)
            else traffic_pb2.PreviewRequest(update=request)
        )
        preview = connection.ask(connection.traffic.Preview, wrapped)
        self.states = list(zip(preview.payloads, preview.counters, strict=True))
        """Payload and counter value, in the order in which they are sent."""

    def carry_out(self, payloads: Iterable[bytes]) -> traffic_pb2.CyclicMessage:
        """With these payloads instead, one for each state. Raises a BenchError."""
        del self._request.payloads.data[:]
        self._request.payloads.data.extend(payloads)
        if isinstance(self._request, traffic_pb2.CyclicRequest):
            return self._connection.ask(self._connection.traffic.StartCyclic, self._request)
        return self._connection.ask(self._connection.traffic.UpdateCyclic, self._request)

    def start(self, payloads: Iterable[bytes]) -> "CyclicClient":
        """The same, for a message that is not running yet."""
        return CyclicClient(self._connection, self.carry_out(payloads))

    def carry_out_with(self, function: PayloadFunction) -> traffic_pb2.CyclicMessage:
        """With what the function makes of each state. Raises a BenchError."""
        return self.carry_out([function(data, counter) for data, counter in self.states])


class CyclicClient:
    """One message that the agent sends with a period. Thread-safe. Every method raises a BenchError."""

    def __init__(
        self, connection: Connection, wire: traffic_pb2.CyclicMessage, payload: PayloadFunction | None = None
    ) -> None:
        self._connection = connection
        self._payload = payload
        self.id = wire.id
        self.name = wire.message or f"frame 0x{wire.can_id & 0x1FFF_FFFF:X}"
        self.message = ""
        """Its name in the rest-bus that it belongs to; the number is then the rest-bus'."""

    @property
    def state(self) -> CyclicState:
        """How it is doing now. Asks the agent without changing anything."""
        return self._update()

    def set(self, signals: Mapping[str, object], *, force: bool = False) -> CyclicState:
        """Other values, from the next frame on. ``force``: also outside the DBC's bounds, as far as the bits go."""
        return self._update(signals=wired(signals), force=force)

    def set_data(self, data: bytes) -> CyclicState:
        """Other data of a raw frame, from the next frame on."""
        return self._update(data=data)

    def prepare(
        self, signals: Mapping[str, object] | None = None, data: bytes | None = None, *, force: bool = False
    ) -> Prepared:
        """A change of values for which the caller makes the payloads."""
        return Prepared(self._connection, self._request(signals=wired(signals or {}), data=data, force=force))

    def set_period(self, period_s: float) -> CyclicState:
        """Another period, from the next frame on."""
        return self._update(period_us=period_us(period_s))

    def stop(self) -> CyclicState:
        """No frame is on its way once this returns."""
        return self._update(running=False)

    def resume(self) -> CyclicState:
        """Goes on with a frame at once, where the counter stood."""
        return self._update(running=True)

    def freeze_counter(self) -> CyclicState:
        """The last frame is sent again and again."""
        return self._update(freeze_counter=True)

    def skip_counter(self, count: int) -> CyclicState:
        """Leaves out so many counter values, once."""
        return self._update(skip=count)

    def corrupt_checksum(self, mask: int = 1) -> CyclicState:
        """A wrong checksum: the right one XOR ``mask``."""
        return self.corrupt(checksum_xor=mask)

    def wrong_length(self, length: int) -> CyclicState:
        """So many bytes instead of the message's own length."""
        return self.corrupt(length=length)

    def corrupt(self, *, checksum_xor: int = 0, data_xor: bytes = b"", length: int | None = None) -> CyclicState:
        """Replaces all that was wrong before, a frozen counter excepted."""
        wire = traffic_pb2.Corrupted(checksum_xor=checksum_xor, data_xor=data_xor, length=length)
        return self._update(corrupted=wire)

    def heal(self) -> CyclicState:
        """Sound again, and the counter goes on. One that was stopped stays so."""
        return self._update(corrupted=traffic_pb2.Corrupted(), freeze_counter=False)

    def _update(self, **fields: object) -> CyclicState:
        update = self._request(**fields)
        if self._payload is not None and ("signals" in fields or "data" in fields):
            return from_wire(Prepared(self._connection, update).carry_out_with(self._payload))
        return from_wire(self._connection.ask(self._connection.traffic.UpdateCyclic, update))

    def _request(self, **fields: object) -> traffic_pb2.CyclicUpdate:
        try:
            return traffic_pb2.CyclicUpdate(id=self.id, message=self.message, **fields)  # type: ignore[arg-type]
        except (TypeError, ValueError) as error:
            raise InvalidRequest(f"{self.name}: {error}") from None


class RestBusClient:
    """The rest of a bus: every message of its DBC except those of some nodes. Every method raises a BenchError."""

    def __init__(self, connection: Connection, wire: traffic_pb2.RestBus) -> None:
        self._connection = connection
        self.id = wire.id
        self.bus = wire.bus
        self.messages = tuple(message.message for message in wire.messages)
        """What is sent, by period or on events."""
        self.begun = tuple(from_wire(message) for message in wire.messages)
        """The same messages, as they were at the start."""
        self.left_out = tuple((left.message, left.reason) for left in wire.left_out)
        """What is not, and why."""

    def message(self, name: str) -> CyclicClient:
        """One of its messages; a name that it does not have is refused at the first use."""
        client = CyclicClient(self._connection, traffic_pb2.CyclicMessage(id=self.id, message=name))
        client.message = name
        return client

    def set(self, name: str, signals: Mapping[str, object], *, force: bool = False) -> CyclicState:
        """Other values; a message that is sent on events is sent now."""
        return self.message(name).set(signals, force=force)

    def off(self, name: str) -> CyclicState:
        """Switches one message off."""
        return self.message(name).stop()

    def on(self, name: str) -> CyclicState:
        """Switches it on again."""
        return self.message(name).resume()

    def stop(self) -> None:
        """Ends all its messages: no frame is on its way once this returns."""
        self._connection.ask(self._connection.traffic.StopRestBus, traffic_pb2.RestBusStop(id=self.id))


@dataclass(frozen=True, slots=True)
class CycleTimes:
    """How regularly a message came: intervals between frames in s, from the frames' timestamps; 0 when there are none.

    ``frames`` were seen; there is one interval less.
    """

    frames: int
    shortest_s: float
    mean_s: float
    longest_s: float
    first_ns: int
    last_ns: int


def cyclic_request(
    bus: str,
    what: Frame | str,
    signals: Mapping[str, object],
    period_s: float | None,
    counter: AliveCounter | None,
    checksum: PayloadChecksum | None,
    *,
    force: bool,
) -> traffic_pb2.CyclicRequest:
    """Raises InvalidRequest."""
    try:
        request = traffic_pb2.CyclicRequest(
            bus=bus,
            period_us=0 if period_s is None else period_us(period_s),
            counter=counter_to_wire(counter),
            checksum=checksum_to_wire(checksum),
        )
        if isinstance(what, Frame):
            frames.check(what)
            request.frame.CopyFrom(frames.batch([what]))
        else:
            request.message.CopyFrom(bench_pb2.SignalMessage(name=what, signals=wired(signals), force=force))
    except (TypeError, ValueError) as error:
        raise InvalidRequest(str(error)) from None
    return request


def start_rest_bus(
    connection: Connection,
    bus: str,
    absent: Iterable[str],
    include: Iterable[str],
    except_messages: Iterable[str],
    protect: Mapping[str, tuple[AliveCounter | None, PayloadChecksum | None]],
    database: Path | None,
) -> RestBusClient:
    """Raises a BenchError and OSError."""
    content = b"" if database is None else database.read_bytes()
    if len(content) > MAX_DATABASE_BYTES:
        raise InvalidRequest(f"{database} has more than {MAX_DATABASE_BYTES >> 20} MiB, the most that an agent takes")
    if database is not None and not content:
        raise InvalidRequest(f"{database} is empty")
    try:
        request = traffic_pb2.RestBusRequest(
            bus=bus,
            absent=absent,
            include=include,
            except_messages=except_messages,
            protect={
                name: traffic_pb2.Protection(counter=counter_to_wire(counter), checksum=checksum_to_wire(checksum))
                for name, (counter, checksum) in protect.items()
            },
            database=content,
            database_name="" if database is None else database.name,
        )
    except (TypeError, ValueError) as error:
        raise InvalidRequest(str(error)) from None
    return RestBusClient(connection, connection.ask(connection.traffic.StartRestBus, request))


def from_wire(wire: traffic_pb2.CyclicMessage) -> CyclicState:
    """The state of a message."""
    corrupted = wire.corrupted
    return CyclicState(
        id=wire.id,
        bus=wire.bus,
        message=wire.message,
        can_id=wire.can_id,
        period_s=wire.period_us / 1e6 if wire.period_us else None,
        on_change=wire.on_change,
        running=wire.running,
        counter_frozen=wire.counter_frozen,
        corrupted=bool(corrupted.checksum_xor or corrupted.data_xor or corrupted.HasField("length")),
        in_kernel=wire.in_kernel,
        sent=wire.sent,
        failed=wire.failed,
        late=wire.late,
        error=wire.error,
    )


def wired(signals: Mapping[str, object]) -> dict[str, bench_pb2.Value]:
    """Signals for the wire. Raises InvalidRequest, naming the one that is no value."""
    for name, value in signals.items():
        if not isinstance(value, bool | int | float | str):
            raise InvalidRequest(f"signal {name}: a value is a number or a name, not {value!r}")
    try:
        return to_values(signals)
    except (TypeError, ValueError) as error:
        raise InvalidRequest(f"signals: {error}") from None


def period_us(period_s: float) -> int:
    """A period for the wire, in whole µs. Raises InvalidRequest unless it is at least 1 ms and at most an hour."""
    if not 0.001 <= period_s <= 3600:
        raise InvalidRequest(f"the period is {period_s:g} s; it must be 0.001 .. 3600")
    return round(period_s * 1e6)


def counter_to_wire(counter: AliveCounter | None) -> traffic_pb2.AliveCounter | None:
    """Raises ValueError for a number that cannot be."""
    if counter is None:
        return None
    return traffic_pb2.AliveCounter(
        signal=counter.signal,
        bits=_bits_to_wire(counter.bits),
        modulo=counter.modulo,
        first=counter.first,
        step=counter.step,
    )


def checksum_to_wire(checksum: PayloadChecksum | None) -> traffic_pb2.PayloadChecksum | None:
    """Raises ValueError for a number that cannot be."""
    if checksum is None:
        return None
    return traffic_pb2.PayloadChecksum(
        algorithm=checksum.algorithm,
        signal=checksum.signal,
        bits=_bits_to_wire(checksum.bits),
        first=checksum.first,
        last=checksum.last,
        initial=checksum.initial,
        xor_out=checksum.xor_out,
        data_ids=checksum.data_ids,
    )


def _bits_to_wire(bits: PayloadBits | None) -> traffic_pb2.PayloadBits | None:
    if bits is None:
        return None
    return traffic_pb2.PayloadBits(start=bits.start, length=bits.length, big_endian=bits.big_endian)
