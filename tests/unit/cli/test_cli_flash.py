import hashlib
import json
from pathlib import Path

import pytest

from bench_agent.protocol import flash_pb2
from tests.unit.cli.conftest import Labctl
from tests.unit.cli.fake_agent import FakeAgent
from tests.unit.client.fake_labd import FakeLabd


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "app.bin"
    path.write_bytes(bytes(range(200)) * 5000)  # more than one message
    return path


def _broken(*, resumable: bool = True, nrc: int = 0) -> flash_pb2.FlashVerdict:
    at = flash_pb2.FlashProgress(
        phase="transfer", done=4096, total=1_000_000, address=0x08001000, block=5, blocks=977, rate=1000
    )
    verdict = flash_pb2.FlashVerdict(at=at, message="transfer at 0x8001000, block 5 of 977: gone", resumable=resumable)
    if nrc:
        verdict.nrc, verdict.nrc_name = nrc, "generalProgrammingFailure"
    else:
        verdict.transport, verdict.frame = "fc_timeout", "7E0#1014000000000000"
        verdict.lost, verdict.lost_frame = "consecutive frame 3 is missing", "7E0#2200000000000000"
    return verdict


def test_an_image_goes_up_whole_and_the_bench_is_released(
    labctl: Labctl, labd: FakeLabd, agent: FakeAgent, image: Path
) -> None:
    result = labctl("flash", "bench-1", "ECM", str(image), "--address", "0x08000000")
    assert result.exit_code == 0
    (start,) = agent.flash.starts
    assert (start.ecu, start.file_name, start.address, start.resume) == ("ECM", "app.bin", 0x0800_0000, False)
    assert agent.flash.images == [image.read_bytes()]
    assert start.sha256 == hashlib.sha256(image.read_bytes()).digest()
    assert "app.bin, 1000000 bytes" in result.stdout
    assert "488 KiB/s" in result.stdout
    assert "prepare at 0x8000, 0 of 1000000 bytes" in result.stderr
    assert labd.leases["lease-1"]["state"] == "ENDED"


def test_where_it_stopped_is_told(labctl: Labctl, labd: FakeLabd, agent: FakeAgent, image: Path) -> None:
    agent.flash.verdicts = [_broken()]
    result = labctl("flash", "bench-1", "ECM", str(image), "--address", "0")
    assert result.exit_code == 2
    assert (
        "Error: transfer at 0x8001000, block 5 of 977: gone (frame 7E0#1014000000000000); the simulated ECU: "
        "consecutive frame 3 is missing (frame 7E0#2200000000000000); --resume goes on there" in result.stderr
    )
    assert labd.leases["lease-1"]["state"] == "ENDED"


def test_a_refusal_ends_with_1_and_json_has_it_all(labctl: Labctl, agent: FakeAgent, image: Path) -> None:
    agent.flash.verdicts = [_broken(nrc=0x72, resumable=False)]
    result = labctl("flash", "bench-1", "ECM", str(image), "--address", "0", "-o", "json")
    assert result.exit_code == 1
    assert json.loads(result.stdout) == {
        "bench": "bench-1",
        "ecu": "ECM",
        "written": False,
        "message": "transfer at 0x8001000, block 5 of 977: gone",
        "phase": "transfer",
        "address": 0x08001000,
        "block": 5,
        "blocks": 977,
        "counter": 5,
        "bytes_done": 4096,
        "bytes_total": 1_000_000,
        "nrc": 0x72,
        "nrc_name": "generalProgrammingFailure",
        "transport": None,
        "frame": None,
        "lost": None,
        "lost_frame": None,
        "resumable": False,
    }


def test_resume_goes_on_until_it_is_done_or_stuck(labctl: Labctl, agent: FakeAgent, image: Path) -> None:
    agent.flash.verdicts = [_broken(), _broken()]
    result = labctl("flash", "bench-1", "ECM", str(image), "--address", "0", "--resume")
    assert result.exit_code == 0
    assert [start.resume for start in agent.flash.starts] == [True] * 3
    assert result.stderr.count("going on there") == 2
    agent.flash.verdicts = [_broken() for _ in range(5)]
    assert labctl("flash", "bench-1", "ECM", str(image), "--address", "0", "--resume").exit_code == 2
    assert not agent.flash.verdicts


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("bench-1", "TCM", "IMAGE"), 65, "no ECU 'TCM'; it has ECM"),
        (("bench-1", "ECM", "IMAGE", "--address", "here"), 64, "write it as 0x08000000"),
        (("bench-1", "ECM", "IMAGE", "--address", "-1"), 64, "is no address"),
        (("bench-1", "ECM", "absent.hex"), 64, "does not exist"),
    ],
)
def test_mistakes_cost_no_lease(
    labctl: Labctl, labd: FakeLabd, agent: FakeAgent, image: Path, arguments: tuple[str, ...], code: int, says: str
) -> None:
    result = labctl("flash", *(str(image) if word == "IMAGE" else word for word in arguments))
    assert (result.exit_code, labd.leases) == (code, {})
    assert says in result.stderr
