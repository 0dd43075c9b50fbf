"""J1939's identifiers and transport protocol alone: nodes on a clock of their own, and faults between them."""

import heapq
import itertools
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ecu_adapters.j1939.codec import CONNECTION, DATA, Control
from ecu_adapters.j1939.errors import Abort, Failure, Fault
from ecu_adapters.j1939.identifier import GLOBAL, Identifier, IdentifierError, is_pdu1, pgn_of
from ecu_adapters.j1939.name import Name
from ecu_adapters.j1939.session import Frame
from ecu_adapters.j1939.settings import Settings
from ecu_adapters.j1939.transport import Event, Lost, Received, Sent, TransportProtocol

TESTER, ECM, TCU = 0xF9, 0x00, 0x03
PDU1_PGN, PDU2_PGN = 0xEF00, 0xFECA
WIRE_S = 0.0005
FOREVER_S = 600.0

Meddler = Callable[[int, Frame], Iterable[float]]
"""What becomes of the n-th frame: each number is a copy that arrives so many s late."""


def faithful(_number: int, _frame: Frame) -> Iterable[float]:
    return (0.0,)


def payload(length: int) -> bytes:
    return bytes((n * 7 + n // 251) & 0xFF for n in range(length))


@dataclass
class Network:
    """Nodes on one bus and one clock, which jumps from event to event."""

    addresses: tuple[int, ...] = (TESTER, ECM)
    settings: dict[int, Settings] = field(default_factory=dict)
    meddle: Meddler = faithful
    now: float = 0.0
    wire: list[Frame] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    happened: dict[int, list[Event]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.nodes = {a: TransportProtocol(a, self.settings.get(a, Settings())) for a in self.addresses}
        self.happened = {address: [] for address in self.addresses}
        self._flying: list[tuple[float, int, Frame]] = []
        self._order = itertools.count()

    def send(self, source: int, pgn: int, data: bytes, destination: int = GLOBAL) -> int:
        return self.nodes[source].send(pgn, data, destination, self.now)

    def put(self, frame: Frame) -> None:
        """On the wire, where faults strike."""
        number = len(self.wire)
        self.wire.append(frame)
        self.times.append(self.now)
        for late_s in self.meddle(number, frame):
            heapq.heappush(self._flying, (self.now + WIRE_S + late_s, next(self._order), frame))

    def run(self) -> None:
        """Until nothing is under way any more; fails when that takes for ever."""
        for _ in range(100_000):
            for address, node in self.nodes.items():
                self._note(address, node.advance(self.now))
            dues = [node.due for node in self.nodes.values() if node.due is not None]
            moments = dues + [at for at, _, _ in self._flying[:1]]
            if not moments:
                return
            assert self.now < FOREVER_S, "somebody stays busy for ever"
            self.now = max(self.now, min(moments))
            while self._flying and self._flying[0][0] <= self.now:
                frame = heapq.heappop(self._flying)[2]
                for address, node in self.nodes.items():
                    if address != frame.identifier.source and frame.identifier.destination in (address, GLOBAL):
                        self._note(address, node.take(frame, self.now))
        raise AssertionError("the nodes never stop talking")

    def received(self, address: int) -> list[Received]:
        return [event for event in self.happened[address] if isinstance(event, Received)]

    def failures(self, address: int) -> list[Failure]:
        return [e.failure for e in self.happened[address] if isinstance(e, Sent | Lost) and e.failure is not None]

    def controls(self) -> list[int]:
        """The control bytes of all connection management on the wire."""
        return [frame.data[0] for frame in self.wire if frame.identifier.pgn == CONNECTION]

    def _note(self, address: int, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, Frame):
                self.put(event)
            else:
                self.happened[address].append(event)


def is_packet(frame: Frame, number: int) -> bool:
    return frame.identifier.pgn == DATA and frame.data[0] == number


def is_control(frame: Frame, control: Control) -> bool:
    return frame.identifier.pgn == CONNECTION and frame.data[0] == control


def losing(wanted: Callable[[Frame], bool], times: int = 1) -> Meddler:
    left = [times]

    def meddle(_number: int, frame: Frame) -> Iterable[float]:
        if left[0] and wanted(frame):
            left[0] -= 1
            return ()
        return (0.0,)

    return meddle


# Identifiers


@pytest.mark.parametrize(
    ("can_id", "parts"),
    [
        (0x18FECA00, Identifier(0xFECA, 0x00, GLOBAL, 6)),  # DM1 of the engine
        (0x18EA00F9, Identifier(0xEA00, 0xF9, 0x00, 6)),  # a request of the tester to the engine
        (0x1CECFF03, Identifier(0xEC00, 0x03, GLOBAL, 7)),  # a broadcast announcement
        (0x0CF00400, Identifier(0xF004, 0x00, GLOBAL, 3)),  # EEC1
        (0x19F10A22, Identifier(0x1F10A, 0x22, GLOBAL, 6)),  # data page 1
    ],
)
def test_identifier_of_known_messages(can_id: int, parts: Identifier) -> None:
    assert Identifier.of(can_id) == parts
    assert parts.can_id == can_id


@given(st.integers(0, 0x1FFFFFFF))
def test_every_arbitration_id_goes_there_and_back(can_id: int) -> None:
    parts = Identifier.of(can_id)
    if can_id & 0xFF == 0xFF:
        assert parts is None
    else:
        assert parts is not None
        assert parts.can_id == can_id
        assert parts.pgn == pgn_of(can_id)
        assert is_pdu1(parts.pgn) or parts.destination == GLOBAL


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Identifier(0x40000, 0), "PGN is 0x40000; it must be 0x0 .. 0x3FFFF"),
        (lambda: Identifier(-1, 0), "PGN is -1; it must be 0x0 .. 0x3FFFF"),
        (lambda: Identifier(0xEA01, 0), "PGN is 0xEA01; of a PDU1 group .* must be 00, .* 0xEA00"),
        (lambda: Identifier(0xFECA, 0xFF), "source address is 0xFF; it must be 0x0 .. 0xFE"),
        (lambda: Identifier(0xEA00, 0, 256), "destination address is 0x100; it must be 0x0 .. 0xFF"),
        (
            lambda: Identifier(0xFECA, 0, 0x21),
            "destination address is 0x21, but PGN 0xFECA .* is always for all",
        ),
        (lambda: Identifier(0xFECA, 0, priority=8), "priority is 0x8; it must be 0x0 .. 0x7"),
        (lambda: Name(identity_number=1 << 21), "identity_number is 2097152; it must be 0 .. 2097151"),
        (lambda: Name.of(1 << 64), "NAME is 0x10000000000000000; it has 64 bits"),
    ],
)
def test_bad_part_is_named_with_what_would_be_right(make: Callable[[], object], message: str) -> None:
    with pytest.raises(IdentifierError, match=message):
        make()


