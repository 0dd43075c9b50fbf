"""Logs played on a bus: timing, speed, supply, damaged files."""

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import can
import pytest

from bench_agent.client import BenchClient, FrameFilter, InvalidRequest, LeaseRefused, LogError, NotFound
from bench_agent.client.log_file import read_log
from bench_agent.protocol.frames import EXTENDED, FD, Frame
from bench_agent.server.player import Player
from ecu_adapters.bus import BusError
from tests.unit.bench_agent.harness import AgentFile, OpenBench, RunningAgent, bench_entry

MS = 1_000_000


@pytest.fixture
def agent_file(agent_file: AgentFile) -> AgentFile:
    agent_file.benches.append(bench_entry("bench-3", ecus=False, fd=True))
    return agent_file


@pytest.fixture
def bench(open_bench: OpenBench) -> BenchClient:
    return open_bench(bench="bench-3")


def messages(count: int, every_s: float = 0.001) -> list[can.Message]:
    return [
        can.Message(timestamp=1000 + number * every_s, arbitration_id=0x100 + number % 16, is_extended_id=False,
                    data=number.to_bytes(4, "big"), channel=number % 2)
        for number in range(count)
    ]  # fmt: skip


def write(path: Path, listed: Sequence[can.Message]) -> Path:
    with can.Logger(path) as logger:
        for message in listed:
            logger(message)
    return path


def received(node: can.BusABC, count: int) -> list[can.Message]:
    got = [node.recv(10) for _ in range(count)]
    assert None not in got
    return [message for message in got if message is not None]


@pytest.mark.parametrize("suffix", [".blf", ".log", ".asc"])
def test_a_log_is_played_with_its_distances(
    bench: BenchClient, running: RunningAgent, tmp_path: Path, suffix: str
) -> None:
    path = write(tmp_path / f"drive{suffix}", messages(50, 0.004))
    with can.Bus(interface="virtual", channel=running.file.channel("bench-3")) as node:
        began = time.monotonic()
        progress = bench.bus("powertrain").replay(path)
        took = time.monotonic() - began
        got = received(node, 50)
    assert (progress.sent, progress.failed, progress.done) == (50, 0, True)
    assert progress.position_s == pytest.approx(0.196, abs=1e-5)
    assert [bytes(message.data) for message in got] == [number.to_bytes(4, "big") for number in range(50)]
    assert took >= 0.19
    assert got[-1].timestamp - got[0].timestamp >= 0.19 - progress.late_ms / 1000


def test_speed_and_loop(bench: BenchClient, running: RunningAgent, tmp_path: Path) -> None:
    path = write(tmp_path / "drive.log", messages(11, 0.1))
    with can.Bus(interface="virtual", channel=running.file.channel("bench-3")) as node:
        began = time.monotonic()
        progress = bench.bus("powertrain").replay(path, speed=10, loop=3)
        assert 0.3 <= time.monotonic() - began < 3
        assert len(received(node, 33)) == 33
    assert progress.position_s == pytest.approx(3.0, abs=1e-4)


def test_as_fast_as_possible_nothing_is_lost_however_long_the_log(bench: BenchClient, running: RunningAgent) -> None:
    frames = (Frame(number * 1000 * MS, number % 0x700, 0, b"") for number in range(40_000))
    assert bench.bus("powertrain").replay(frames, speed=0).sent == 40_000


def test_only_what_matches_is_played(bench: BenchClient, running: RunningAgent, tmp_path: Path) -> None:
    path = write(tmp_path / "drive.blf", messages(64))
    bus = bench.bus("powertrain")
    assert bus.replay(path, speed=0, filters=[FrameFilter(0x103, 0x7FF)]).sent == 4
    assert bus.replay(path, speed=0, channel="2").sent == 32
    assert bus.replay(path, speed=0, channel="2", filters=[FrameFilter(0x103, 0x7FF)]).sent == 4


def test_progress_is_told(bench: BenchClient) -> None:
    told: list[float] = []
    frames = [Frame(number * 100 * MS, 0x123, 0, b"") for number in range(11)]
    bench.bus("powertrain").replay(frames, on_progress=lambda progress: told.append(progress.position_s))
    assert len(told) >= 4
    assert told == sorted(told)
    assert told[-1] == 1.0


def test_frames_that_the_bus_refuses_are_counted(open_bench: OpenBench) -> None:
    bus = open_bench(bench="bench-2").bus("powertrain")
    frames = [Frame(0, 0x1, 0, b""), Frame(0, 0x2, FD, bytes(12)), Frame(0, 0x3, 0, b"")]
    progress = bus.replay(frames, speed=0)
    assert (progress.sent, progress.failed) == (2, 1)
    assert "CAN FD" in progress.error


def test_a_replay_ends_with_its_lease(bench: BenchClient, running: RunningAgent) -> None:
    frames = [Frame(number * MS, 0x55, 0, b"") for number in range(60_000)]
    with can.Bus(interface="virtual", channel=running.file.channel("bench-3")) as node:
        outcome: list[Exception] = []

        def replay() -> None:
            try:
                bench.bus("powertrain").replay(frames)
            except LeaseRefused as error:
                outcome.append(error)

        thread = threading.Thread(target=replay)
        thread.start()
        assert node.recv(10) is not None
        running.fence(1, bench="bench-3")
        while node.recv(0) is not None:
            pass
        assert node.recv(0.2) is None, "a frame after the lease's end"
        thread.join(10)
    assert outcome


