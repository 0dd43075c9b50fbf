"""ISO-TP's coding and state machines alone, against can-isotp as an independent peer, and against nonsense."""

from collections import deque
from dataclasses import dataclass, field

import isotp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecu_adapters.isotp.codec import (
    FLOW_CONTROL,
    first_frame,
    flow_control,
    parse_first_frame,
    parse_flow_control,
    parse_single_frame,
    single_frame,
)
from ecu_adapters.isotp.errors import Failure
from ecu_adapters.isotp.receiver import FlowControlPolicy, Receiver
from ecu_adapters.isotp.sender import Sender
from ecu_adapters.transport import Fault

OUR_ID, PEER_ID = 0x7E0, 0x7E8
FRAME_LENGTHS = [8, 12, 16, 20, 24, 32, 48, 64]
PADDINGS = st.sampled_from([None, 0x00, 0xCC])


@dataclass
class Machines:
    """Both state machines of one end, on a clock of their own: what an endpoint does, without a loop."""

    frame_length: int = 8
    padding: int | None = 0xCC
    prefix: bytes = b""
    max_pdu: int = 100_000
    policy: FlowControlPolicy = field(default_factory=FlowControlPolicy)
    now: float = 0.0

    def __post_init__(self) -> None:
        self.sender = Sender(
            frame_length=self.frame_length, padding=self.padding, prefix=self.prefix, wait_frames=3, n_bs_s=1.0
        )
        self.receiver = Receiver(
            policy=self.policy, padding=self.padding, prefix=self.prefix, reply_prefix=self.prefix,
            max_pdu=self.max_pdu, n_cr_s=1.0,
        )  # fmt: skip
        self.outgoing: deque[bytes] = deque()
        self.outcomes: list[bytes | Failure] = []

    def send(self, pdu: bytes) -> None:
        frame = single_frame(pdu, self.frame_length, self.padding, self.prefix)
        self.outgoing.append(self.sender.start(pdu, self.now) if frame is None else frame)

    def take(self, data: bytes) -> None:
        at = len(self.prefix)
        if len(data) > at and data[at] >> 4 == FLOW_CONTROL:
            self._note(self.sender.take(data, self.now))
        else:
            self._note(self.receiver.take(data, self.now))
        self._collect()

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self._note(self.sender.expire(self.now))
        self._note(self.receiver.expire(self.now))
        self._collect()

    def _note(self, outcome: bytes | Failure | None) -> None:
        if outcome is not None:
            self.outcomes.append(outcome)

    def _collect(self) -> None:
        self.outgoing += self.receiver.replies
        self.receiver.replies.clear()
        if frames := self.sender.frames(self.now, 16):
            self.outgoing += frames
            self.sender.sent(self.now)


class Peer:
    """can-isotp's state machine."""

    def __init__(self, frame_length: int, padding: int | None, prefix: bytes, block_size: int) -> None:
        if prefix:
            mode = isotp.AddressingMode.Mixed_11bits
            address = isotp.Address(mode, txid=PEER_ID, rxid=OUR_ID, address_extension=prefix[0])
        else:
            address = isotp.Address(isotp.AddressingMode.Normal_11bits, txid=PEER_ID, rxid=OUR_ID)
        self.incoming: deque[isotp.CanMessage] = deque()
        self.outgoing: deque[bytes] = deque()
        self.errors: list[Exception] = []
        self.logic = isotp.TransportLayerLogic(
            rxfn=lambda _timeout: self.incoming.popleft() if self.incoming else None,
            txfn=lambda message: self.outgoing.append(bytes(message.data)),
            address=address,
            error_handler=self.errors.append,
            params={
                "tx_data_length": frame_length, "tx_padding": padding, "blocksize": block_size, "can_fd": True,
                "max_frame_size": 100_000, "wait_func": lambda _seconds: None,
            },
        )  # fmt: skip

    def take(self, data: bytes) -> None:
        self.incoming.append(isotp.CanMessage(arbitration_id=OUR_ID, dlc=len(data), data=data, is_fd=len(data) > 8))


def exchange(ours: Machines, peer: Peer) -> None:
    """Carries frames to and fro until nobody has any more."""
    while True:
        while ours.outgoing:
            peer.take(ours.outgoing.popleft())
        peer.logic.process()
        while peer.outgoing:
            ours.take(peer.outgoing.popleft())
        ours.pass_time(0)
        if not ours.outgoing and not peer.logic.transmitting() and not ours.sender.busy:
            return


@given(
    pdu=st.binary(min_size=1, max_size=400) | st.integers(4090, 6000).map(lambda n: bytes(n & 0xFF for n in range(n))),
    frame_length=st.sampled_from(FRAME_LENGTHS),
    padding=PADDINGS,
    prefix=st.sampled_from([b"", b"\x55"]),
    our_block=st.integers(0, 20),
    peer_block=st.integers(0, 20),
)
def test_what_one_implementation_sends_the_other_receives(
    pdu: bytes, frame_length: int, padding: int | None, prefix: bytes, our_block: int, peer_block: int
) -> None:
    ours = Machines(frame_length, padding, prefix, policy=FlowControlPolicy(block_size=our_block))
    peer = Peer(frame_length, padding, prefix, peer_block)
    ours.send(pdu)
    exchange(ours, peer)
    received = peer.logic.recv()
    assert received is not None
    assert bytes(received) == pdu
    peer.logic.send(pdu)
    exchange(ours, peer)
    assert ours.outcomes == [pdu]
    assert peer.errors == []


