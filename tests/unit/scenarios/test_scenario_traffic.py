"""Cyclic messages and rest-bus from Lua, played against a real agent with a simulated ECU."""

from typing import TYPE_CHECKING

import pytest

from bench_agent.client import BenchClient
from tests.unit.bench_agent.conftest import (  # noqa: F401 - fixtures
    agent_file,
    bench,
    open_bench,
    running,
    signer,
    start_agent,
)

if TYPE_CHECKING:
    from tests.unit.scenarios.conftest import Play

HEAD = "local test, can, time = require('test'), require('can'), require('time')\nlocal bus = can.bus('powertrain')\n"


def test_a_cyclic_message_drives_the_ecu(play: "Play", bench: BenchClient) -> None:  # noqa: F811
    played = play(
        HEAD
        + """
        local m = bus:cyclic("EngineControl", { TargetSpeed = 1500 }, {
          period = "5ms",
          counter = { signal = "Alive" },
          checksum = { signal = "CRC", algorithm = "crc8_j1850", data_id = 0x1A },
        })
        bus:expect("EngineStatus", { EngineSpeed = test.within(1500, 10) }, "10s")
        m:set{ TargetSpeed = 3000 }
        bus:expect("EngineStatus", { EngineSpeed = test.within(3000, 10) }, "10s")
        m:freeze_counter() m:corrupt_checksum(0x55) m:wrong_length(4)
        test.equal(m:state().counter_frozen, true)
        test.equal(m:state().corrupted, true)
        m:corrupt{ data_xor = "01", checksum_xor = 0x10 }
        m:skip_counter(3)
        m:heal()
        m:period("20ms")
        local state = m:state()
        test.equal({ state.counter_frozen, state.corrupted, state.period, state.failed }, { false, false, 0.02, 0 })
        m:stop()
        test.equal(m:state().running, false)
        m:resume()
        m:set({ TargetSpeed = 9000 }, { force = true })
        """,
        bench=bench,
    )
    assert played.verdict == "passed", played.result["failure"]


def test_a_lua_function_makes_the_payloads_when_values_change(play: "Play", bench: BenchClient) -> None:  # noqa: F811
    played = play(
        HEAD
        + """
        local asked = {}
        local options = { period = "5ms", counter = { modulo = 4 } }
        function options.payload(data, counter)
          asked[#asked + 1] = data .. counter
          return data .. string.format("%02X", 0xF0 + counter)
        end
        local m = bus:cyclic(0x123, "11 22", options)
        test.equal(asked, { "11220", "11221", "11222", "11223" })
        m:set("33")
        test.equal(asked[5], "330")
        test.equal(#asked, 8)
        """,
        bench=bench,
    )
    assert played.verdict == "passed", played.result["failure"]
    (state,) = bench.traffic()
    assert state.running


def test_rest_bus_from_a_script(play: "Play", bench: BenchClient) -> None:  # noqa: F811
    played = play(
        HEAD
        + """
        local rest = bus:restbus{ except_messages = { "Odometer" }, protect = {
          TransmissionStatus = { counter = { signal = "Alive" }, checksum = { signal = "CRC", algorithm = "sum8" } },
        } }
        test.equal(rest.messages, { "EngineControl", "TransmissionStatus", "TurnSignals", "KeyPosition" })
        local reasons = {}
        for _, left in ipairs(rest.left_out) do reasons[left.message] = left.reason end
        test.equal(reasons.EngineStatus, "ECM sends it: the bench has this ECU")
        test.equal(reasons.Odometer, "it is left out by name")
        rest:set("TransmissionStatus", { Gear = "Drive" })
        rest:off("TransmissionStatus")
        rest:on("TransmissionStatus")
        rest:message("TransmissionStatus"):freeze_counter()
        test.equal(rest:message("TransmissionStatus"):state().counter_frozen, true)
        rest:stop()
        """,
        bench=bench,
    )
    assert played.verdict == "passed", played.result["failure"]
    assert bench.traffic() == []


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        ("bus:cyclic('EngineControl', {}, { perod = '10ms' })", 'unknown field "perod"; it takes'),
        ("bus:cyclic('EngineControl', {}, { period = '1us' })", "period is '1us'; it must be at least 1 ms"),
        ("bus:cyclic('EngineControl', {})", "has no cycle time of its own"),
        ("bus:cyclic('EngineControl', { TargetSped = 1 }, { period = 1 })", "TargetSpeed"),
        ("bus:cyclic('EngineControl', { TargetSpeed = 1e6 }, { period = 1 })", "out of range 0 .. 8000 rpm"),
        ("bus:cyclic({}, {})", "neither a message name nor an arbitration ID"),
        ("bus:cyclic(0x800000000, '', { period = 1 })", "arbitration ID is 0x800000000"),
        ("bus:cyclic(1, '', { period = 1, payload = function() return {} end })", "must return hexadecimal text"),
        ("bus:cyclic(1, '', { period = 1, payload = function() return 'xyz' end })", "write bytes as hexadecimal"),
        ("bus:cyclic(1, '', { period = 1, counter = { bits = 3 } })", 'counter has an unknown field "bits"'),
        ("bus:restbus{ except = { 'ECN' } }", "unknown node 'ECN'; did you mean ECM"),
        ("bus:restbus():off('Odometr')", "Odometer"),
        ("bus:restbus():set('EngineStatus', {})", "it was left out: ECM sends it"),
        ("bus.cyclic({}, 'M', {})", "call it with a colon"),
    ],
)
def test_mistakes_are_explained(play: "Play", bench: BenchClient, script: str, problem: str) -> None:  # noqa: F811
    played = play(HEAD + script, bench=bench)
    assert played.verdict == "error"
    assert problem in played.failure["message"]


