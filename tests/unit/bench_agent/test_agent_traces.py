"""Traces on disk: what is in them, what they are bounded by, and what a crash or a full disk leaves of them."""

import itertools
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import can
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench_agent.protocol import candump, frames
from bench_agent.protocol.frames import Frame
from bench_agent.server import blf, candump_lines, convert, trace_store
from bench_agent.server.bus_watch import Drops
from bench_agent.server.config import Traces
from bench_agent.server.recorder import Recorder, TraceCounts
from bench_agent.server.trace_store import folder, prune
from ecu_adapters.burst import Burst

BEGIN_NS = 1_700_000_000_123_000_000


@st.composite
def logged_frame(draw: st.DrawFn) -> Frame:
    extended, kind = draw(st.booleans()), draw(st.sampled_from(("data", "fd", "remote", "error")))
    identifier = draw(st.integers(0, frames.ID_MASK if extended else frames.STANDARD_ID_MASK))
    can_id = identifier | (frames.EXTENDED if extended else 0)
    # µs, the resolution of a candump log.
    stamp = BEGIN_NS + draw(st.integers(0, 10**9)) * 1000
    own = draw(st.sampled_from((0, frames.OWN)))
    if kind == "fd":
        length = draw(st.sampled_from(frames.FD_LENGTHS))
        flags = frames.FD | draw(st.sampled_from((0, 1, 2, 3)))
        return Frame(stamp, can_id, flags | own, draw(st.binary(min_size=length, max_size=length)))
    if kind == "remote":
        return Frame(stamp, can_id | frames.REMOTE, own, b"")
    if kind == "error":
        return Frame(stamp, frames.ERROR | 0x88, 0, draw(st.binary(min_size=8, max_size=8)))
    return Frame(stamp, can_id, own, draw(st.binary(max_size=8)))


@given(st.lists(logged_frame(), min_size=1, max_size=40))
def test_what_goes_into_a_blf_container_comes_out_again(listed: list[Frame]) -> None:
    chunk, _ = blf.container(convert.packed(listed), BEGIN_NS)
    # python-can hands times out as floats: some 0.2 µs are lost.
    back = [frame._replace(timestamp_ns=round(frame.timestamp_ns, -3)) for frame in blf.read(chunk, BEGIN_NS)]
    assert back == listed


@given(st.lists(logged_frame(), min_size=1, max_size=40))
def test_what_goes_into_a_candump_log_comes_out_again(listed: list[Frame]) -> None:
    assert candump.decode(candump_lines.encode(convert.packed(listed), "powertrain")) == listed


@given(st.lists(logged_frame().filter(lambda f: not f.can_id & (frames.ERROR | frames.REMOTE))))
def test_many_frames_become_the_lines_that_each_would(listed: list[Frame]) -> None:
    plain = [frame for frame in listed if not frame.flags & frames.FD]
    expected = "".join(candump.line(frame, "powertrain") for frame in plain)
    assert candump_lines.encode(convert.packed(plain), "powertrain").decode() == expected


@pytest.mark.parametrize("text", ["", "(1.0) bus 123", "(x) bus 123#11 R", "(1.0) bus 12G#11 R", "(1.0) bus 123#1 R"])
def test_a_line_that_is_none_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="no line of a candump log"):
        candump.decode(text.encode() + b"\n")


def message(number: int, *, at: float | None = None) -> can.Message:
    stamp = time.time() if at is None else at
    return can.Message(timestamp=stamp, arbitration_id=number, is_extended_id=True, data=b"\x11\x22")


def numbers(path: Path) -> list[int]:
    with can.LogReader(path) as reader:
        return [logged.arbitration_id for logged in reader]


def recorded(place: Path, suffix: str) -> list[int]:
    files = [path for _, path in trace_store.segments(place, "bus") if path.suffix == suffix]
    return list(itertools.chain.from_iterable(numbers(path) for path in files))


