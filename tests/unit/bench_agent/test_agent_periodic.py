"""Periodic values and events through the agent: as responses, and on an arbitration ID of their own."""

from pathlib import Path

import can
import pytest

from bench_agent.client import BenchClient
from tests.unit.bench_agent.harness import AgentFile, RunningAgent, bench_entry
from tests.unit.scenarios.conftest import Play
from tests.unit.scenarios.conftest import play as play_script  # noqa: F401 - a fixture

ECU = """
name: {name}
addressing: {{request_id: 0x{request:X}, response_id: 0x{response:X}}}
timing: {{p2_ms: 50, transit_ms: 5000}}
periodic: {{fast_ms: 20, {periodic}}}
dids:
  Speed: {{did: 0xF201, type: uint, length: 2, unit: rpm, value: {speed}, write: {{session: [extended]}}}}
  Load: {{did: 0xF202, type: uint, length: 1, unit: "%", value: 5}}
"""
ECUS = {"RESPONDS": "", "OWN": "response_id: 0x5E8", "LONG": "response_id: 0x18EF0010"}
SPEEDS = {"RESPONDS": 800, "OWN": 1500, "LONG": 2200}


@pytest.fixture
def agent_file(tmp_path: Path) -> AgentFile:
    entry = bench_entry("bench-1", ecus=False)
    for index, (name, periodic) in enumerate(ECUS.items()):
        numbers = {"request": 0x700 + index, "response": 0x708 + index, "speed": SPEEDS[name]}
        (tmp_path / f"{name}.yaml").write_text(ECU.format(name=name, periodic=periodic, **numbers))
        entry["ecus"].append({"file": f"{name}.yaml", "bus": "powertrain", "simulated": True})
    return AgentFile(tmp_path, [entry])


def test_each_ecus_values_come_by_its_own_way(bench: BenchClient) -> None:
    for name in ECUS:
        ecu = bench.ecu(name)
        ecu.session("extended")
        ecu.start_periodic("Speed", 0xF202, rate="fast")
    for name in ECUS:
        ecu = bench.ecu(name)
        values = ecu.collect_periodic(6, wait_s=20)
        assert {(one["name"], one["value"], one["unit"], one["raw"]) for one in values} == {
            ("Speed", SPEEDS[name], "rpm", SPEEDS[name].to_bytes(2, "big")),
            ("Load", 5, "%", b"\x05"),
        }
        assert ecu.read("Speed") == SPEEDS[name]  # a request in between is not mistaken
        ecu.stop_periodic("Load")
        ecu.collect_periodic(wait_s=0)
        assert {one["name"] for one in ecu.collect_periodic(3, wait_s=20)} == {"Speed"}
        ecu.stop_periodic()
        ecu.collect_periodic(wait_s=0)
        assert ecu.collect_periodic(wait_s=0) == []
        assert ecu.dropped() == {"events": 0, "periodic": 0}


def test_a_frame_of_its_own_may_be_padded(bench: BenchClient, running: RunningAgent) -> None:
    own = bench.ecu("OWN")
    assert own.read("Speed") == 1500
    with running.node() as node:
        for data in ("0203CCCCCCCCCCCC", "EE0102", ""):
            node.send(can.Message(arbitration_id=0x5E8, is_extended_id=False, data=bytes.fromhex(data)))
    first, second = own.collect_periodic(2, wait_s=20)
    assert (first["name"], first["value"], first["raw"]) == ("Load", 3, b"\x03")
    assert (second["name"], second["value"]) == ("0xF2EE", b"\x01\x02")  # not described: the bytes as they came


def test_more_than_the_agent_keeps_is_counted(bench: BenchClient, running: RunningAgent) -> None:
    own = bench.ecu("OWN")
    assert own.read("Speed") == 1500
    with running.node() as node:
        for number in range(1200):
            data = bytes((1,)) + number.to_bytes(2, "big")
            node.send(can.Message(arbitration_id=0x5E8, is_extended_id=False, data=data))
        node.send(can.Message(arbitration_id=0x709, is_extended_id=False, data=bytes.fromhex("0562F2010007")))
    assert own.events(wait_s=20)[0]["value"] == 7  # it came behind all of them, and was not driven out
    assert own.dropped() == {"events": 0, "periodic": 200}
    kept = own.collect_periodic(1000, wait_s=20)
    assert [one["value"] for one in kept] == list(range(200, 1200))


def test_events_of_several_ecus(bench: BenchClient) -> None:
    for name in ECUS:
        ecu = bench.ecu(name)
        ecu.session("extended")
        ecu.call("response_on_event", event="did_change", did="Speed", respond="22F201")
        ecu.call("response_on_event", event="start")
        ecu.start_periodic("Load", rate="fast")
    for offset, name in enumerate(ECUS):
        bench.ecu(name).write("Speed", 3000 + offset)
    for offset, name in enumerate(ECUS):
        (event,) = bench.ecu(name).events(wait_s=20)
        assert (event["service_name"], event["name"], event["value"]) == (
            "ReadDataByIdentifier",
            "Speed",
            3000 + offset,
        )


@pytest.mark.parametrize("name", ECUS)
def test_periodic_values_in_lua(bench: BenchClient, play_script: Play, name: str) -> None:  # noqa: F811
    played = play_script(
        f"""
        local test, uds = require("test"), require("uds")
        test.case("periodic", function()
          local ecu = uds.ecu("{name}")
          ecu:session("extended")
          ecu:periodic{{ dids = {{ "Speed" }}, rate = "fast" }}
          local values = ecu:collect{{ count = 3, timeout = "20s" }}
          test.is_true(#values >= 3)
          test.equal(values[1].name, "Speed")
          test.equal(values[1].value, {SPEEDS[name]})
          test.equal(values[1].unit, "rpm")
          test.is_true(values[2].at > values[1].at)
          ecu:stop_periodic()
          test.equal(ecu:dropped(), {{ events = 0, periodic = 0 }})
        end)
        """,
        bench=bench,
    )
    assert played.verdict == "passed", played.failure