def test_what_cannot_be_played_is_named(bench: BenchClient, tmp_path: Path) -> None:
    bus = bench.bus("powertrain")
    with pytest.raises(InvalidRequest, match=r"speed is -1; it must be 0 \.\. 1000"):
        bus.replay([Frame(0, 1, 0, b"")], speed=-1)
    with pytest.raises(FileNotFoundError):
        bus.replay(tmp_path / "none.blf")
    assert bus.replay([], speed=1).sent == 0


GARBAGE = bytes(number * number * 7 % 251 for number in range(1, 5000))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        (
            "a.log",
            b"(1.0) can0 123#11\n(1.1) can0 what?\n",
            r"a\.log:2: no line of a candump log: '\(1\.1\) can0 what\?'",
        ),
        ("a.log", b"(1.0) can0 123#112\n", r"a\.log:1: no line"),
        ("a.log", b"(1.0) can0 123#112233445566778899\n", r"a\.log:1: no frame.*9 bytes"),
        ("a.log", b"", "there is no frame in it"),
        ("a.log", GARBAGE, r"a\.log:1: no line"),
        ("a.blf", GARBAGE, r"a\.blf: damaged at byte 0"),
        ("a.blf", b"", r"a\.blf: cut off at byte 0"),
        ("a.asc", GARBAGE, r"a\.asc"),
        ("a.trc", b"", r"a\.trc: its suffix means no log that can be replayed; it must be one of \.blf, \.asc, \.log"),
    ],
)
def test_a_file_that_is_no_log_is_named_with_the_place(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(LogError, match=said):
        list(read_log(path))


def test_a_blf_file_that_was_cut_off_is_named_with_the_place(tmp_path: Path) -> None:
    path = write(tmp_path / "drive.blf", messages(5000))
    whole = path.read_bytes()
    for size in range(0, len(whole), len(whole) // 30):
        path.write_bytes(whole[:size])
        with pytest.raises(LogError, match=rf"drive\.blf: cut off at byte {size}"):
            list(read_log(path))


def test_a_damaged_blf_file_never_ends_in_anything_but_a_log_error(tmp_path: Path) -> None:
    path = write(tmp_path / "drive.blf", messages(500))
    whole = path.read_bytes()
    for place in range(0, len(whole), len(whole) // 200):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x5A]) + whole[place + 1 :])
        try:
            list(read_log(path))
        except LogError as error:
            assert "drive.blf" in str(error)


def test_a_damaged_log_ends_the_replay_with_its_error(bench: BenchClient, tmp_path: Path) -> None:
    path = tmp_path / "drive.log"
    path.write_text("(1.0) can0 123#11\n" * 10 + "garbage\n")
    with pytest.raises(LogError, match=r"drive\.log:11"):
        bench.bus("powertrain").replay(path)


class Port:
    def __init__(self, send: Callable[[can.Message], None] = lambda message: None) -> None:
        self.sent: list[can.Message] = []
        self._send = send

    def send(self, message: can.Message, timeout_s: float = 1.0) -> float:
        self._send(message)
        self.sent.append(message)
        return 0.0


def test_a_player_holds_back_whoever_supplies_it() -> None:
    gate, room, ended = threading.Event(), threading.Event(), threading.Event()
    port = Port(lambda _message: assert_(gate.wait(10)))
    player = Player(port, 0, room.set, ended.set, bound=10)
    assert player.offer(messages(9))
    assert not player.offer(messages(5))
    assert not room.is_set()
    gate.set()
    assert room.wait(10)
    player.complete()
    assert ended.wait(10)
    assert len(port.sent) == player.played.sent == 14


def test_a_player_without_supply_says_so_and_goes_on() -> None:
    ended = threading.Event()
    port = Port()
    player = Player(port, 0, lambda: None, ended.set)
    player.offer(messages(3))
    deadline = time.monotonic() + 10
    while not player.played.starved:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    player.offer(messages(3))
    player.complete()
    assert ended.wait(10)
    assert (player.played.sent, player.played.starved) == (6, 1)


def assert_(held: object) -> None:
    assert held


def test_a_bus_that_fails_is_counted_not_fatal() -> None:
    def refuse(message: can.Message) -> None:
        raise BusError("the bus is off")

    ended = threading.Event()
    player = Player(Port(refuse), 0, lambda: None, ended.set)
    player.offer(messages(3))
    player.complete()
    assert ended.wait(10)
    assert (player.played.sent, player.played.failed, player.played.error) == (0, 3, "the bus is off")


def test_extended_and_fd_frames_survive_the_log(bench: BenchClient, running: RunningAgent, tmp_path: Path) -> None:
    path = tmp_path / "drive.log"
    path.write_text("(5.0) can0 00000123#11 R\n(5.0) can0 123##3" + "AB" * 12 + "\n")
    first, second = (logged.frame for logged in read_log(path))
    assert first.can_id == 0x123 | EXTENDED
    with can.Bus(interface="virtual", channel=running.file.channel("bench-3")) as node:
        bench.bus("powertrain").replay(path)
        got = received(node, 2)
    assert [(m.arbitration_id, m.is_extended_id, m.is_fd, m.bitrate_switch) for m in got] == [
        (0x123, True, False, False),
        (0x123, False, True, True),
    ]
    assert len(second.data) == 12


def test_an_unknown_bus_is_refused(bench: BenchClient) -> None:
    with pytest.raises(NotFound):
        bench.bus("nope").replay([])
