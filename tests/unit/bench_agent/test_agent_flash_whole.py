"""Four mebibytes through labctl, a real agent and CAN FD into the simulated ECU: all of it, or the exact place."""

import random
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from bench_agent.client import BenchClient
from ecu_adapters.isotp import IsoTpEndpoint
from ecu_adapters.simulator.memory import Range
from labd.cli.main import main
from tests.unit.bench_agent.harness import AgentFile, RunningAgent, Signer, bench_entry
from tests.unit.client.fake_labd import FakeLabd, make_bench

START = 0x0800_0000
SIZE = 4 << 20
BLOCK = 4095 - 2
ECU: dict[str, Any] = {
    "name": "ECM",
    "addressing": {"request_id": 0x7E0, "response_id": 0x7E8, "functional_id": 0x7DF},
    "timing": {"p2_ms": 50, "p2_star_ms": 500, "transit_ms": 950},
    "isotp": {"fd": True},
    "security": {1: {"algorithm": "xor", "key": "A5A5A5A5"}},
    "memory": {
        "max_block": 4095,
        "exit_crc": True,
        "regions": {
            "app": {
                "address": START, "size": SIZE, "fill": 0, "read": {},
                "write": {"session": ["programming"], "security": 1},
            },
        },
    },
    "routines": {
        "Erase": {
            "id": 0xFF00,
            "action": "erase",
            "access": {"session": ["programming"], "security": 1},
            "start": {
                "options": [
                    {"name": "address", "type": "uint", "length": 4}, {"name": "size", "type": "uint", "length": 4},
                ],
                "status": [{"name": "result", "type": "uint", "length": 1}],
            },
        },
    },
    "flash": {"session": "programming", "security": 1, "erase": "Erase", "resume": True},
}  # fmt: skip


@pytest.fixture
def agent_file(tmp_path: Path) -> AgentFile:
    (tmp_path / "ecm.yaml").write_text(yaml.safe_dump(ECU))
    return AgentFile(tmp_path, [bench_entry("bench-1", fd=True)])


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "app.bin"
    path.write_bytes(random.Random(3).randbytes(SIZE))  # noqa: S311 - no secret
    return path


def _labctl(running: RunningAgent, signer: Signer, *arguments: str) -> Result:
    with FakeLabd() as labd:
        labd.token = signer.token()
        labd.benches["bench-1"] = make_bench(address=running.address)
        return CliRunner().invoke(main, ["--labd", labd.url, *arguments], prog_name="labctl")


def _lose_a_frame(running: RunningAgent, bench: BenchClient, block: int, frame: int) -> None:
    """On the way to the ECU, once: consecutive frame ``frame`` of block ``block``, both from 1."""
    bench.ecu("ECM").raw(b"\x3e\x00")
    tenancy = running.agent.benches["bench-1"].tenancy
    assert tenancy is not None
    begun = consecutive = 0

    def pass_on(data: bytes) -> list[tuple[float, bytes]]:
        nonlocal begun, consecutive
        if data[0] >> 4 == 1 and data[2] == 0x36:
            begun, consecutive = begun + 1, 0
        consecutive += data[0] >> 4 == 2
        return [] if (begun, consecutive) == (block, frame) and data[0] >> 4 == 2 else [(0, data)]

    endpoint = tenancy._testers["ECM"][1]._endpoint
    assert isinstance(endpoint, IsoTpEndpoint)
    endpoint.frame_filter = pass_on


def _memory(running: RunningAgent) -> bytes:
    simulated = running.agent.benches["bench-1"]._nodes["ECM"].ecu
    assert simulated is not None
    return simulated.server.state.memory.read(Range(START, SIZE))


def _read(bench: BenchClient, offset: int, size: int) -> bytes:
    """As the ECU gives it out itself."""
    return (
        bench.ecu("ECM").raw(b"\x23\x44" + (START + offset).to_bytes(4, "big") + size.to_bytes(4, "big")).response[1:]
    )


def test_four_mebibytes_arrive_byte_by_byte(
    running: RunningAgent, signer: Signer, bench: BenchClient, image: Path
) -> None:
    result = _labctl(running, signer, "flash", "bench-1", "ECM", str(image), "--address", f"0x{START:X}")
    assert result.exit_code == 0
    assert f"app.bin, {SIZE} bytes" in result.stdout
    assert f"prepare at 0x{START:X}, 0 of {SIZE} bytes" in result.stderr
    content = image.read_bytes()
    assert _memory(running) == content
    assert _read(bench, SIZE - 4000, 4000) == content[-4000:]


def test_one_lost_frame_is_told_with_its_exact_place_and_then_made_good(
    running: RunningAgent, signer: Signer, bench: BenchClient, image: Path
) -> None:
    _lose_a_frame(running, bench, block=700, frame=19)
    flash = ("flash", "bench-1", "ECM", str(image), "--address", f"0x{START:X}")
    broken = _labctl(running, signer, *flash)
    content, place = image.read_bytes(), 699 * BLOCK
    # The first frame carries 62 bytes of the request, each consecutive one 63.
    before = 62 + 18 * 63
    follower = "24" + content[place + before + 63 - 2 :][:63].hex().upper()
    assert broken.exit_code == 2
    assert f"transfer at 0x{START + place:X}, block 700 of 1025 (counter 0xBC): TransferData" in broken.stderr
    assert "no response within P2 of 1000 ms (frame 7E0##1" in broken.stderr
    assert (
        f"the simulated ECU: consecutive frame 4 came instead of 3, after {before} of 4095 bytes "
        f"(frame 7E0##1{follower}); --resume goes on there" in broken.stderr
    )
    assert _memory(running)[place : place + BLOCK] == b"\xff" * BLOCK
    resumed = _labctl(running, signer, *flash, "--resume")
    assert resumed.exit_code == 0
    assert f"prepare at 0x{START + place:X}, {place} of {SIZE} bytes" in resumed.stderr
    assert "erase" not in resumed.stderr
    assert _memory(running) == content
