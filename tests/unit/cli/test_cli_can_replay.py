from pathlib import Path

import pytest

from tests.unit.cli.conftest import Labctl
from tests.unit.cli.fake_agent import FakeAgent
from tests.unit.client.fake_labd import FakeLabd

LOG = "(1.000000) can0 123#11\n(1.500000) can1 456#22\n(2.000000) can0 7E8#33\n"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "drive.log"
    path.write_text(LOG)
    return path


def test_a_log_is_played_and_the_bench_released(labctl: Labctl, labd: FakeLabd, agent: FakeAgent, log: Path) -> None:
    result = labctl("can", "replay", "bench-1", "powertrain", str(log), "--speed", "2")
    assert result.exit_code == 0
    assert "3 frames sent, 0 refused, at most 0.0 ms late" in result.stderr
    assert [(opened.bus, opened.speed) for opened in agent.replay.opened] == [("powertrain", 2.0)]
    assert [frame.timestamp_ns // 1_000_000 for frame in agent.replay.played] == [0, 500, 1000]
    assert labd.leases["lease-1"]["state"] == "ENDED"


def test_parts_of_a_log_are_played_several_times(labctl: Labctl, agent: FakeAgent, log: Path) -> None:
    arguments = ("--channel", "can0", "--filter", "7E8", "--loop", "2", "--as-fast-as-possible")
    assert labctl("can", "replay", "bench-1", "powertrain", str(log), *arguments).exit_code == 0
    assert agent.replay.opened[0].speed == 0
    assert [(frame.can_id, frame.timestamp_ns) for frame in agent.replay.played] == [
        (0x7E8, 1_000_000_000),
        (0x7E8, 2_000_000_000),
    ]


def test_frames_that_the_bus_refused_make_it_fail(labctl: Labctl, agent: FakeAgent, log: Path) -> None:
    agent.replay.end.failed, agent.replay.end.error = 1, "the bus is off"
    result = labctl("can", "replay", "bench-1", "powertrain", str(log))
    assert result.exit_code == 1
    assert "2 frames sent, 1 refused" in result.stderr
    assert "the bus did not take 1 frames: the bus is off" in result.stderr


def test_a_damaged_log_is_named_with_the_place(labctl: Labctl, labd: FakeLabd, agent: FakeAgent, log: Path) -> None:
    log.write_text(LOG + "what?\n")
    result = labctl("can", "replay", "bench-1", "powertrain", str(log))
    assert result.exit_code == 65
    assert f"{log}:4: no line of a candump log: 'what?'" in result.stderr
    assert labd.leases["lease-1"]["state"] == "ENDED"
