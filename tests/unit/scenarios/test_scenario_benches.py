"""A run with several benches: each has modules of its own."""

import pytest

from bench_agent.client import Frame
from tests.unit.scenarios.conftest import FakeBench, FakeEcu, Play


def two() -> tuple[FakeBench, FakeBench]:
    first, second = FakeBench(), FakeBench(ecus={"ECM": FakeEcu("ECM"), "BCM": FakeEcu("BCM")})
    first.ecu_fake.answers["read"] = "first"
    second.ecu_fake.answers["read"] = "second"
    return first, second


def test_modules_act_on_the_bench_that_they_were_asked_from(play: Play) -> None:
    first, second = two()
    played = play(
        """
        local test, bench, can, uds = require("test"), require("bench"), require("can"), require("uds")
        test.case("both", function()
          local other = bench.open("b2")
          test.equal(table.concat(bench.names, " "), "b1 b2")
          test.equal(bench.name .. other.name .. other.labels.platform, "b1b2mqb")
          test.equal(#bench.ecus .. #other.ecus, "12")
          local here, there = can.bus(), other.require("can").bus("powertrain")
          local ecm, other_ecm = uds.ecu("ECM"), other.require("uds").ecu("ECM")
          here:send("EngineControl", { TargetSpeed = 1 })
          there:send("EngineControl", { TargetSpeed = 2 })
          here:send("EngineControl", { TargetSpeed = 3 })
          test.equal(other_ecm:read("VIN"), "second")
          test.equal(ecm:read("VIN"), "first")
          test.equal(bench.open(2).name, "b2")
          test.equal(bench.open(1).name, "b1")
          test.is_true(rawequal(bench.open(2), other) and rawequal(bench.open(1), bench))
        end)
        """,
        bench=first,
        further=[second],
    )
    assert played.verdict == "passed", played.result
    assert [signals for _, signals in first.bus_fake.sent] == [{"TargetSpeed": 1}, {"TargetSpeed": 3}]
    assert [signals for _, signals in second.bus_fake.sent] == [{"TargetSpeed": 2}]


def test_a_bus_of_one_bench_is_none_of_the_others(play: Play) -> None:
    first, second = two()
    played = play(
        """
        local test, bench, can = require("test"), require("bench"), require("can")
        test.case("mixed up", function()
          local there = bench.open(2).require("can").bus()
          can.bus().send(there, "EngineControl", {})
        end)
        """,
        bench=first,
        further=[second],
    )
    assert "call it with a colon on a bus" in played.failure["message"]
    assert second.bus_fake.sent == []


def test_the_frames_of_a_failed_case_name_bench_and_bus(play: Play) -> None:
    first, second = two()
    first.frames = {"powertrain": [Frame(2_000_000_000, 0x100, 0, b"\x01")]}
    second.frames = {"powertrain": [Frame(1_000_000_000, 0x200, 0, b"\x02")]}
    played = play(
        """
        local test, bench, can = require("test"), require("bench"), require("can")
        test.case("fails", function()
          can.bus()
          bench.open(2).require("can").bus()
          test.fail("so")
        end)
        """,
        bench=first,
        further=[second],
    )
    assert [frame["bus"] for frame in played.case["frames"]] == ["b2/powertrain", "b1/powertrain"]


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ('bench.open("b9")', "the run has leased no bench 'b9'; it has b1, b2, by name or as 1 to 2"),
        ("bench.open(3)", "the run has leased no bench 3; it has b1, b2"),
        ("bench.open(0)", "the run has leased no bench 0;"),
        ("bench.open({})", "the bench is a table; it must be text or a number"),
        ('bench.open(2).require("log")', 'a bench has no module "log"; it has bench, can, j1939'),
        ("bench.open(2).require()", "a bench has no module nil"),
    ],
)
def test_a_mistake_is_named(play: Play, code: str, says: str) -> None:
    first, second = two()
    script = f'local bench = require("bench")\nrequire("test").case("it", function() {code} end)'
    failure = play(script, bench=first, further=[second]).failure
    assert says in failure["message"]
    assert failure["line"] == 2