@given(st.integers(0, (1 << 64) - 1))
def test_name_goes_there_and_back_save_its_reserved_bit(number: int) -> None:
    assert int(Name.of(number)) == number & ~(1 << 48)


# The transport protocol


@given(
    length=st.integers(9, 1785),
    to_all=st.booleans(),
    block=st.integers(1, 255),
    holds=st.integers(0, 2),
    spacing_s=st.sampled_from([0.0, 0.01]),
    pgn=st.sampled_from([PDU1_PGN, PDU2_PGN, 0x1F100]),
)
@example(1785, False, 255, 0, 0.0, PDU1_PGN)
@example(9, True, 1, 0, 0.0, PDU2_PGN)
def test_a_message_arrives_as_it_was_sent(
    length: int, to_all: bool, block: int, holds: int, spacing_s: float, pgn: int
) -> None:
    receiver = Settings(packets_per_cts=block, holds=holds)
    network = Network(settings={ECM: receiver, TESTER: Settings(packet_spacing_s=spacing_s)})
    destination = GLOBAL if to_all else ECM
    number = network.send(TESTER, pgn, payload(length), destination)
    network.run()
    assert network.received(ECM) == [Received(pgn, TESTER, destination, payload(length))]
    assert network.happened[TESTER] == [Sent(number, destination, None)]
    assert not any(node.busy for node in network.nodes.values())


def test_a_connection_looks_as_j1939_21_says() -> None:
    network = Network(settings={ECM: Settings(packets_per_cts=2, holds=1)})
    network.send(TESTER, PDU2_PGN, payload(20), ECM)
    network.run()
    assert [str(frame) for frame in network.wire] == [
        "1CEC00F9#10140003FFCAFE00",  # RTS: 20 bytes, 3 packets, any number of packets a CTS
        "1CECF900#1100FFFFFFCAFE00",  # CTS: hold
        "1CECF900#110201FFFFCAFE00",  # CTS: two packets from 1 on
        "1CEB00F9#0100070E151C232A",
        "1CEB00F9#0231383F464D545B",
        "1CECF900#1100FFFFFFCAFE00",
        "1CECF900#110103FFFFCAFE00",
        "1CEB00F9#03626970777E85FF",
        "1CECF900#13140003FFCAFE00",  # end of message
    ]