def test_both_formats_hold_every_frame_with_its_time(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, "bus", Traces(formats=["blf", "candump"]))
    began = time.time()
    sent = [message(number, at=began + number / 1000) for number in range(3000)]
    recorder.put(Burst(messages=sent))
    assert recorder.stop()
    for suffix in (".blf", ".log"):
        [path] = tmp_path.glob(f"bus-*{suffix}")
        with can.LogReader(path) as reader:
            back = list(reader)
        assert [logged.arbitration_id for logged in back] == list(range(3000))
        assert max(abs(got.timestamp - put.timestamp) for got, put in zip(back, sent, strict=True)) < 2e-6
    counts = json.loads((tmp_path / "bus.json").read_text())
    assert (counts["written"], counts["dropped"]) == (3000, 0)


def test_a_blf_header_tells_what_is_in_the_file(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, "bus", Traces(formats=["blf"]))
    recorder.put(Burst(messages=[message(number, at=1_900_000_000 + number) for number in range(10)]))
    assert recorder.stop()
    [path] = tmp_path.glob("*.blf")
    with can.BLFReader(path) as reader:
        assert (reader.object_count, reader.file_size) == (10, path.stat().st_size)
        assert reader.stop_timestamp == 1_900_000_009


def test_a_trace_that_keeps_the_oldest_counts_the_rest(tmp_path: Path) -> None:
    drops = Drops()
    settings = Traces(formats=["blf", "candump"], keep="oldest")
    recorder = Recorder(tmp_path, "bus", settings, max_bytes=50_000, on_drop=drops.add)
    for number in range(5000):
        recorder.put(Burst(messages=[message(number)]))
        if number % 500 == 0:
            assert recorder.sync(10)
    assert recorder.stop()
    counts = recorder.counts
    assert counts.written + counts.beyond_limit == 5000
    assert counts.beyond_limit > 500
    assert drops.take() == {"trace_full": counts.beyond_limit}
    assert recorded(tmp_path, ".log") == recorded(tmp_path, ".blf") == list(range(counts.written))


def test_a_trace_that_keeps_the_newest_stays_within_its_size(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, "bus", Traces(formats=["blf", "candump"]), max_bytes=100_000)
    for start in range(0, 40_000, 100):
        recorder.put(Burst(messages=[message(number) for number in range(start, start + 100)]))
        assert recorder.sync(10)
    assert recorder.stop()
    counts = recorder.counts
    assert counts.written == 40_000
    kept = recorded(tmp_path, ".blf")
    assert kept == recorded(tmp_path, ".log") == list(range(counts.overwritten, 40_000))
    assert len(kept) > 500
    assert sum(path.stat().st_size for path in tmp_path.glob("bus-*.*[!x]")) < 130_000


def test_a_trace_that_keeps_the_newest_stays_within_its_duration(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, "bus", Traces(formats=["blf", "candump"], max_duration_s=10))
    for second in range(100):
        recorder.put(Burst(messages=[message(second, at=1_900_000_000 + second)]))
        assert recorder.sync(10)
    assert recorder.stop()
    kept = recorded(tmp_path, ".log")
    assert kept[-1] == 99
    assert 10 <= len(kept) <= 13


def test_a_trace_that_keeps_the_oldest_ends_with_its_duration(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, "bus", Traces(formats=["blf", "candump"], max_duration_s=60, keep="oldest"))
    began = time.time()
    for minute in range(5):
        recorder.put(Burst(messages=[message(minute, at=began + 61 * minute)]))
        assert recorder.sync(10)
    assert recorder.stop()
    assert recorded(tmp_path, ".log") == [0, 1]
    assert recorder.counts.beyond_limit == 3


def test_frames_that_come_faster_than_the_disk_takes_them_are_counted(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, "bus", Traces(formats=["blf", "candump"]), queue=0)
    recorder.put(Burst(messages=[message(1)]))
    assert recorder.stop()
    assert recorder.counts == TraceCounts(dropped=1)


def test_an_agent_that_was_restarted_goes_on_with_the_trace(tmp_path: Path) -> None:
    for start in (0, 10):
        recorder = Recorder(tmp_path, "bus", Traces(formats=["blf", "candump"]))
        recorder.put(Burst(messages=[message(number) for number in range(start, start + 10)]))
        assert recorder.stop()
    assert recorder.counts.written == 20
    assert recorded(tmp_path, ".blf") == recorded(tmp_path, ".log") == list(range(20))


