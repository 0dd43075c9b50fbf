"""Every example scenario, and the issue's, on both demo benches: labd, agent, runner and simulated ECU as processes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import scenarios
from deploy.demo.lab import DEMO_AGENT, running_lab
from labd.client import LabClient
from labd.client.types import Run

EXAMPLES = sorted((Path(scenarios.__file__).parent / "examples").glob("*.lua"))

FIRST_SCENARIO = """
local test, uds, can = require("test"), require("uds"), require("can")

test.case("the ECU names itself", function()
  local ecm = uds.ecu("ECM")
  ecm:session("extended")
  test.equal(ecm:read("VIN"), "WVWZZZ1KZ6W000001")
end)

test.case("engine speed follows the request", function()
  local bus = can.bus("powertrain")
  bus:send("EngineControl", { TargetSpeed = 1500 })
  bus:expect("EngineStatus", { EngineSpeed = test.within(1500, 50) }, "2s")
end)
"""


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabClient]:
    with running_lab(tmp_path_factory.mktemp("lab"), DEMO_AGENT) as lab, lab.client() as lab_client:
        lab.wait_for_benches("bench-1", "bench-2")
        yield lab_client


def run(client: LabClient, script: str, bench: str) -> tuple[Run, list[str]]:
    started = client.create_run(script=script, selector=f"name={bench}", holder="test", timeout_s=30)
    lines = [line["text"] for line in client.follow_log(started["id"])]
    return client.run(started["id"]), lines


def test_there_are_five_examples() -> None:
    assert len(EXAMPLES) >= 5


@pytest.mark.parametrize("bench", ["bench-1", "bench-2"])
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_passes(client: LabClient, path: Path, bench: str) -> None:
    ended, lines = run(client, path.read_text(), bench)
    assert ended["state"] == "PASSED", "\n".join([ended["reason"], *lines])


def test_negative_responses_can_be_run_again_and_again(client: LabClient) -> None:
    """Between leases the agent makes its simulated ECUs new, wrong keys forgotten; other ECUs remember them.

    Four times in one lease is four runs against an ECU that remembers: a third wrong key would lock it out.
    """
    (path,) = (path for path in EXAMPLES if path.stem == "negative_responses")
    ended, lines = run(client, f"do\n{path.read_text()}\nend\n" * 4, "bench-1")
    assert ended["state"] == "PASSED", "\n".join([ended["reason"], *lines])
    cases = [case["name"] for case in client.result(ended["id"])["cases"]]
    assert cases.count("a wrong key is invalid") == 4


def test_the_first_scenario_passes(client: LabClient) -> None:
    ended, lines = run(client, FIRST_SCENARIO, "bench-1")
    assert ended["state"] == "PASSED", "\n".join([ended["reason"], *lines])
    result = client.result(ended["id"])
    assert [step["text"] for step in result["cases"][0]["steps"]][1].startswith("ECM read VIN: 22F190 -> 62F190")


def test_a_failure_shows_the_last_frames_of_the_bus(client: LabClient) -> None:
    script = """
        local test, can = require("test"), require("can")
        test.case("too fast", function()
          can.bus():expect("EngineStatus", { EngineSpeed = test.above(7000) }, "100ms")
        end)
    """
    ended, _ = run(client, script, "bench-1")
    assert ended["state"] == "FAILED"
    assert "no EngineStatus met the conditions within 100 ms" in ended["reason"]
    (case,) = client.result(ended["id"])["cases"]
    assert case["failure"] is not None
    assert case["failure"]["line"] == 4
    assert {frame["frame"][:4] for frame in case["frames"]} >= {"200#"}
    assert case["frames"] == sorted(case["frames"], key=lambda frame: frame["time"])