def test_packets_of_a_broadcast_are_50_ms_apart() -> None:
    network = Network()
    network.send(TESTER, PDU2_PGN, payload(30))
    network.run()
    assert network.controls() == [Control.BAM]
    gaps = [round(late - early, 6) for early, late in itertools.pairwise(network.times)]
    assert gaps == [0.05] * 5


def test_sessions_side_by_side_do_not_mix() -> None:
    """Broadcasts of all, connections both ways and to several nodes, and messages that wait for their turn."""
    network = Network((TESTER, ECM, TCU))
    wanted: dict[int, list[Received]] = {address: [] for address in network.addresses}
    for source, destination, pgn, length in [
        (TESTER, ECM, 0xEF00, 100), (TESTER, ECM, 0xEF00, 101), (ECM, TESTER, 0xEF00, 102), (TESTER, TCU, 0xEF00, 103),
        (TCU, TESTER, PDU2_PGN, 104), (TESTER, GLOBAL, PDU2_PGN, 105), (ECM, GLOBAL, PDU2_PGN, 106),
        (ECM, GLOBAL, 0xFEEC, 107),
    ]:  # fmt: skip
        network.send(source, pgn, payload(length), destination)
        for address in network.addresses:
            if address != source and destination in (address, GLOBAL):
                wanted[address].append(Received(pgn, source, destination, payload(length)))
    network.run()
    for address, messages in wanted.items():
        assert sorted(network.received(address), key=lambda m: len(m.data)) == messages
        assert not network.failures(address)


FAULTS = st.lists(
    st.tuples(st.integers(0, 60), st.sampled_from([(), (0.0, 0.0), (0.0, 0.004), (0.002,), (0.8,), (1.3,)])),
    max_size=6,
)


@settings(max_examples=300)
@given(length=st.integers(9, 400), to_all=st.booleans(), block=st.integers(1, 20), faults=FAULTS)
def test_lost_doubled_and_late_frames_never_bring_wrong_data(
    length: int, to_all: bool, block: int, faults: list[tuple[int, tuple[float, ...]]]
) -> None:
    """Whatever is lost, doubled or overtaken: each end finishes, with the right bytes or a failure that says why."""
    strike = dict(faults)
    network = Network(settings={ECM: Settings(packets_per_cts=block)}, meddle=lambda n, _frame: strike.get(n, (0.0,)))
    number = network.send(TESTER, PDU1_PGN, payload(length), GLOBAL if to_all else ECM)
    network.run()
    assert all(message.data == payload(length) for message in network.received(ECM))
    ends = [event for event in network.happened[TESTER] if isinstance(event, Sent)]
    assert [end.number for end in ends] == [number]
    if ends[0].failure is None and not to_all:
        assert network.received(ECM), "the sender was told that it arrived"
    assert all(failure.reason and failure.frame for failure in network.failures(ECM) + network.failures(TESTER))
    assert not any(node.busy for node in network.nodes.values())


@pytest.mark.parametrize("packet", [1, 7, 8, 15, 20])
def test_a_lost_packet_is_asked_for_again(packet: int) -> None:
    network = Network(
        settings={ECM: Settings(packets_per_cts=8)}, meddle=losing(lambda frame: is_packet(frame, packet))
    )
    network.send(TESTER, PDU1_PGN, payload(140), ECM)
    network.run()
    assert [message.data for message in network.received(ECM)] == [payload(140)]
    again = [frame.data for frame in network.wire if is_control(frame, Control.CTS)]
    assert packet in [data[2] for data in again]
    assert not network.failures(TESTER)