PCI = st.sampled_from([0x00, 0x02, 0x07, 0x08, 0x10, 0x1F, 0x20, 0x21, 0x22, 0x2F, 0x30, 0x31, 0x32, 0x3F, 0x40, 0xFF])
FRAMES = st.one_of(
    st.binary(max_size=64), st.builds(lambda pci, rest: bytes((pci,)) + rest, PCI, st.binary(max_size=63))
)
STEPS = st.lists(st.one_of(FRAMES, st.floats(0, 2), st.just("send")), max_size=40)


@given(steps=STEPS, prefix=st.sampled_from([b"", b"\x21"]), waits=st.integers(0, 2))
def test_nonsense_neither_raises_nor_jams(steps: list[bytes | float | str], prefix: bytes, waits: int) -> None:
    ours = Machines(prefix=prefix, max_pdu=5000, policy=FlowControlPolicy(waits=waits, wait_s=0.1))
    for step in steps:
        if isinstance(step, bytes):
            ours.take(step)
        elif isinstance(step, str):
            if not ours.sender.busy:
                ours.send(bytes(100))
        else:
            ours.pass_time(step)
        for machine in (ours.sender, ours.receiver):
            assert machine.due is not None or not machine.busy
    # Left alone, both give up within their time-outs, and the next PDU goes through.
    for _ in range(300):
        ours.pass_time(0.5)
    assert not ours.sender.busy
    assert not ours.receiver.busy
    ours.outgoing.clear()
    ours.outcomes.clear()
    peer = Machines(prefix=prefix)
    ours.send(bytes(50))
    peer.send(bytes(range(60)))
    for _ in range(100):
        while ours.outgoing:
            peer.take(ours.outgoing.popleft())
        while peer.outgoing:
            ours.take(peer.outgoing.popleft())
        ours.pass_time(0.01)
        peer.pass_time(0.01)
    assert ours.outcomes == [bytes(range(60))]
    assert peer.outcomes == [bytes(50)]


@given(st.binary(min_size=1, max_size=62), st.sampled_from(FRAME_LENGTHS), PADDINGS, st.sampled_from([b"", b"\x55"]))
def test_single_frames_come_back_as_they_went(pdu: bytes, length: int, padding: int | None, prefix: bytes) -> None:
    data = single_frame(pdu, length, padding, prefix)
    room = 7 - len(prefix) if length == 8 else max(7, length - 2) - len(prefix)
    if data is None:
        assert len(pdu) > room
    else:
        assert len(pdu) <= room
        assert len(data) in {*range(9), *FRAME_LENGTHS}
        assert len(data) <= length
        assert parse_single_frame(data, len(prefix)) == pdu


@given(st.integers(8, 70_000), st.sampled_from(FRAME_LENGTHS), st.sampled_from([b"", b"\x55"]))
def test_first_frames_come_back_as_they_went(size: int, length: int, prefix: bytes) -> None:
    pdu = bytes(size)
    if single_frame(pdu, length, None, prefix) is not None:
        return
    data, carried = first_frame(pdu, length, prefix)
    assert len(data) == length
    first = parse_first_frame(data, len(prefix))
    assert first is not None
    assert (first.length, len(first.data)) == (size, carried)


@pytest.mark.parametrize(
    ("coded", "stmin_s"),
    [(0, 0), (1, 0.001), (0x7F, 0.127), (0x80, 0.127), (0xF1, 0.0001), (0xF9, 0.0009), (0xFA, 0.127)],
)
def test_stmin_as_the_standard_codes_it(coded: int, stmin_s: float) -> None:
    control = parse_flow_control(flow_control(0, 0, coded, None))
    assert control is not None
    assert control.stmin_s == pytest.approx(stmin_s)


def test_a_sender_keeps_the_gap_and_the_block() -> None:
    ours = Machines()
    ours.send(bytes(100))
    ours.outgoing.clear()
    ours.take(flow_control(0, 3, 10, None))
    assert len(ours.outgoing) == 1
    ours.pass_time(0.009)
    assert len(ours.outgoing) == 1
    ours.pass_time(0.0011)
    ours.pass_time(0.0101)
    assert len(ours.outgoing) == 3
    ours.pass_time(0.5)
    assert len(ours.outgoing) == 3
    ours.take(flow_control(0, 0, 0, None))
    assert len(ours.outgoing) == 3 + 11
    assert not ours.sender.busy


def test_waiting_starts_the_time_anew_and_has_a_bound() -> None:
    ours = Machines()
    ours.send(bytes(100))
    for _ in range(3):
        ours.pass_time(0.9)
        ours.take(flow_control(1, 0, 0, None))
    assert ours.outcomes == []
    ours.take(flow_control(1, 0, 0, None))
    assert [outcome.kind for outcome in ours.outcomes if isinstance(outcome, Failure)] == [Fault.TOO_MANY_WAIT]


def test_an_interrupted_reception_gives_way_to_the_new_pdu() -> None:
    ours = Machines()
    for frame in ("1014620102030405", "2106070809", "037F2278", "1008010203040506", "21070800"):
        ours.take(bytes.fromhex(frame))
    assert ours.outcomes == [b"\x7f\x22\x78", bytes(range(1, 9))]
    assert (ours.receiver.interrupted, ours.receiver.ignored) == (1, 1)  # the short frame is none of that PDU


@pytest.mark.parametrize("end", ["sender", "receiver"])
def test_who_stood_still_waits_once_more_and_not_for_ever(end: str) -> None:
    near, far = Machines(), Machines()
    near.send(bytes(20))
    machine: Sender | Receiver = near.sender
    if end == "receiver":
        far.take(near.outgoing.popleft())
        machine = far.receiver
    machine.excuse(2.0)
    assert machine.expire(1.5) is None
    machine.excuse(3.0)
    failure = machine.expire(2.0)
    assert failure is not None
    assert failure.kind is (Fault.FC_TIMEOUT if end == "sender" else Fault.CF_TIMEOUT)
    machine.excuse(9.0)
    assert not machine.busy
