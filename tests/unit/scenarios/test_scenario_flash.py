"""Flashing from Lua, played against a real agent with a simulated ECU."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import bincopy  # type: ignore[import-untyped]
import pytest
import yaml

from bench_agent.client import BenchClient
from ecu_adapters.simulator.memory import Range
from tests.unit.bench_agent.conftest import (  # noqa: F401 - fixtures
    bench,
    open_bench,
    running,
    signer,
    start_agent,
)
from tests.unit.bench_agent.harness import AgentFile, RunningAgent, bench_entry

if TYPE_CHECKING:
    from tests.unit.scenarios.conftest import Play

START = 0x0800_0000
HEAD = "local test, uds = require('test'), require('uds')\nlocal ecm = uds.ecu('ECM')\n"
ECU: dict[str, Any] = {
    "name": "ECM",
    "addressing": {"request_id": 0x7E0, "response_id": 0x7E8, "functional_id": 0x7DF},
    "timing": {"p2_ms": 50, "p2_star_ms": 500, "transit_ms": 450},
    "isotp": {"fd": True},
    "memory": {
        "max_block": 0x402,
        "regions": {"app": {"address": START, "size": 0x10000, "write": {"session": ["programming"]}}},
    },
    "flash": {"session": "programming", "resume": True},
}


@pytest.fixture
def agent_file(tmp_path: Path) -> AgentFile:
    (tmp_path / "ecm.yaml").write_text(yaml.safe_dump(ECU))
    return AgentFile(tmp_path, [bench_entry("bench-1", fd=True)])


def _image(data: bytes) -> bytes:
    image = bincopy.BinFile()
    image.add_binary(data, START)
    text: str = image.as_ihex()
    return text.encode()


def _memory(running: RunningAgent, size: int) -> bytes:  # noqa: F811
    ecu = running.agent.benches["bench-1"]._nodes["ECM"].ecu
    assert ecu is not None
    return ecu.server.state.memory.read(Range(START, size))


def _lose(running: RunningAgent, frame: int) -> None:  # noqa: F811
    from ecu_adapters.simulation import Fault

    ecu = running.agent.benches["bench-1"]._nodes["ECM"].ecu
    assert ecu is not None
    running.portal.call(ecu.faults.inject, Fault.model_validate({"kind": "lose_frame", "frame": frame, "times": 1}))


def test_an_image_that_came_with_the_run_is_flashed_with_progress(
    play: "Play",
    bench: BenchClient,  # noqa: F811
    running: RunningAgent,  # noqa: F811
) -> None:
    data = bytes(n * 7 & 0xFF for n in range(40_000))
    played = play(
        HEAD
        + """
        local seen = {}
        local written = ecm:flash{ file = "app.hex", progress = function(at)
          seen[at.phase] = true
          test.equal(at.total, 40000)
          if at.phase == "transfer" then
            test.equal(at.counter, at.block % 256)
            test.equal(at.blocks, 40)
          end
        end }
        test.equal(written.bytes, 40000)
        test.is_true(written.elapsed > 0 and written.rate > 0, "no time was taken")
        test.is_true(seen.prepare, "no preparation was told")
        """,
        bench=bench,
        data_files={"app.hex": _image(data)},
    )
    assert played.verdict == "passed", played.failure
    assert _memory(running, len(data)) == data


def test_where_it_stopped_is_in_the_error_and_resume_goes_on_there(
    play: "Play",
    bench: BenchClient,  # noqa: F811
    running: RunningAgent,  # noqa: F811
) -> None:
    data = bytes(n * 3 & 0xFF for n in range(20_000))
    _lose(running, 5)
    played = play(
        HEAD
        + f"""
        local ok, stopped = pcall(ecm.flash, ecm, {{ file = "app.bin", address = {START} }})
        test.equal(ok, false)
        test.equal(stopped.kind, "timeout")
        test.equal({{ stopped.phase, stopped.address, stopped.block, stopped.blocks, stopped.counter, stopped.done }},
          {{ "transfer", {START}, 1, 20, 1, 0 }})
        test.is_true(stopped.resumable, "it may go on")
        test.equal(stopped.lost, "consecutive frame 6 came instead of 5, after 314 of 1026 bytes")
        test.equal(stopped.lost_frame:sub(1, 8), "7E0##126")
        test.equal(stopped.frame:sub(1, 6), "7E0##1")
        test.equal(ecm:flash{{ file = "app.bin", address = {START}, resume = true }}.bytes, 20000)
        """,
        bench=bench,
        data_files={"app.bin": data},
    )
    assert played.verdict == "passed", played.failure
    assert _memory(running, len(data)) == data


def test_a_refusal_fails_the_test_with_its_code(play: "Play", bench: BenchClient) -> None:  # noqa: F811
    played = play(
        HEAD
        + f"""
        local image = {{ file = "app.bin", address = {START} }}
        ecm:flash(image)
        local ok, refused = pcall(ecm.flash, ecm, image) -- nothing erases what is there
        test.equal({{ refused.kind, refused.nrc, refused.nrc_name, refused.phase, refused.resumable }},
          {{ "negative_response", 0x70, "uploadDownloadNotAccepted", "request", false }})
        ecm:flash(image)
        """,
        bench=bench,
        data_files={"app.bin": bytes(100)},
    )
    assert played.verdict == "failed"
    assert "request at 0x8000000: RequestDownload refused" in played.failure["message"]
    assert played.failure["line"] == 9


def test_an_error_in_progress_stops_the_flashing(
    play: "Play",
    bench: BenchClient,  # noqa: F811
    running: RunningAgent,  # noqa: F811
) -> None:
    played = play(
        HEAD
        + f"""
        local ok, why = pcall(ecm.flash, ecm, {{ file = "app.bin", address = {START}, progress = error }})
        test.equal({{ ok, why.phase }}, {{ false, "prepare" }})
        test.equal(ecm:raw("3E00"), "7E00") -- nobody flashes it any more
        """,
        bench=bench,
        data_files={"app.bin": bytes(0x10000)},
    )
    assert played.verdict == "passed", played.failure
    assert b"\xff" in _memory(running, 0x10000)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("'app.bin'", "flash takes a table of arguments"),
        ("{}", "file is missing; it must be the name of a file that came with the run"),
        ("{ file = 'ap.bin' }", "did you mean 'app.bin'?"),
        ("{ file = '/etc/passwd' }", "no file '/etc/passwd' came with this run"),
        ("{ file = 'app.bin' }", "app.bin is a raw binary: it does not say where it belongs; give an address"),
        ("{ file = 'app.bin', address = -1 }", "address is -1; it must be a whole number such as 0x08000000"),
        ("{ file = 'app.bin', address = 1.5 }", "address is 1.5"),
        ("{ file = 'app.bin', address = '0x8000000' }", "address is a string; it must be a number"),
        ("{ file = 'app.bin', adress = 1 }", 'flash has no argument "adress"; it has file, address, resume'),
        ("{ file = 'app.bin', progress = 1 }", "progress is a number; it must be a function"),
        ("{ file = 'app.bin', address = 0x8000000, timeout = 0 }", "timeout is 0; it must be at least 1 ms"),
        ("{ file = 'app.bin', address = 0x9000000 }", "is outside the memory of ECM: app 0x8000000 .. 0x800FFFF"),
        ("{ file = 'cut.hex' }", "cut.hex:1: the end record (:00000001FF) is missing: the file is truncated"),
    ],
)
def test_mistakes_are_the_scripts(play: "Play", bench: BenchClient, arguments: str, says: str) -> None:  # noqa: F811
    files = {"app.bin": bytes(10), "cut.hex": b":04000000DEADBEEFC4"}
    played = play(f"{HEAD}ecm:flash({arguments})", bench=bench, data_files=files)
    assert played.verdict == "error"
    assert says in played.failure["message"]
    assert played.failure["line"] == 3


def test_a_flashing_is_bounded_by_its_timeout(
    play: "Play",
    bench: BenchClient,  # noqa: F811
    running: RunningAgent,  # noqa: F811
) -> None:
    played = play(
        HEAD + f'ecm:flash{{ file = "app.bin", address = {START}, timeout = "1ms" }}',
        bench=bench,
        data_files={"app.bin": bytes(0x10000)},
    )
    assert (played.verdict, played.failure["message"]) == ("failed", "app.bin was not flashed within its timeout")