def test_a_packet_lost_for_good_is_given_up_by_both() -> None:
    network = Network(meddle=losing(lambda frame: is_packet(frame, 2), times=99))
    network.send(TESTER, PDU1_PGN, payload(30), ECM)
    network.run()
    [lost], [failed] = network.failures(ECM), network.failures(TESTER)
    assert (lost.kind, lost.reason) == (
        Fault.SEQUENCE, "packet 2 of 5 from 0xF9 is lost; 2 retransmissions were asked for",
    )  # fmt: skip
    assert (failed.kind, failed.code) == (Fault.ABORTED, Abort.RETRANSMISSIONS)
    assert failed.reason == "0x00 aborted: too many retransmissions were asked for (abort reason 5)"
    assert failed.frame == "1CECF900#FF05FFFFFF00EF00"


def test_a_gap_in_a_broadcast_loses_it() -> None:
    network = Network(meddle=losing(lambda frame: is_packet(frame, 2)))
    network.send(TESTER, PDU2_PGN, payload(30))
    network.run()
    [lost] = network.failures(ECM)
    assert (lost.kind, lost.reason) == (Fault.SEQUENCE, "packet 3 came from 0xF9 instead of 2, after 1 of 5")
    assert lost.frame.startswith("1CEBFFF9#03")


@pytest.mark.parametrize(
    ("lost", "who", "reason", "took_s"),
    [
        (lambda f: is_control(f, Control.RTS), TESTER,
         r"no CTS or acknowledgement from 0x00 within 1250 ms \(T3\) after 0 of 5", 1.25),
        (lambda f: is_control(f, Control.END), TESTER,
         r"no CTS or acknowledgement from 0x00 within 1250 ms \(T3\) after 5 of 5", 1.25),
        (lambda f: f.identifier.pgn == DATA, ECM,
         r"no data packet from 0xF9 within 1250 ms \(T2\) of the CTS for packet 1 of 5", 1.25),
    ],
)  # fmt: skip
def test_silence_ends_a_connection_in_time(lost: Callable[[Frame], bool], who: int, reason: str, took_s: float) -> None:
    network = Network(meddle=losing(lost, times=99))
    network.send(TESTER, PDU1_PGN, payload(30), ECM)
    network.run()
    failure = network.failures(who)[0]
    assert failure.kind is Fault.TIMEOUT
    assert re.search(reason, failure.reason), failure.reason
    assert network.now == pytest.approx(took_s, abs=0.01)
    assert Control.ABORT in network.controls()


def test_silence_after_a_hold_is_t4() -> None:
    """The second CTS is lost, so that the hold is the last that the sender hears."""
    seen: list[Frame] = []

    def meddle(_number: int, frame: Frame) -> Iterable[float]:
        seen.extend([frame] if is_control(frame, Control.CTS) else [])
        return () if len(seen) > 1 and is_control(frame, Control.CTS) else (0.0,)

    network = Network(settings={ECM: Settings(holds=1)}, meddle=meddle)
    network.send(TESTER, PDU1_PGN, payload(30), ECM)
    network.run()
    assert "within 1050 ms (T4) after 0 of 5" in network.failures(TESTER)[0].reason


def test_a_silent_broadcast_is_lost_after_t1() -> None:
    network = Network(meddle=losing(lambda frame: is_packet(frame, 5)))
    network.send(TESTER, PDU2_PGN, payload(30))
    network.run()
    [lost] = network.failures(ECM)
    assert lost.reason == "no data packet from 0xF9 within 750 ms (T1) after 4 of 5"


# A peer that does not keep to the rules


def from_peer(data: str, pgn: int = CONNECTION, source: int = ECM, destination: int = TESTER) -> Frame:
    return Frame(Identifier(pgn, source, destination, 7), bytes.fromhex(data))


def controls_of(events: list[Event]) -> list[str]:
    return [event.data.hex().upper() for event in events if isinstance(event, Frame)]


@pytest.mark.parametrize(
    ("answers", "kind", "abort"),
    [
        (["110106FFFF00EF00"], Fault.UNEXPECTED, "FF07FFFFFF00EF00"),  # CTS for a packet that there is not
        (["110103FFFF00EF00"], Fault.UNEXPECTED, "FF07FFFFFF00EF00"),  # CTS that leaves packets out
        (["131E0005FF00EF00"], Fault.UNEXPECTED, "FFFAFFFFFF00EF00"),  # acknowledged before it was sent
        (["FF01FFFFFF00EF00"], Fault.ABORTED, None),
    ],
)
def test_a_wrong_answer_ends_the_connection(answers: list[str], kind: Fault, abort: str | None) -> None:
    node = TransportProtocol(TESTER, Settings())
    node.send(PDU1_PGN, payload(30), ECM, 0.0)
    node.advance(0.0)
    events = [event for answer in answers for event in node.take(from_peer(answer), 0.01)]
    [end] = [event for event in events if isinstance(event, Sent)]
    assert end.failure is not None
    assert end.failure.kind is kind
    assert end.failure.frame == f"1CECF900#{answers[-1]}"
    assert controls_of(events) == ([abort] if abort else [])
    assert not node.busy


