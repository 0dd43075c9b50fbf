"""Cyclic messages through the whole agent: started, changed, spoilt, healed, and gone with the lease."""

import threading
import time
from collections.abc import Callable, Iterator

import can
import pytest
from crccheck.crc import Crc8SaeJ1850  # type: ignore[import-untyped]

from bench_agent.client import (
    AliveCounter,
    BenchClient,
    Frame,
    InvalidRequest,
    LeaseRefused,
    NotFound,
    PayloadBits,
    PayloadChecksum,
)
from tests.unit.bench_agent.harness import OpenBench, RunningAgent

WAIT_S = 30.0
CONTROL = 0x100
ALIVE, CRC = AliveCounter("Alive"), PayloadChecksum("crc8_j1850", "CRC", data_ids=(0x1A,))


class Listener:
    """Another node on the bus: what it receives with one ID."""

    def __init__(self, bus: can.BusABC, can_id: int) -> None:
        self._bus = bus
        self._id = can_id

    def next(self) -> can.Message:
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline:
            frame = self._bus.recv(WAIT_S)
            if frame is not None and frame.arbitration_id == self._id:
                return frame
        raise AssertionError("no such frame came in time")

    def until(self, holds: Callable[[can.Message], bool]) -> can.Message:
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline:
            frame = self.next()
            if holds(frame):
                return frame
        raise AssertionError("no frame that holds came in time")


@pytest.fixture
def node(running: RunningAgent) -> Iterator[can.BusABC]:
    with running.node() as bus:
        yield bus


@pytest.fixture
def heard(node: can.BusABC) -> Listener:
    return Listener(node, CONTROL)


def alive(frame: can.Message) -> int:
    return frame.data[6] & 0xF


def is_sound(frame: can.Message) -> bool:
    return len(frame.data) == 8 and bool(frame.data[7] == Crc8SaeJ1850.calc(bytes(frame.data[:7]) + b"\x1a"))


def test_alive_counter_and_checksum_on_the_bus(bench: BenchClient, heard: Listener) -> None:
    message = bench.bus("powertrain").cyclic(
        "EngineControl", {"TargetSpeed": 1500}, period_s=0.005, counter=ALIVE, checksum=CRC
    )
    counts = []
    for _ in range(20):
        frame = heard.next()
        assert is_sound(frame)
        assert int.from_bytes(frame.data[:2], "little") * 0.25 == 1500
        counts.append(alive(frame))
    assert counts == [index % 16 for index in range(20)]
    before = message.set({"TargetSpeed": 2000})
    frame = heard.until(lambda frame: frame.data[:2] == (8000).to_bytes(2, "little"))
    assert is_sound(frame)
    assert before.sent >= 20
    (state,) = bench.traffic()
    assert (state.message, state.period_s, state.running, state.failed) == ("EngineControl", 0.005, True, 0)


def test_each_way_of_going_wrong_and_back(bench: BenchClient, heard: Listener) -> None:
    message = bench.bus("powertrain").cyclic("EngineControl", period_s=0.003, counter=ALIVE, checksum=CRC)
    message.corrupt_checksum(0x55)
    wrong = heard.until(lambda frame: not is_sound(frame))
    assert wrong.data[7] ^ 0x55 == Crc8SaeJ1850.calc(bytes(wrong.data[:7]) + b"\x1a")
    message.wrong_length(3)
    assert len(heard.until(lambda frame: len(frame.data) != 8).data) == 3
    assert message.state.corrupted
    message.heal()
    heard.until(is_sound)

    message.freeze_counter()
    frozen = [alive(heard.next()) for _ in range(30)][-8:]
    assert len(set(frozen)) == 1
    assert message.state.counter_frozen
    message.heal()
    heard.until(lambda frame: alive(frame) == (frozen[0] + 1) % 16)
    assert alive(heard.next()) == (frozen[0] + 2) % 16

    steps, last = set(), alive(heard.next())
    message.skip_counter(5)
    while 6 not in steps:
        frame = heard.next()
        assert is_sound(frame)
        steps.add((alive(frame) - last) % 16)
        last = alive(frame)
    assert steps <= {1, 6}

    message.stop()
    sent = message.state.sent
    assert not message.state.running
    time.sleep(0.03)
    assert message.state.sent == sent
    message.resume()
    heard.until(is_sound)


