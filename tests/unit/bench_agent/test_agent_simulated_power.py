"""The simulated supply of a bench and the simulated ECUs that hang on it, through a real agent."""

from pathlib import Path

import pytest

from bench_agent.client import BenchClient, ConsoleTimeout, NegativeResponse, UdsTimeout
from tests.unit.bench_agent.harness import AgentFile, OpenBench, RunningAgent, bench_entry
from tests.unit.bench_agent.test_agent_console import eventually

ECU = """
name: ECM
addressing: {request_id: 0x7E0, response_id: 0x7E8, functional_id: 0x7DF}
timing: {p2_ms: 50, transit_ms: 300}
dids:
  VIN: {did: 0xF190, type: ascii, length: 17, value: WVWZZZ1KZ6W000001}
  Inner: {did: 1, type: uint, length: 1, value: 7, read: {session: [extended]}}
dtcs: [{code: P0301, status: 0x2F}]
cyclic: [{message: EngineStatus, period_ms: 20}]
simulation:
  power: {kl30: battery, kl15: ignition, boot_ms: 50, draw: {run_a: 0.4, sleep_a: 0.001, ignition_a: 0.02}}
  console:
    prompt: "ECM> "
    boot: [{text: Boot ROM v1}, {text: Application starts, after_ms: 20}]
"""


@pytest.fixture
def agent_file(tmp_path: Path) -> AgentFile:
    entry = bench_entry("bench-1")
    (tmp_path / "ecm.yaml").write_text(ECU)
    entry["consoles"] = [{"name": "ecm", "port": "simulator:ECM"}]
    channels = {"battery": {"terminal": "kl30", "voltage": 13.5}, "ignition": {"terminal": "kl15"}}
    entry["power"] = [{"name": "supply", "driver": "simulated", "channels": channels, "poll_s": 60}]
    return AgentFile(tmp_path, [entry])


def test_without_power_the_ecu_is_silent_and_with_it_boots(bench: BenchClient, running: RunningAgent) -> None:
    ecm, kl30 = bench.ecu("ECM"), bench.power.channel("kl30")
    with pytest.raises(UdsTimeout):
        ecm.read("VIN")
    console = bench.console("ecm")
    console.open()
    kl30.on()
    bench.power.ignition(True)
    assert console.expect("ECM> ", 10).before == "Boot ROM v1\r\nApplication starts\r\n"
    eventually(lambda: kl30.measure().current == 0.4)  # booted
    assert ecm.read("VIN") == "WVWZZZ1KZ6W000001"
    assert bench.power.channel("kl15").measure().current == 0.02
    bench.power.ignition(False)
    assert kl30.measure().current == 0.001
    kl30.off()
    assert (kl30.measure().voltage, kl30.measure().current) == (0, 0)
    with pytest.raises(UdsTimeout):
        ecm.read("VIN")


def test_a_brown_out_resets_the_ecu_and_a_dip_does_not(bench: BenchClient) -> None:
    ecm, kl30 = bench.ecu("ECM"), bench.power.channel("kl30")
    console = bench.console("ecm")
    console.open()
    kl30.on()
    console.expect("ECM> ", 10)
    eventually(lambda: kl30.measure().current != 0.6)
    ecm.session("extended")
    kl30.profile("dip", [(0, 13.5), (20, 7), (40, 13.5)])
    assert ecm.read("Inner") == 7, "still in the extended session"
    kl30.profile("brown-out", [(0, 13.5), (20, 6), (1000, 6), (1020, 13.5)])
    console.expect("Boot ROM v1", 10)
    console.expect("ECM> ", 10)
    with pytest.raises(ConsoleTimeout):
        console.expect("Boot ROM v1", 0.2)


def test_over_current_switches_the_channel_off(bench: BenchClient) -> None:
    kl30 = bench.power.channel("kl30")
    kl30.on()
    kl30.set(current_limit=0.3)
    assert kl30.measure().voltage == 0
    with pytest.raises(UdsTimeout):
        bench.ecu("ECM").read("VIN")


def test_each_lease_finds_the_power_in_its_safe_state(open_bench: OpenBench, running: RunningAgent) -> None:
    bench = open_bench(epoch=1)
    bench.power.channel("kl30").on()
    running.fence(1)
    with pytest.raises(UdsTimeout):
        open_bench(epoch=2).ecu("ECM").read("VIN")


class TestWrongWiring:
    @pytest.fixture
    def agent_file(self, tmp_path: Path) -> AgentFile:
        entry = bench_entry("bench-1")
        (tmp_path / "ecm.yaml").write_text(ECU.replace("kl30: battery", "kl30: batery"))
        channels = {"battery": {"voltage": 13.5}, "ignition": {"voltage": 13.5}}
        entry["power"] = [{"name": "supply", "driver": "simulated", "channels": channels}]
        return AgentFile(tmp_path, [entry])

    def test_a_channel_that_is_not_there_is_named(self, running: RunningAgent) -> None:
        expected = (
            "simulated ECU ECM: simulation.power.kl30: no simulated power channel 'batery'; did you mean battery?"
        )
        assert expected in running.health("bench-1")


class TestMemoryThatCannotBeWritten:
    @pytest.fixture
    def agent_file(self, tmp_path: Path) -> AgentFile:
        code = "Code: {did: 2, type: uint, length: 1, write: {}}"
        text = ECU.replace("dids:", f"dids:\n  {code}").replace("simulation:", "simulation:\n  nvm: keep")
        (tmp_path / "ecm.yaml").write_text(text)
        return AgentFile(tmp_path, [bench_entry("bench-1")])

    def test_the_bench_says_so(self, bench: BenchClient, running: RunningAgent) -> None:
        ecm = bench.ecu("ECM")
        ecm.write("Code", 1)
        (state,) = running.file.data.rglob("state.json")
        state.unlink()
        state.mkdir()
        (state / "in the way").touch()
        with pytest.raises(NegativeResponse):
            ecm.write("Code", 2)
        assert "simulated ECU ECM: " in running.health("bench-1")
        assert "state.json" in running.health("bench-1")
        (state / "in the way").unlink()
        state.rmdir()
        ecm.write("Code", 3)
        assert running.health("bench-1") == ""