def test_a_cts_while_data_is_sent_aborts_with_reason_4() -> None:
    node = TransportProtocol(TESTER, Settings(packet_spacing_s=0.01))
    node.send(PDU1_PGN, payload(30), ECM, 0.0)
    node.advance(0.0)
    node.take(from_peer("110501FFFF00EF00"), 0.0)
    node.advance(0.0)
    events = node.take(from_peer("110501FFFF00EF00"), 0.005)
    assert controls_of(events) == ["FF04FFFFFF00EF00"]


def test_a_cts_before_the_first_packet_replaces_the_one_before() -> None:
    node = TransportProtocol(TESTER, Settings())
    node.send(PDU1_PGN, payload(30), ECM, 0.0)
    node.advance(0.0)
    node.take(from_peer("110501FFFF00EF00"), 0.0)
    node.take(from_peer("110201FFFF00EF00"), 0.0)
    assert [data[:2] for data in controls_of(node.advance(0.0))] == ["01", "02"]


def test_retransmissions_without_end_are_refused_with_reason_5() -> None:
    node = TransportProtocol(TESTER, Settings())
    node.send(PDU1_PGN, payload(30), ECM, 0.0)
    node.advance(0.0)
    answers = []
    for _ in range(4):
        answers += controls_of(node.take(from_peer("110501FFFF00EF00"), 0.0))
        answers += [data for data in controls_of(node.advance(0.0)) if data.startswith("FF")]
    assert answers == ["FF05FFFFFF00EF00"]


@pytest.mark.parametrize(
    ("announcement", "abort", "kind"),
    [
        ("10FA0700FF00EF00", "FF09FFFFFF00EF00", Fault.UNEXPECTED),  # 2042 bytes
        ("101E0004FF00EF00", "FFFAFFFFFF00EF00", Fault.UNEXPECTED),  # 30 bytes are not 4 packets
        ("10080002FF00EF00", "FFFAFFFFFF00EF00", Fault.UNEXPECTED),  # would have fitted a frame
    ],
)
def test_an_impossible_announcement_is_refused(announcement: str, abort: str, kind: Fault) -> None:
    node = TransportProtocol(TESTER, Settings())
    events = node.take(from_peer(announcement), 0.0)
    assert controls_of(events) == [abort]
    [lost] = [event for event in events if isinstance(event, Lost)]
    assert (lost.failure.kind, lost.source) == (kind, ECM)
    assert not node.busy


def test_a_second_message_of_the_same_node_is_refused_as_busy() -> None:
    node = TransportProtocol(TESTER, Settings())
    node.take(from_peer("101E0005FF00EF00"), 0.0)
    assert controls_of(node.take(from_peer("101E0005FFCAFE00"), 0.1)) == ["FF01FFFFFFCAFE00"]
    # The same group once more: the sender has begun anew.
    events = node.take(from_peer("10140003FF00EF00"), 0.2)
    assert [type(event) for event in events] == [Lost, Frame]
    assert node.busy


def test_sessions_beyond_the_limit_are_refused() -> None:
    node = TransportProtocol(TESTER, Settings(sessions=1))
    node.take(from_peer("101E0005FF00EF00"), 0.0)
    assert controls_of(node.take(from_peer("101E0005FF00EF00", source=TCU), 0.0)) == ["FF02FFFFFF00EF00"]


def test_a_packet_beyond_the_block_aborts_with_reason_7() -> None:
    node = TransportProtocol(TESTER, Settings(packets_per_cts=2))
    node.take(from_peer("101E0005FF00EF00"), 0.0)
    events = node.take(from_peer("0401020304050607", DATA), 0.0)
    assert controls_of(events) == ["FF07FFFFFF00EF00"]


def test_the_senders_limit_of_packets_is_kept() -> None:
    node = TransportProtocol(TESTER, Settings(packets_per_cts=16))
    assert controls_of(node.take(from_peer("101E00050300EF00"), 0.0)) == ["110301FFFF00EF00"]


