"""Traces of the lease, listed and fetched through the agent."""

from pathlib import Path

import can
import pytest

from bench_agent.client import BenchClient, InvalidRequest, LeaseRefused, NotFound
from bench_agent.protocol.frames import EXTENDED, FD, Frame
from tests.unit.bench_agent.harness import AgentFile, OpenBench, RunningAgent, Signer, StartAgent, bench_entry

FRAMES = [
    *(Frame(0, 0x100 + number, 0, bytes([number])) for number in range(100)),
    Frame(0, 0x123 | EXTENDED, FD, bytes(12)),
]


@pytest.fixture
def bench(open_bench: OpenBench) -> BenchClient:
    return open_bench(bench="bench-3")


@pytest.fixture
def agent_file(agent_file: AgentFile) -> AgentFile:
    agent_file.benches.append(bench_entry("bench-3", ecus=False, fd=True))
    return agent_file


def key(message: can.Message) -> tuple[int, bool, bytes]:
    return (message.arbitration_id, message.is_fd, bytes(message.data))


@pytest.mark.parametrize("suffix", [".blf", ".log", ".asc"])
def test_a_trace_is_fetched_in_any_format(bench: BenchClient, tmp_path: Path, suffix: str) -> None:
    bench.bus("powertrain").send(FRAMES)
    fetched = bench.traces.fetch("powertrain", tmp_path / f"t{suffix}")
    assert (fetched.frames, fetched.bytes) == (101, (tmp_path / f"t{suffix}").stat().st_size)
    with can.LogReader(tmp_path / f"t{suffix}") as reader:
        assert [key(message) for message in reader] == [
            (frame.arbitration_id, bool(frame.flags & FD), frame.data) for frame in FRAMES
        ]


@pytest.mark.parametrize(("stored", "wanted"), [("candump", ".blf"), ("blf", ".log")])
def test_a_format_that_is_not_stored_is_made(
    agent_file: AgentFile, start_agent: StartAgent, signer: Signer, tmp_path: Path, stored: str, wanted: str
) -> None:
    agent_file.settings["traces"] = {"formats": [stored]}
    running = start_agent()
    with BenchClient(running.address, "bench-3", signer.token("bench-3")) as bench:
        bench.bus("powertrain").send(FRAMES)
        bench.traces.fetch("powertrain", tmp_path / f"t{wanted}")
        assert bench.traces.list()[0].formats == (stored,)
    with can.LogReader(tmp_path / f"t{wanted}") as reader:
        assert [message.arbitration_id for message in reader] == [frame.arbitration_id for frame in FRAMES]


@pytest.mark.parametrize("suffix", [".blf", ".log"])
def test_only_the_frames_between_two_times_are_fetched(bench: BenchClient, tmp_path: Path, suffix: str) -> None:
    bus = bench.bus("powertrain")
    bus.send(FRAMES)
    after = bus.send(Frame(0, 0x200, 0, b""))
    bus.send(FRAMES)
    bench.traces.list()
    path = tmp_path / f"t{suffix}"
    # µs: what a candump log tells.
    middle_ns = after // 1000 * 1000
    later = bench.traces.fetch("powertrain", path, from_ns=middle_ns)
    earlier = bench.traces.fetch("powertrain", path, to_ns=middle_ns - 1000)
    assert later.frames + earlier.frames == 2 * len(FRAMES) + 1
    assert len(FRAMES) < later.frames < len(FRAMES) + 20
    assert bench.traces.fetch("powertrain", path, to_ns=1).frames == 0
    with can.LogReader(path) as reader:
        assert list(reader) == []


def test_a_fetched_blf_file_has_a_sound_header(bench: BenchClient, tmp_path: Path) -> None:
    for _ in range(3):
        bench.bus("powertrain").send(FRAMES)
        bench.traces.list()
    bench.traces.fetch("powertrain", tmp_path / "t.blf")
    with can.BLFReader(tmp_path / "t.blf") as reader:
        assert reader.object_count == 303
        assert reader.file_size == (tmp_path / "t.blf").stat().st_size
        stop = reader.stop_timestamp
        assert abs(stop - list(reader)[-1].timestamp) < 0.002


def test_the_list_counts_what_is_there(bench: BenchClient) -> None:
    [empty] = bench.traces.list()
    assert (empty.bus, empty.frames, empty.first_ns) == ("powertrain", 0, 0)
    before = bench.bus("powertrain").send(FRAMES)
    [trace] = bench.traces.list()
    assert (trace.frames, trace.formats, trace.fault) == (101, ("blf",), "")
    assert trace.first_ns <= before <= trace.last_ns
    assert (trace.dropped, trace.beyond_limit, trace.overwritten, trace.failed) == (0, 0, 0, 0)


def test_nobody_sees_the_trace_of_another_lease(
    running: RunningAgent, open_bench: OpenBench, bench: BenchClient, tmp_path: Path
) -> None:
    bench.bus("powertrain").send(FRAMES)
    running.fence(1, bench="bench-3")
    with pytest.raises(LeaseRefused):
        bench.traces.list()
    second = open_bench(bench="bench-3", epoch=2)
    assert second.traces.list()[0].frames == 0
    with pytest.raises(NotFound, match="powertrain has no trace yet"):
        second.traces.fetch("powertrain", tmp_path / "t.blf")
    assert not (tmp_path / "t.blf").exists()


def test_what_cannot_be_fetched_is_named(bench: BenchClient, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no bus 'body'; it has powertrain"):
        bench.traces.fetch("body", tmp_path / "t.blf")
    with pytest.raises(InvalidRequest, match="format is 'trc'; it must be one of blf, candump, asc"):
        bench.traces.fetch("powertrain", tmp_path / "t", file_format="trc")
    with pytest.raises(InvalidRequest, match="from_ns 5 is after to_ns 4"):
        bench.traces.fetch("powertrain", tmp_path / "t.blf", from_ns=5, to_ns=4)
    with pytest.raises(ValueError, match=r"t\.trc: its suffix means no format"):
        bench.traces.fetch("powertrain", tmp_path / "t.trc")


def test_a_traces_folder_that_cannot_be_written_is_told_and_costs_nothing_else(
    agent_file: AgentFile, start_agent: StartAgent, signer: Signer, tmp_path: Path
) -> None:
    agent_file.data.mkdir()
    (agent_file.data / "traces").write_text("a file where the folder should be")
    running = start_agent()
    with BenchClient(running.address, "bench-3", signer.token("bench-3")) as bench:
        bench.bus("powertrain").send(FRAMES)
        assert "traces" in bench.traces.list()[0].fault
        with pytest.raises(NotFound, match="traces"):
            bench.traces.fetch("powertrain", tmp_path / "t.blf")
