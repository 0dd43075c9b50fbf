import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench_agent.client import BenchClient, DeviceFault, InUse, InvalidRequest, NotFound
from tests.unit.bench_agent.harness import AgentFile, OpenBench, RunningAgent, bench_entry
from tests.unit.bench_agent.test_agent_console import eventually
from tests.unit.scpi_supply import FakeScpiSupply


@pytest.fixture
def supply() -> Iterator[FakeScpiSupply]:
    fake = FakeScpiSupply()
    fake.outputs[1].on = True  # as somebody left it
    yield fake
    fake.close()


@pytest.fixture
def agent_file(tmp_path: Path, supply: FakeScpiSupply) -> AgentFile:
    entry = bench_entry("bench-1", ecus=False)
    entry["power"] = [
        {
            "name": "main",
            "driver": "scpi",
            "port": supply.port,
            "dialect": "nsel",
            "poll_s": 0.2,
            "timeout_s": 2,
            "channels": {
                "battery": {"output": 1, "terminal": "kl30", "voltage": 13.5, "max_voltage": 16, "current_limit": 5},
                "kl15": {"output": 2, "voltage": 13.5},
            },
        }
    ]
    return AgentFile(tmp_path, [entry])


def test_at_its_start_the_agent_brings_the_power_to_the_safe_state(
    running: RunningAgent, supply: FakeScpiSupply
) -> None:
    assert (supply.outputs[1].on, supply.outputs[1].voltage, supply.outputs[1].current) == (False, 13.5, 5.0)


def test_on_off_cycle_set_and_measure(bench: BenchClient, supply: FakeScpiSupply) -> None:
    kl30 = bench.power.channel("kl30")  # by its terminal
    assert kl30.on().state == "on"
    assert bench.power.ignition(True).name == "kl15"
    assert supply.outputs[1].on and supply.outputs[2].on
    assert kl30.set(voltage=9, current_limit=2).voltage == 9
    assert kl30.measure().voltage == 9
    supply.outputs[1].history.clear()
    kl30.cycle(0.01)
    assert supply.outputs[1].history == ["off", "on"]
    assert kl30.off().state == "off"
    assert [(one.name, one.state, one.max_voltage) for one in bench.power.channels()] == [
        ("battery", "off", 16),
        ("kl15", "on", 13.5),
    ]


def test_beyond_the_limit_is_refused_with_field_value_and_limit(bench: BenchClient, supply: FakeScpiSupply) -> None:
    kl30 = bench.power.channel("kl30")
    with pytest.raises(InvalidRequest, match="voltage is 24 V; channel battery is limited to 16 V"):
        kl30.set(voltage=24)
    with pytest.raises(InvalidRequest, match="current_limit is 6 A; channel battery is limited to 5 A"):
        kl30.set(current_limit=6)
    with pytest.raises(InvalidRequest, match=r"channel kl15 cannot be set: .* gives no max_current"):
        bench.power.channel("kl15").set(current_limit=1)
    with pytest.raises(InvalidRequest, match="voltage is 17 V"):
        kl30.profile("mine", [(0, 12), (10, 17)])
    with pytest.raises(NotFound, match=r"no power channel 'batery'; did you mean battery\?"):
        bench.power.channel("batery").on()
    assert supply.outputs[1].voltage == 13.5


def test_at_the_end_of_a_lease_the_power_is_in_its_safe_state(
    open_bench: OpenBench, running: RunningAgent, supply: FakeScpiSupply
) -> None:
    bench = open_bench(epoch=1)
    bench.power.channel("kl30").on()
    bench.power.channel("kl30").set(voltage=9)
    running.fence(1)
    assert (supply.outputs[1].on, supply.outputs[1].voltage) == (False, 13.5)


def test_an_output_that_does_not_switch_keeps_the_bench_from_the_next_holder(
    open_bench: OpenBench, running: RunningAgent, supply: FakeScpiSupply
) -> None:
    open_bench(epoch=1).power.channel("kl30").on()
    supply.stuck = True
    fencing = threading.Thread(target=running.fence, args=(1,))
    fencing.start()
    eventually(lambda: "channel battery of supply main is not off although it was told so" in running.health("bench-1"))
    assert running.fenced() == 0
    supply.stuck = False
    fencing.join(20)
    assert running.fenced() == 1


def test_a_supply_that_answers_nonsense_is_told_and_seen_in_the_health(
    bench: BenchClient, running: RunningAgent, supply: FakeScpiSupply
) -> None:
    kl30 = bench.power.channel("kl30")
    kl30.on()
    supply.nonsense["MEAS:VOLT?"] = b"???\n"
    with pytest.raises(DeviceFault, match=r"answered 'MEAS:VOLT\?' with '\?\?\?'; expected a number"):
        kl30.measure()
    assert "expected a number" in running.health("bench-1")
    assert {one.state for one in bench.power.channels()} == {"unknown"}
    supply.nonsense.clear()
    eventually(lambda: running.health("bench-1") == "")
    eventually(lambda: [one.state for one in bench.power.channels()] == ["on", "off"])


def test_measured_at_intervals(bench: BenchClient, running: RunningAgent) -> None:
    kl30 = bench.power.channel("kl30")
    kl30.on()
    eventually(lambda: any(one.voltage == 13.5 for one in kl30.measurements()))
    reported = running.describe("bench-1").power[0]
    assert (reported.on, reported.measured_voltage, reported.measured_current) == (True, 13.5, 0.25)
    assert reported.measured_ns > 0
    last = kl30.measurements()[-1]
    eventually(lambda: len(kl30.measurements(since_ns=last.time_ns)) >= 2)


def test_a_profile_is_played_in_time_and_the_voltage_restored(bench: BenchClient, supply: FakeScpiSupply) -> None:
    kl30 = bench.power.channel("kl30")
    kl30.set(voltage=12.5)
    supply.outputs[1].history.clear()
    result = kl30.profile("mine", [(0, 12), (100, 6), (300, 6), (400, 12)], step_ms=50)
    assert supply.outputs[1].history[-1] == "12.5"
    assert [step.planned_ms for step in result.steps][-1] == pytest.approx(400)
    assert all(step.achieved_ms >= step.planned_ms for step in result.steps)
    assert len(result.steps) + result.skipped == 6
    assert (result.source, bench.power.profiles()[0].name) == ("", "iso16750_cranking_I")


def test_a_profile_that_nobody_waits_for_any_more_is_aborted(
    bench: BenchClient, open_bench: OpenBench, supply: FakeScpiSupply
) -> None:
    other = open_bench()
    ended = threading.Event()

    def play() -> None:
        with pytest.raises(Exception, match="bench bench-1 at"):
            other.power.channel("kl30").profile("iso16750_reset")
        ended.set()

    thread = threading.Thread(target=play)
    thread.start()
    eventually(lambda: supply.outputs[1].voltage == 9)
    with pytest.raises(InUse, match="supply main is in use: profile iso16750_reset runs on channel battery"):
        bench.power.channel("kl15").on()
    began = time.monotonic()
    other.close()
    assert ended.wait(10)
    eventually(lambda: supply.outputs[1].voltage == 13.5)
    assert time.monotonic() - began < 10
    thread.join(10)


def test_an_unknown_profile_suggests_the_nearest(bench: BenchClient) -> None:
    with pytest.raises(InvalidRequest, match=r"no power profile 'iso16750_cranking_V'; did you mean"):
        bench.power.channel("kl30").profile("iso16750_cranking_V")