def test_a_function_makes_the_payload_of_every_counter_state(bench: BenchClient, heard: Listener) -> None:
    asked: list[tuple[bytes, int]] = []

    def payload(data: bytes, counter: int) -> bytes:
        asked.append((data, counter))
        return data[:1] + bytes([counter, 0xA0 | counter])

    frame = Frame(0, CONTROL, 0, b"\x07")
    message = bench.bus("powertrain").cyclic(frame, period_s=0.003, counter=AliveCounter(modulo=3), payload=payload)
    assert asked == [(b"\x07", 0), (b"\x07", 1), (b"\x07", 2)]
    assert [bytes(heard.next().data) for _ in range(4)] == [
        b"\x07\x00\xa0",
        b"\x07\x01\xa1",
        b"\x07\x02\xa2",
        b"\x07\x00\xa0",
    ]
    message.set_data(b"\x09")
    assert asked[3:] == [(b"\x09", 0), (b"\x09", 1), (b"\x09", 2)]
    found = heard.until(lambda frame: frame.data[0] == 9)
    assert found.data[2] == 0xA0 | found.data[1]


def test_the_databases_cycle_time_is_the_default_period(bench: BenchClient) -> None:
    assert bench.bus("powertrain").cyclic("TransmissionStatus").state.period_s == 0.02
    message = bench.bus("powertrain").cyclic(Frame(0, 0x123, 0, b"\x01"), period_s=1.0)
    assert message.set_period(0.25).period_s == 0.25


def test_what_is_wrong_is_named_and_nothing_is_started(bench: BenchClient) -> None:
    bus = bench.bus("powertrain")
    for start, problem in (
        (lambda: bus.cyclic("EngineControl"), "EngineControl has no cycle time of its own; give a period"),
        (lambda: bus.cyclic(Frame(0, 0x123, 0, b"")), "a raw frame has no cycle time"),
        (lambda: bus.cyclic("EngineControl", {"TargetSped": 1}, period_s=0.01), "TargetSpeed"),
        (lambda: bus.cyclic("EngineControl", {"TargetSpeed": 9000}, period_s=0.01), "out of range 0 .. 8000 rpm"),
        (lambda: bus.cyclic("EngineControl", period_s=0.0001), "the period is 0.0001 s"),
        (lambda: bus.cyclic("EngineControl", period_s=0.01, counter=AliveCounter("Alife")), "Alive"),
        (lambda: bus.cyclic("EngineControl", period_s=0.01, checksum=PayloadChecksum("crc9", "CRC")), "crc8"),
        (lambda: bus.cyclic("EngineControl", period_s=0.01, checksum=PayloadChecksum("crc8", "Crc")), "CRC"),
        (
            lambda: bus.cyclic(Frame(0, 1, 0, b""), period_s=1, counter=AliveCounter(bits=PayloadBits(0, 4))),
            "outside the message's 0 bytes",
        ),
    ):
        with pytest.raises(InvalidRequest, match=problem):
            start()  # type: ignore[no-untyped-call]
    assert bench.traffic() == []


def test_a_refused_change_changes_nothing(bench: BenchClient) -> None:
    message = bench.bus("powertrain").cyclic("EngineControl", {"TargetSpeed": 1000}, period_s=0.005)
    with pytest.raises(InvalidRequest, match="makes no checksum"):
        message.corrupt(checksum_xor=1, length=2)
    with pytest.raises(InvalidRequest, match="out of range"):
        message.set({"TargetSpeed": 9000, "FanRequest": "High"})
    assert not message.state.corrupted
    found = bench.bus("powertrain")
    with pytest.raises(InvalidRequest, match="EngineControl is being sent on powertrain already"):
        found.cyclic("EngineControl", period_s=0.02)
    message.stop()
    other = found.cyclic("EngineControl", period_s=0.02)
    with pytest.raises(NotFound, match="was stopped or replaced"):
        message.resume()
    other.set({"TargetSpeed": 9000}, force=True)
    assert len(bench.traffic()) == 1


def test_no_frame_200_ms_after_the_end_of_the_lease(
    running: RunningAgent, open_bench: OpenBench, bench: BenchClient, node: can.BusABC
) -> None:
    for can_id in range(0x300, 0x330):
        bench.bus("powertrain").cyclic(Frame(0, can_id, 0, b"\x01"), period_s=0.002)
    heard = Listener(node, 0x300)
    heard.next()
    running.fence(2)
    fenced = time.time()
    late = []
    while time.time() < fenced + 0.5:
        frame = node.recv(0.05)
        if frame is not None and 0x300 <= frame.arbitration_id < 0x330 and frame.timestamp > fenced + 0.2:
            late.append(frame)
    assert late == []
    with pytest.raises(LeaseRefused):
        bench.traffic()
    deadline = time.monotonic() + WAIT_S
    while any(thread.name == "cyclic" for thread in threading.enumerate()):
        assert time.monotonic() < deadline, "the cyclic thread outlives its messages"
        time.sleep(0.01)
    assert open_bench(epoch=3).traffic() == []
