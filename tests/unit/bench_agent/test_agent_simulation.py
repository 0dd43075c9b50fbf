"""Control of simulated ECUs at run time, through a real agent: from Python and from Lua."""

from collections.abc import Callable
from pathlib import Path

import pytest

from bench_agent.client import (
    BenchClient,
    InvalidRequest,
    NegativeResponse,
    NotFound,
    UdsTimeout,
    UdsUnexpected,
    Within,
)
from tests.unit.bench_agent.harness import AgentFile, OpenBench, RunningAgent, bench_entry
from tests.unit.bench_agent.test_agent_console import eventually
from tests.unit.scenarios.conftest import Play, Played
from tests.unit.scenarios.conftest import play as play_script  # noqa: F401 - a fixture

ECU = """
name: ECM
addressing: {request_id: 0x7E0, response_id: 0x7E8, functional_id: 0x7DF}
timing: {p2_ms: 50, p2_star_ms: 100, transit_ms: 300, s3_ms: 5000}
dids:
  VIN: {did: 0xF190, type: ascii, length: 17, value: WVWZZZ1KZ6W000001}
  Voltage: {did: 0x0142, type: uint, length: 2, scale: 0.001, unit: V, value: 12.6}
dtcs: [{code: P0301, status: 0, confirm_after: 2}]
memory: {regions: {flash: {address: 0x8000, size: 2097152}}}
cyclic: [{message: EngineStatus, period_ms: 20, signals: {EngineSpeed: 800}}]
"""
TIMELESS = """
name: TCM
addressing: {request_id: 0x7E1, response_id: 0x7E9}
security: {1: {algorithm: xor, key: A5A5A5A5, attempts: 1, delay_s: 10}}
simulation: {clock: virtual}
"""
REAL = "name: BCM\naddressing: {request_id: 0x7E2, response_id: 0x7EA}\n"


@pytest.fixture
def agent_file(tmp_path: Path) -> AgentFile:
    entry = bench_entry("bench-1")
    for name, text in {"ecm": ECU, "tcm": TIMELESS, "bcm": REAL}.items():
        (tmp_path / f"{name}.yaml").write_text(text)
    entry["ecus"] = [
        {"file": "ecm.yaml", "bus": "powertrain", "simulated": True},
        {"file": "tcm.yaml", "bus": "powertrain", "simulated": True},
        {"file": "bcm.yaml", "bus": "powertrain"},
    ]
    return AgentFile(tmp_path, [entry])


def test_faults_strike_and_are_cleared(bench: BenchClient) -> None:
    ecm, sim = bench.ecu("ECM"), bench.simulation("ECM")
    sim.inject("nrc", service=0x22, nrc=0x22, times=1)
    with pytest.raises(NegativeResponse) as refused:
        ecm.read("VIN")
    assert refused.value.nrc == 0x22
    assert ecm.read("VIN") == "WVWZZZ1KZ6W000001"
    with sim.fault("no_answer") as number:
        with pytest.raises(UdsTimeout):
            ecm.read("VIN")
        assert [(one.number, one.kind, one.struck) for one in sim.state().faults] == [(number, "no_answer", 1)]
    with sim.fault("truncated", length=2), pytest.raises(UdsUnexpected):
        ecm.read("VIN")
    sim.inject("pending", count=3, times=1)
    assert ecm.read("VIN") == "WVWZZZ1KZ6W000001"
    assert ecm.last is not None and len(ecm.last.pending_us) == 3
    assert sim.clear() == 0


def test_what_is_no_fault_is_said(bench: BenchClient) -> None:
    sim = bench.simulation("ECM")
    with pytest.raises(InvalidRequest, match=r"fault\.nr: unknown field; did you mean nrc\?"):
        sim.inject("nrc", nr=3)
    with pytest.raises(InvalidRequest, match=r"fault\.kind: .*not 'explode'"):
        sim.inject("explode")
    for _ in range(100):
        sim.inject("no_answer")
    with pytest.raises(InvalidRequest, match="100 faults are in force already"):
        sim.inject("no_answer")