def test_waits_that_take_more_than_one_frame(play: "Play", bench: BenchClient) -> None:  # noqa: F811
    played = play(
        HEAD
        + """
        local m = bus:cyclic("EngineControl", { TargetSpeed = 900 }, { period = "10ms" })
        -- On a machine that stands still, the speed may have crossed before anybody looks.
        local function crosses(from, to, crossing)
            for _ = 1, 10 do
                bus:expect("EngineStatus", { EngineSpeed = test.within(from, 10) }, "10s")
                m:set{ TargetSpeed = to }
                if pcall(function() bus:expect("EngineStatus", { EngineSpeed = crossing }, "1s") end) then
                    return true
                end
                m:set{ TargetSpeed = from }
            end
            return false
        end
        test.is_true(crosses(900, 1500, test.rising(1400)))
        local wanted = { EngineSpeed = test.within(1500, 10) }
        local signals, at = bus:expect("EngineStatus", wanted, "10s", { hold = "60ms" })
        test.equal(signals.EngineState, "Running")
        test.is_true(at > 1.7e9)
        bus:expect("EngineStatus", { EngineSpeed = test.within(1500, 10) }, "10s", { count = 3 })
        bus:never("EngineStatus", { EngineState = "Stalled" }, "100ms")
        bus:never(0x7FF, nil, "20ms")
        bus:expect_cycle("EngineStatus", "100us", "1s", "300ms")
        local cycle = bus:measure_cycle("EngineStatus", "200ms")
        test.is_true(cycle.frames > 2 and cycle.shortest <= cycle.mean and cycle.mean <= cycle.longest)
        test.is_true(crosses(1500, 900, test.falling(1000)))
        """,
        bench=bench,
    )
    assert played.verdict == "passed", played.result["failure"]


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        ("bus:never('EngineStatus', nil, '1s')", "EngineStatus: not as expected within 1 s; 1 seen"),
        ("bus:expect('EngineStatus', { EngineSpeed = 1 }, '100ms', { count = 2 })", "0 of 2 frames met"),
        ("bus:expect('EngineStatus', { EngineSpeed = test.changes(1, 2) }, '100ms')", "a change from 1 to 2"),
        ("bus:expect_cycle('EngineStatus', '1us', '2us', '1s')", "expected 0.001 .. 0.002 ms"),
        ("test.equal(1, test.rising())", "only bus:expect takes it"),
        ("bus:expect('EngineStatus', {}, '1s', { hold = '2s' })", "hold_ms is 2000"),
        ("bus:expect('EngineStatus', {}, '1s', { hold = '1ms', count = 2 })", "one of hold, count and exactly"),
        ("bus:expect('EngineStatus', {}, '1s', { count = 0 })", "count is 0; it must be a whole number"),
        ("bus:expect('EngineStatus', {}, '1s', { for_ms = 1 })", 'unknown option "for_ms"'),
    ],
)
def test_waits_that_fail_say_why(play: "Play", bench: BenchClient, script: str, problem: str) -> None:  # noqa: F811
    assert problem in play(HEAD + script, bench=bench).failure["message"]


def test_a_rest_bus_of_a_database_that_came_with_the_run(play: "Play", bench: BenchClient) -> None:  # noqa: F811
    played = play(
        HEAD
        + """
        local rest = bus:restbus{ dbc = "vehicle.dbc" }
        test.equal(rest.messages, { "Doors" })
        rest:stop()
        local ok, fault = pcall(bus.restbus, bus, { dbc = "vehicl.dbc" })
        test.matches(fault.message, "did you mean 'vehicle.dbc'")
        """,
        bench=bench,
        data_files={
            "vehicle.dbc": b'VERSION ""\nBU_: Body\nBO_ 801 Doors: 1 Body\n SG_ Open : 0|1@1+ (1,0) [0|1] "" Body\n'
        },
    )
    assert played.verdict == "passed", played.failure