_FILL = """
import resource, signal, sys, time
from pathlib import Path
import can
from bench_agent.server.config import Traces
from bench_agent.server.recorder import Recorder
from ecu_adapters.burst import Burst
place, limit = Path(sys.argv[1]), int(sys.argv[2])
recorder = Recorder(place, "bus", Traces(formats=["blf", "candump"]), retry_s=0)
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
def put(start, count):
    recorder.put(Burst(messages=[
        can.Message(timestamp=time.time(), arbitration_id=n, is_extended_id=True, data=bytes(8))
        for n in range(start, start + count)
    ]))
    assert recorder.sync(10)
for start in range(0, 4000, 100):
    put(start, 100)
assert recorder.fault and "large" in recorder.fault, recorder.fault
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
put(4000, 1000)
assert recorder.fault is None, recorder.fault
assert recorder.stop()
counts = recorder.counts
assert counts.written + counts.failed == 5000 and counts.failed > 0, counts
print(counts.written)
"""


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="no RLIMIT_FSIZE here")
def test_a_disk_that_takes_no_more_costs_the_trace_only_until_it_takes_something_again(tmp_path: Path) -> None:
    # 100 candump lines have some 4 kB: the first chunk of every file fits, and half of the second must not stay behind.
    run = subprocess.run(
        [sys.executable, "-c", _FILL, str(tmp_path), "6000"], capture_output=True, text=True, timeout=60, check=False
    )
    assert run.returncode == 0, run.stderr
    for suffix in (".log", ".blf"):
        kept = recorded(tmp_path, suffix)
        assert kept[-1000:] == list(range(4000, 5000))
    assert not [path for path in tmp_path.glob("bus-*") if not path.stat().st_size]


_RECORD = """
import sys, time
from pathlib import Path
import can
from bench_agent.server.config import Traces
from bench_agent.server.recorder import Recorder
from ecu_adapters.burst import Burst
recorder = Recorder(Path(sys.argv[1]), "bus", Traces(formats=["blf", "candump"]))
number = 0
while True:
    recorder.put(Burst(messages=[
        can.Message(timestamp=time.time(), arbitration_id=n, is_extended_id=True, data=bytes(8))
        for n in range(number, number + 100)
    ]))
    number += 100
    if recorder.sync(10):
        print(number, flush=True)
"""


def test_what_was_recorded_is_readable_after_a_kill(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", _RECORD, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = 0
        while said < 2000:
            said = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
    for suffix in (".blf", ".log"):
        kept = recorded(tmp_path, suffix)
        assert kept == list(range(len(kept)))
        assert len(kept) >= said
    [blf_file] = tmp_path.glob("*.blf")
    with can.BLFReader(blf_file) as reader:
        first = next(iter(reader))
        assert abs(first.timestamp - time.time()) < 60


def test_only_whole_chunks_are_read_from_an_index_that_was_cut_off(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, "bus", Traces(formats=["candump"]))
    for number in range(3):
        recorder.put(Burst(messages=[message(number)]))
        assert recorder.sync(10)
    assert recorder.stop()
    [path] = tmp_path.glob("*.log")
    index = trace_store.index_path(path)
    assert len(trace_store.chunks(path)) == 3
    index.write_bytes(index.read_bytes()[:-1])
    assert len(trace_store.chunks(path)) == 2
    path.write_bytes(path.read_bytes()[:-60])
    assert len(trace_store.chunks(path)) == 1


def test_a_leases_name_cannot_leave_the_folder(tmp_path: Path) -> None:
    for lease in ("../../etc", "..", "", "a/b", "x" * 500, "\0"):
        assert folder(tmp_path, lease).parent == tmp_path


def old_traces(traces: Path) -> None:
    for age_s, name in ((30_000, "a"), (20_000, "b"), (10_000, "c")):
        place = traces / name
        place.mkdir()
        (place / "bus-0001.log").write_bytes(bytes(1000))
        stamp = time.time() - age_s
        os.utime(place, (stamp, stamp))


def test_the_oldest_traces_go_when_there_are_too_many(tmp_path: Path) -> None:
    old_traces(tmp_path)
    prune(tmp_path, 2000, keep=[tmp_path / "a"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "c"]


def test_traces_go_when_they_are_too_old(tmp_path: Path) -> None:
    old_traces(tmp_path)
    prune(tmp_path, 1 << 30, keep=[tmp_path / "a"], max_age_s=15_000)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "c"]