def test_values_signals_and_trouble_codes(bench: BenchClient) -> None:
    ecm, sim = bench.ecu("ECM"), bench.simulation("ECM")
    sim.set("Voltage", 9.5)
    assert ecm.read("Voltage") == 9.5
    sim.set(0x0142, b"\x00\x01")
    assert ecm.read("Voltage") == 0.001
    sim.signal("EngineStatus", "EngineSpeed", 3000)
    assert bench.bus("powertrain").expect_message("EngineStatus", [Within("EngineSpeed", 2999, 3001)], 5).met
    sent = sim.message("EngineStatus", False).sent["EngineStatus"]
    assert not bench.bus("powertrain").expect_message("EngineStatus", [], 0.1).met
    assert sim.message("EngineStatus", True).sent["EngineStatus"] == sent
    eventually(lambda: sim.state().sent["EngineStatus"] > sent)
    sim.dtc("P0301", True)
    assert sim.state().sent["EngineStatus"] > 0
    assert ecm.raw(bytes.fromhex("19 02 FF")).response == bytes.fromhex("59 02 FF 030100 27")
    sim.cycle()
    sim.dtc("P0301", 127)
    assert ecm.raw(bytes.fromhex("19 02 08")).response == bytes.fromhex("59 02 FF 030100 2F"), "confirmed"


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda sim: sim.set("Voltag", 1), r"no data identifier 'Voltag'; did you mean Voltage\?"),
        (lambda sim: sim.set("Voltage", 100), "Voltage: "),
        (lambda sim: sim.set("Voltage", b"1"), "Voltage has 2 bytes, not 1"),
        (lambda sim: sim.signal("EngineStatu", "EngineSpeed", 1), r"does not send 'EngineStatu'; did you mean"),
        (lambda sim: sim.message("Engine", False), "does not send 'Engine'; did you mean EngineStatus|it has"),
        (lambda sim: sim.signal("EngineStatus", "EngineSpee", 1), r"no signal 'EngineSpee'; did you mean EngineSpeed"),
        (lambda sim: sim.dtc("P0302", True), r"no trouble code 'P0302'; did you mean P0301\?"),
        (lambda sim: sim.dtc("Misfire", True), "Misfire"),
        (lambda sim: sim.dtc("P0301", 200), r"counter is 200; it must be -128 \(passed\) .. 127 \(failed\)"),
        (lambda sim: sim.memory(0, 4), "lies in no region"),
        (lambda sim: sim.write_memory(0x8000, b""), "size is 0"),
        (lambda sim: sim.voltage("kl31", 12), "terminal is 'kl31'; it must be kl15 or kl30|kl30 or kl15"),
        (lambda sim: sim.voltage("kl30", -1), "volts is -1; it must be 0 .. 60"),
        (lambda sim: sim.advance(1), "the clock of ECM is real; .* simulation.clock: virtual"),
    ],
)
def test_what_the_ecu_cannot_do_is_said(bench: BenchClient, act: Callable[[object], object], message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        act(bench.simulation("ECM"))


def test_a_real_ecu_is_left_alone(bench: BenchClient) -> None:
    with pytest.raises(InvalidRequest, match="ECU BCM of bench bench-1 is not simulated; these are: ECM, TCM"):
        bench.simulation("BCM").inject("no_answer")
    with pytest.raises(NotFound, match=r"has no ECU 'ECN'; did you mean ECM\?"):
        bench.simulation("ECN")


def test_memory_is_seen_and_changed_as_it_is(bench: BenchClient) -> None:
    sim = bench.simulation("ECM")
    assert set(sim.memory(0x8000, 0x200000)) == {0xFF}
    sim.write_memory(0x8000, b"\x01\x02")
    sim.write_memory(0x8001, b"\x03")
    assert sim.memory(0x8000, 3) == b"\x01\x03\xff"


def test_voltage_and_watchdog(bench: BenchClient) -> None:
    ecm, sim = bench.ecu("ECM"), bench.simulation("ECM")
    assert not sim.voltage("kl30", 3).powered
    with pytest.raises(UdsTimeout):
        ecm.read("VIN")
    with pytest.raises(InvalidRequest, match="ECM has no power"):
        sim.reset()
    sim.voltage("kl30", 12)
    eventually(lambda: not sim.state().booting)
    ecm.session("extended")
    assert sim.state().session == 3
    sim.reset()
    eventually(lambda: not sim.state().booting)
    assert sim.state().session == 1


def test_a_lock_out_is_over_when_the_virtual_clock_says_so(bench: BenchClient) -> None:
    tcm, sim = bench.ecu("TCM"), bench.simulation("TCM")
    tcm.raw(bytes.fromhex("10 03"))
    tcm.raw(bytes.fromhex("27 01"))
    assert tcm.raw(bytes.fromhex("27 02 00000000")).response == bytes.fromhex("7F 27 36")
    assert sim.advance(4.9).clock == pytest.approx(4.9)
    assert tcm.raw(bytes.fromhex("27 01")).response == bytes.fromhex("7F 27 37")
    sim.advance(5.05)
    assert sim.state().session == 1, "S3"
    tcm.raw(bytes.fromhex("10 03"))
    assert tcm.raw(bytes.fromhex("27 01")).response == bytes.fromhex("7F 27 37")
    sim.advance(0.1)
    assert tcm.raw(bytes.fromhex("27 01")).response[:2] == b"\x67\x01"


def test_the_next_holder_finds_the_ecu_as_described(open_bench: OpenBench, running: RunningAgent) -> None:
    sim = open_bench(epoch=1).simulation("ECM")
    sim.inject("no_answer")
    sim.set("VIN", "X" * 17)
    sim.dtc("P0301", True)
    sim.write_memory(0x8000, b"\0")
    sim.voltage("kl30", 0)
    running.fence(1)
    bench = open_bench(epoch=2)
    state = bench.simulation("ECM").state()
    assert (state.powered, state.kl30, state.faults) == (True, None, ())
    assert bench.ecu("ECM").read("VIN") == "WVWZZZ1KZ6W000001"
    assert bench.simulation("ECM").memory(0x8000, 1) == b"\xff"


@pytest.mark.parametrize("fault", [{"kind": "no_answer"}, {"kind": "pending"}, {"kind": "drop_frame", "frame": 0}])
def test_a_fault_does_not_spoil_the_handing_over(
    open_bench: OpenBench, running: RunningAgent, fault: dict[str, str]
) -> None:
    bench = open_bench(epoch=1)
    bench.ecu("ECM").session("extended")
    bench.simulation("ECM").inject(**fault)
    running.fence(1)
    assert running.health("bench-1") == ""
    assert {step.name: step.fault for step in running.describe("bench-1").last_clean_up}[
        "clear the faults of ECM"
    ] == ""
    assert open_bench(epoch=2).ecu("ECM").read("VIN") == "WVWZZZ1KZ6W000001"


def test_an_ecu_left_without_power_does_not_either(open_bench: OpenBench, running: RunningAgent) -> None:
    bench = open_bench(epoch=1)
    bench.ecu("ECM").session("extended")
    bench.simulation("ECM").voltage("kl30", 0)
    running.fence(1)
    assert running.health("bench-1") == ""
    assert open_bench(epoch=2).ecu("ECM").read("VIN") == "WVWZZZ1KZ6W000001"


@pytest.fixture
def run(play_script: Play, bench: BenchClient) -> Callable[[str], Played]:  # noqa: F811
    needed = "\n".join(f'local {name} = require("{name}")' for name in ("test", "uds", "sim", "log"))
    return lambda script: play_script(f'{needed}\ntest.case("it", function()\n{script}\nend)', bench=bench)


def test_from_lua(run: Callable[[str], Played]) -> None:
    played = run(
        """
        local ecm, sim_ecm = uds.ecu("ECM"), sim.ecu("ECM")
        local n = sim_ecm:fault{ kind = "nrc", service = 0x22, nrc = 0x31 }
        local ok, problem = pcall(ecm.read, ecm, "VIN")
        test.equal(problem.nrc, 0x31)
        test.equal(sim_ecm:state().faults[1].struck, 1)
        test.equal(sim_ecm:clear(n), 1)
        sim_ecm:set("Voltage", 9.5)
        test.equal(ecm:read("Voltage"), 9.5)
        sim_ecm:set(0xF190, "WVWZZZ1KZ6W000002")
        sim_ecm:signal("EngineStatus", "EngineSpeed", 3000)
        sim_ecm:message("EngineStatus", false)
        sim_ecm:message("EngineStatus", true)
        sim_ecm:dtc("P0301", "failed")
        sim_ecm:cycle()
        sim_ecm:write_memory(0x8000, "DE AD")
        test.equal(sim_ecm:memory(0x8000, 3), "DEADFF")
        test.equal(sim_ecm:voltage("kl30", 0).powered, false)
        sim_ecm:voltage("kl30", 12)
        sim_ecm:reset()
        test.equal(sim.ecu("TCM"):advance("10s"), 10.0)
        """
    )
    assert played.result["cases"][0]["verdict"] == "passed", played.result


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ('sim.ecu("BCM")', "ECU BCM of bench bench-1 is not simulated"),
        ("sim.ecu()", "sim.ecu() needs a name"),
        ('sim.ecu("ECM"):fault{ nrc = 1 }', "the fault has no kind"),
        ('sim.ecu("ECM"):fault("nrc")', "it must be a table such as"),
        ('sim.ecu("ECM"):dtc("P0301", "broken")', "it must be 'failed', 'passed'"),
        ('sim.ecu("ECM"):memory(0, 100000)', "it must be 1 .. 65536 bytes"),
        ('sim.ecu("ECM"):memory("0", 1)', "it must be a whole number"),
        ('sim.ecu("ECM"):voltage("kl30", "high")', "volts is 'high'; it must be a number"),
        ('sim.ecu("ECM"):message("EngineStatus", "off")', "it must be true or false"),
        ('sim.ecu("ECM").reset()', "call it with a colon"),
    ],
)
def test_mistakes_in_lua_are_explained(run: Callable[[str], Played], script: str, message: str) -> None:
    assert message in str(run(script).result)
