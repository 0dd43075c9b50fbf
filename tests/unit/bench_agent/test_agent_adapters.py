"""Drivers found by entry point: installed as pip does it, a module and a dist-info folder on the path."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bench_agent.client import BenchClient, DeviceFault, InvalidRequest, NotFound
from tests.running_time import running_time
from tests.unit.bench_agent.harness import AgentFile, RunningAgent, bench_entry
from tests.unit.scenarios.conftest import Play
from tests.unit.scenarios.conftest import play as play_script  # noqa: F401 - a fixture

DRIVER = '''
from pathlib import Path
import time
from pydantic import BaseModel
from ecu_adapters.adapter import Adapter, method


class Door(Adapter):
    class Config(BaseModel):
        diary: Path
        highest: int = 100

    def connect(self):
        self.note("connect")

    def note(self, text):
        with self.config.diary.open("a") as diary:
            diary.write(text + "\\n")

    @method
    def open(self, percent: int = 100) -> int:
        """Opens the door so far (%)."""
        if percent > self.config.highest:
            raise ValueError(f"{percent} % is more than the door can do")
        self.note(f"open {percent}")
        return percent

    @method
    def dawdle(self, seconds: float) -> None:
        time.sleep(seconds)

    @method
    def oddity(self) -> object:
        return object()

    def reset(self):
        self.note("reset")

    def disconnect(self):
        self.note("disconnect")
'''


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = tmp_path / "site"
    info = site / "lab_door-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "lab_door_for_tests.py").write_text(DRIVER)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: lab-door\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[labd.adapters]\ndoor = lab_door_for_tests:Door\nnone = lab_door_for_tests:method\n"
    )
    monkeypatch.syspath_prepend(site)


@pytest.fixture
def agent_file(tmp_path: Path, installed: None) -> Iterator[AgentFile]:
    entry = bench_entry("bench-1", ecus=False)
    entry["adapters"] = [{"name": "door", "driver": "door", "settings": {"diary": str(tmp_path / "diary")}}]
    yield AgentFile(tmp_path, [entry])


def test_methods_are_called_with_checked_arguments(bench: BenchClient, tmp_path: Path) -> None:
    door = bench.adapter("door")
    assert (door.call("open", 30), door.call("open", percent=40), door.call("open")) == (30, 40, 100)
    assert (tmp_path / "diary").read_text().split("\n")[:3] == ["connect", "open 30", "open 40"]
    assert [(one.signature, one.doc) for one in door.methods() if one.name == "open"] == [
        ("open(percent: int = 100)", "Opens the door so far (%).")
    ]
    with pytest.raises(InvalidRequest, match=r"open\(percent: int = 100\): percent: .*integer.*, not 'wide'"):
        door.call("open", "wide")
    with pytest.raises(InvalidRequest, match=r"has no argument 'percents'; did you mean percent\?"):
        door.call("open", percents=1)
    with pytest.raises(InvalidRequest, match="takes 1 arguments; 2 are given"):
        door.call("open", 1, 2)
    with pytest.raises(NotFound, match=r"no method 'opn'; did you mean open\?"):
        door.call("opn")
    with pytest.raises(NotFound, match="no method 'note'"):
        door.call("note", "not marked")
    with pytest.raises(NotFound, match=r"no adapter 'dor'; did you mean door\?"):
        bench.adapter("dor")


def test_a_device_that_fails_says_so_until_it_works_again(bench: BenchClient, running: RunningAgent) -> None:
    door = bench.adapter("door")
    with pytest.raises(DeviceFault, match=r"adapter door: open\(\) failed: 110 % is more than the door can do"):
        door.call("open", 110)
    assert "more than the door can do" in running.health("bench-1")
    door.call("open")
    assert running.health("bench-1") == ""
    with pytest.raises(DeviceFault, match="returned what cannot be sent"):
        door.call("oddity")


def test_a_device_that_takes_too_long_ends_in_its_deadline(bench: BenchClient) -> None:
    began = running_time()
    with pytest.raises(DeviceFault, match=r"dawdle\(\) took longer than 0\.1 s"):
        bench.adapter("door").call("dawdle", 1.0, timeout_s=0.1)
    assert running_time() - began < 1


def test_it_is_reset_for_the_next_holder(bench: BenchClient, running: RunningAgent, tmp_path: Path) -> None:
    bench.adapter("door").call("open")
    running.fence(1)
    assert (tmp_path / "diary").read_text().split() == ["connect", "open", "100", "reset"]


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ({"driver": "dor"}, "there is no adapter driver 'dor' in the entry points labd.adapters; did you mean door?"),
        ({"driver": "none"}, "is no class derived from Adapter"),
        ({"driver": "door", "settings": {}}, "adapter door: settings.diary: Field required"),
    ],
)
def test_a_driver_that_cannot_be_used_makes_the_bench_unhealthy(
    agent_file: AgentFile, request: pytest.FixtureRequest, entry: dict[str, object], reason: str
) -> None:
    agent_file.benches[0]["adapters"] = [{"name": "door", **entry}]
    running: RunningAgent = request.getfixturevalue("running")
    assert reason in running.health("bench-1")


def test_from_lua(bench: BenchClient, play_script: Play) -> None:  # noqa: F811
    played = play_script(
        """
        local test, bench = require("test"), require("bench")
        test.case("it", function()
          local door = bench.adapter("door")
          test.equal(door:open(30), 30)
          test.equal(door:open{ percent = 40 }, 40)
          test.equal(door:open(), 100)
          door:opn(1)
        end)
        """,
        bench=bench,
    )
    assert "no method 'opn'; did you mean open?" in played.failure["message"]
    assert played.case["steps"][0]["text"] == "door open(30)"