@settings(max_examples=300)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([CONNECTION, DATA]),
            st.sampled_from([ECM, TCU]),
            st.sampled_from([TESTER, GLOBAL]),
            st.one_of(
                st.binary(max_size=8),
                st.tuples(st.sampled_from([16, 17, 19, 32, 255]), st.integers(0, 40), st.integers(0, 8)).map(
                    lambda parts: bytes((parts[0], parts[1], 0, parts[2], 255, 0x00, 0xEF, 0x00))
                ),
                st.integers(0, 8).map(lambda number: bytes((number, 1, 2, 3, 4, 5, 6, 7))),
            ),
            st.floats(0, 0.8),
        ),
        max_size=40,
    )
)
def test_nonsense_raises_nothing_and_leaves_nothing_busy(frames: list[tuple[int, int, int, bytes, float]]) -> None:
    node = TransportProtocol(TESTER, Settings(sessions=3))
    node.send(PDU1_PGN, payload(40), ECM, 0.0)
    now, ends = 0.0, 0
    for pgn, source, destination, data, pause_s in frames:
        now += pause_s
        events = node.advance(now) + node.take(Frame(Identifier(pgn, source, destination, 7), data), now)
        ends += sum(isinstance(event, Sent) for event in events)
    while node.due is not None:
        now = max(now, node.due)
        ends += sum(isinstance(event, Sent) for event in node.advance(now))
        assert now < FOREVER_S
    assert ends == 1
    assert not node.busy


def test_what_cannot_be_sent_is_refused() -> None:
    node = TransportProtocol(TESTER, Settings(queue=1))
    with pytest.raises(ValueError, match=r"data has 1786 bytes; the transport protocol carries 9 \.\. 1785"):
        node.send(PDU1_PGN, bytes(1786), ECM, 0.0)
    with pytest.raises(IdentifierError, match="destination address is 0xF9, the node's own"):
        node.send(PDU1_PGN, bytes(9), TESTER, 0.0)
    node.send(PDU1_PGN, bytes(9), ECM, 0.0)
    node.send(PDU1_PGN, bytes(9), ECM, 0.0)
    with pytest.raises(OverflowError, match="1 messages to 0x00 wait to be sent already"):
        node.send(PDU1_PGN, bytes(9), ECM, 0.0)


def test_a_withdrawn_message_is_aborted_and_the_next_one_goes() -> None:
    network = Network()
    first = network.send(TESTER, PDU1_PGN, payload(30), ECM)
    second = network.send(TESTER, PDU1_PGN, payload(31), ECM)
    network._note(TESTER, network.nodes[TESTER].withdraw(first, 0.0))
    network.run()
    assert network.happened[TESTER] == [Sent(second, ECM, None)]
    assert [message.data for message in network.received(ECM)] == [payload(31)]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"bam_spacing_s": 0.049}, r"bam_spacing_s is 0.049; it must be 0.05 \.\. 0.2"),
        ({"packet_spacing_s": 0.3}, r"packet_spacing_s is 0.3; it must be 0 \.\. 0.2"),
        ({"packets_per_cts": 0}, r"packets_per_cts is 0; it must be 1 \.\. 255"),
    ],
)
def test_bad_settings_are_named(fields: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Settings(**fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("end", ["originator", "responder", "listener"])
def test_who_stood_still_waits_once_more_and_not_for_ever(end: str) -> None:
    near, far = TransportProtocol(TESTER, Settings()), TransportProtocol(ECM, Settings())
    near.send(PDU1_PGN, payload(20), GLOBAL if end == "listener" else ECM, 0.0)
    (announced,) = near.advance(0.0)
    assert isinstance(announced, Frame)
    machine = near
    if end != "originator":
        far.take(announced, 0.0)
        machine = far
    machine.excuse(3.0)
    assert machine.advance(2.0) == []
    machine.excuse(9.0)
    events = machine.advance(3.0)
    (failure,) = [event.failure for event in events if isinstance(event, Sent | Lost)]
    assert failure is not None
    assert failure.kind is Fault.TIMEOUT
    assert not machine.busy


def test_what_this_node_paces_itself_is_not_put_off() -> None:
    node = TransportProtocol(TESTER, Settings())
    node.send(PDU2_PGN, payload(20), GLOBAL, 0.0)
    node.advance(0.0)
    node.excuse(9.0)
    assert node.due == Settings().bam_spacing_s
