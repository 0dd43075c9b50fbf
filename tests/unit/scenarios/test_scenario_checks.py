"""The test module: what passes, what fails, what is an error, and what the result says about it."""

from typing import TYPE_CHECKING

import pytest

from bench_agent.client import NegativeResponse, UdsTimeout
from bench_agent.protocol.frames import Frame
from tests.unit.scenarios.conftest import FakeBench

if TYPE_CHECKING:
    from tests.unit.scenarios.conftest import Play

PASS = [
    "test.equal(1, 1.0)",
    "test.equal('a', 'a')",
    "test.equal(nil, nil)",
    "test.equal({ 1, { a = 'x' } }, { 1, { a = 'x' } })",
    "test.equal(1540, test.within(1500, 50))",
    "test.equal(1550, test.within(1500, 50))",
    "test.equal({ speed = 1540 }, { speed = test.within(1500, 50) })",
    "test.equal(2, test.between(1, 2))",
    "test.equal(2, test.above(1))",
    "test.equal(2, test.below(3))",
    "test.equal(2, test.at_least(2))",
    "test.equal(2, test.at_most(2))",
    "test.equal('Park', test.differs('Drive'))",
    "test.is_true(0)",
    "test.near(0.1 + 0.2, 0.3, 1e-9)",
    "test.matches('WVWZZZ1KZ6W000001', '^WVW')",
    "assert(true)",
]

FAIL = {
    "test.equal(1, 2)": "expected 2, got 1",
    "test.equal('1', 1)": 'expected 1, got "1"',
    "test.equal(nil, 'x')": 'expected "x", got nil',
    "test.equal('a', 'b', 'the VIN')": 'the VIN: expected "b", got "a"',
    "test.equal('\\0\\255\\n', '')": 'expected "", got "\\x00\\xFF\\x0A"',
    "test.equal({ a = { 1, 2 } }, { a = { 1, 3 } })": ".a[2]: expected 3, got 2",
    "test.equal({ a = 1, b = 2 }, { a = 1 })": ".b: expected nil, got 2",
    "test.equal({}, { a = 1 })": ".a: expected 1, got nil",
    "test.equal(812.5, test.within(1500, 50))": "expected 1500 ± 50, got 812.5",
    "test.equal('x', test.within(1500, 50))": 'expected 1500 ± 50, got "x"',
    "test.equal(0/0, test.between(0, 1))": "expected 0 .. 1, got",
    "test.equal(1, test.above(1))": "expected > 1, got 1",
    "test.equal(1, test.below(1))": "expected < 1, got 1",
    "test.equal(0, test.at_least(1))": "expected >= 1, got 0",
    "test.equal(2, test.at_most(1))": "expected <= 1, got 2",
    "test.equal(1, test.differs(1))": "expected anything but 1, got 1",
    "test.is_true(nil)": "expected true, got nil",
    "test.is_true(false, 'ready')": "ready: expected true, got false",
    "test.near(1, 2, 0.5)": "expected 2 ± 0.5, got 1",
    "test.near(0/0, 1, 1)": "expected 1 ± 1, got",
    "test.near('1', 1, 1)": 'expected 1 ± 1, got "1"',
    "test.matches('abc', '^b')": 'expected text that matches "^b", got "abc"',
    "test.matches(nil, 'x')": 'expected text that matches "x", got nil',
    "test.fail('not today')": "not today",
    "assert(1 == 2, 'one is not two')": "one is not two",
    "assert(nil)": "assertion failed!",
    "local t = {} t.t = t test.equal(t, { t = { t = 1 } })": ".t.t: expected 1, got",
}

ERRORS = {
    "local x = nil x.y = 1": "attempt to index a nil value (local 'x')",
    "nofunction()": "attempt to call a nil value (global 'nofunction')",
    "error('broken')": "broken",
    "error('at the caller', 2)": "at the caller",
    "error({ code = 7 })": "{ code = 7 }",
    "error(setmetatable({}, { __tostring = function() return 'shown' end }))": "shown",
    "error()": "nil",
    "string.rep()": "bad argument #1 to 'rep'",
    "test.within('a', 1)": 'value is "a"; it must be a number',
    "test.within(1, -1)": "tolerance is -1; it cannot be negative",
    "test.between(2, 1)": "low is 2 and high is 1: nothing lies between them",
    "test.above(nil)": "limit is nil; it must be a number",
    "test.differs({})": "value is {  }; it must be a number, text or a boolean",
    "test.matches('x', 1)": "pattern is 1; it must be text, a Lua pattern",
    "test.near(1, 1)": "tolerance is nil; it must be a number",
    "test.negative(256, print)": "nrc is 256; it must be a code such as 0x33 or a name of ISO 14229-1",
    "test.negative(-1, print)": "nrc is -1; it must be a code",
    "test.negative(51.0, print)": "nrc is 51; it must be a code",
    "test.negative(nil, print)": "nrc is nil; it must be a code",
    "test.negative({ 0x33 }, print)": "nrc is { 51 }; it must be a code",
    "test.negative(0x33)": "test.negative needs a function as second argument, not nil",
    "test.case('inner', function() end)": "test.case inside test.case: 'c' has not ended yet",
    "setmetatable(1, {})": "bad argument #1 to 'setmetatable' (table expected, got number)",
    "xpcall(print)": "bad argument #2 to 'xpcall' (function expected, got nil)",
}


@pytest.mark.parametrize("check", PASS)
def test_a_check_that_holds(play: "Play", check: str) -> None:
    played = play(f"local test = require('test') test.case('c', function() {check} end)")
    assert played.verdict == "passed", played.result["reason"]
    assert played.case["failure"] is None
    assert played.case["frames"] == []


@pytest.mark.parametrize(("check", "message"), FAIL.items())
def test_a_check_that_does_not_hold_fails_its_case(play: "Play", check: str, message: str) -> None:
    played = play(f"local test = require('test')\ntest.case('c', function()\n  {check}\nend)")
    assert played.verdict == "failed"
    assert played.case["verdict"] == "failed"
    assert message in played.failure["message"]
    assert (played.failure["file"], played.failure["line"]) == ("s.lua", 3)


@pytest.mark.parametrize(("code", "message"), ERRORS.items())
def test_a_broken_script_is_an_error(play: "Play", code: str, message: str) -> None:
    played = play(f"local test = require('test')\ntest.case('c', function()\n  {code}\nend)")
    assert played.verdict == "error"
    assert message in played.failure["message"]
    assert played.failure["file"] == "s.lua"


def test_the_next_case_goes_on_after_a_failure(play: "Play") -> None:
    played = play("""
        local test = require("test")
        print(test.case("a", function() test.fail("no") end))
        print(test.case("b", function() nothing() end))
        print(test.case("c", function() test.equal(1, 1) end))
    """)
    assert [case["verdict"] for case in played.result["cases"]] == ["failed", "error", "passed"]
    assert played.verdict == "error"
    assert [text for text in played.text if text in ("true", "false")] == ["false", "false", "true"]


def test_the_reason_is_the_worst_that_happened_first(play: "Play") -> None:
    played = play("""
        local test = require("test")
        test.case("a", function() test.fail("no") end)
        test.case("b", function() test.fail("no again") end)
    """)
    assert played.result["reason"] == "a: s.lua:3: no (and 1 more)"


def test_a_check_in_a_helper_names_helper_and_case_in_the_traceback(play: "Play") -> None:
    played = play(
        "local test, lib = require('test'), require('lib.helper')\ntest.case('c', function()\n  lib.check(2)\nend)",
        files={"lib/helper.lua": "local test = require('test')\nreturn {\n check = function(x) test.equal(x, 1) end }"},
    )
    assert (played.failure["file"], played.failure["line"]) == ("lib/helper.lua", 3)
    assert "lib/helper.lua:3: in" in played.failure["traceback"]
    assert "s.lua:3: in" in played.failure["traceback"]
    assert "kernel" not in played.failure["traceback"]


def test_a_check_outside_every_case_fails_the_run(play: "Play") -> None:
    played = play("local test = require('test')\ntest.equal(1, 2)")
    assert played.verdict == "failed"
    assert played.result["cases"] == []
    assert played.failure["line"] == 2


def test_an_error_outside_every_case_keeps_the_cases_before_it(play: "Play") -> None:
    played = play("local test = require('test')\ntest.case('a', function() end)\nnothing()")
    assert played.verdict == "error"
    assert [case["verdict"] for case in played.result["cases"]] == ["passed"]
    assert played.result["reason"] == "s.lua:3: attempt to call a nil value (global 'nothing')"


@pytest.mark.parametrize("script", ["", "-- nothing\n", "print('hello')"])
def test_a_script_that_tests_nothing_is_an_error(play: "Play", script: str) -> None:
    played = play(script)
    assert played.verdict == "error"
    assert played.result["reason"].startswith("nothing was tested")


@pytest.mark.parametrize("script", ["require('test').equal(1, 1)", "require('uds').ecu():clear_dtcs()"])
def test_a_check_or_an_exchange_is_enough_to_pass(play: "Play", script: str) -> None:
    assert play(script).verdict == "passed"


def test_a_failed_case_has_its_steps_and_the_last_frames(play: "Play") -> None:
    bench = FakeBench(frames={"powertrain": [Frame(1_500_000_000, 0x200, 0, b"\x01")] * 100})
    played = play(
        """
        local test, uds = require("test"), require("uds")
        test.case("c", function()
          test.step("first")
          uds.ecu("ECM"):read("VIN")
          test.fail("no")
        end)
        """,
        bench=bench,
    )
    steps = played.case["steps"]
    assert [step["text"] for step in steps] == [
        "first",
        "ECM read VIN: 22F190 -> 62F190 (2.5 ms, 1 x response pending)",
    ]
    assert 0 <= steps[0]["at_s"] <= steps[1]["at_s"] <= played.case["duration_s"]
    assert played.case["frames"] == [{"bus": "powertrain", "time": 1.5, "frame": "200#01"}] * 20


def negative(nrc: int = 0x33, name: str = "securityAccessDenied") -> NegativeResponse:
    return NegativeResponse(0x22, nrc, "ReadDataByIdentifier", name, "what it means")


@pytest.mark.parametrize("nrc", ["0x33", "'securityAccessDenied'"])
def test_an_expected_negative_response_passes_and_is_returned(play: "Play", nrc: str) -> None:
    bench = FakeBench()
    bench.ecu_fake.answers["read"] = negative()
    played = play(
        f"""
        local test, uds = require("test"), require("uds")
        local err = test.negative({nrc}, function() uds.ecu():read("VIN") end)
        print(err.nrc, err.nrc_name, err.service, err.service_name, err.meaning)
        """,
        bench=bench,
    )
    assert played.verdict == "passed"
    assert played.text[0] == "51\tsecurityAccessDenied\t34\tReadDataByIdentifier\twhat it means"


@pytest.mark.parametrize(("nrc", "shown"), [("0x33", "0x33"), ("'securityAccessDenied'", "securityAccessDenied")])
@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("WVW", "expected NRC {}, but the ECU answered positively"),
        (
            negative(0x31, "requestOutOfRange"),
            "expected NRC {}, got: ReadDataByIdentifier (0x22) refused: requestOutOfRange (NRC 0x31)",
        ),
        (UdsTimeout("ECM did not answer within 10 s"), "ECM did not answer within 10 s"),
    ],
)
def test_another_answer_than_the_expected_negative_one(
    play: "Play", answer: object, message: str, nrc: str, shown: str
) -> None:
    bench = FakeBench()
    bench.ecu_fake.answers["read"] = answer
    played = play(
        "local test, uds = require('test'), require('uds')\n"
        f"test.negative({nrc}, function() uds.ecu():read('VIN') end)",
        bench=bench,
    )
    assert played.verdict == "failed"
    assert played.failure["message"] == message.format(shown)
    assert played.failure["line"] == 2


def test_the_name_of_an_expected_negative_response_is_the_agents(play: "Play") -> None:
    bench = FakeBench()
    bench.ecu_fake.answers["read"] = negative(0xF3, "codeOfTheAgent")
    head = "local test, uds = require('test'), require('uds') "
    played = play(head + "test.negative('codeOfTheAgent', function() uds.ecu():read('VIN') end)", bench=bench)
    assert played.verdict == "passed"
    played = play(head + "test.negative('codeoftheagent', function() uds.ecu():read('VIN') end)", bench=bench)
    assert played.verdict == "failed"
    assert played.failure["message"].startswith("expected NRC codeoftheagent, got: ")


def test_a_script_error_inside_test_negative_stays_a_script_error(play: "Play") -> None:
    played = play("local test = require('test')\ntest.negative(0x33, function() nothing() end)")
    assert played.verdict == "error"
    assert "attempt to call a nil value (global 'nothing')" in played.failure["message"]


def test_log_levels_and_formats(play: "Play") -> None:
    played = play("""
        local log = require("log")
        log.debug("a", 1, nil) log.info("%d rpm", 1500) log.warn("100%") log.warning("w") log.error({} ~= nil)
        log.info("%d", "x") print("50% of", 2)
    """)
    assert played.log[:7] == [
        ("debug", "a\t1\tnil"),
        ("info", "1500 rpm"),
        ("warning", "100%"),
        ("warning", "w"),
        ("error", "true"),
        ("info", "%d\tx"),
        ("info", "50% of\t2"),
    ]


def test_text_that_is_no_utf8_is_shown_escaped(play: "Play") -> None:
    played = play(r"print('µ\xff')")
    assert played.text[0] == "µ\\xff"


def test_time(play: "Play") -> None:
    played = play("""
        local time = require("time")
        local started = time.monotonic()
        time.sleep("20ms")
        print(time.monotonic() - started >= 0.02, math.type(time.now()), time.now() > 1.7e9)
    """)
    assert played.text[0] == "true\tfloat\ttrue"


@pytest.mark.parametrize("duration", ["nil", "'soon'", "-1", "'2 days'", "{}", "0/0", "true", "1e9"])
def test_a_bad_duration_is_named(play: "Play", duration: str) -> None:
    played = play(f"require('time').sleep({duration})")
    assert played.verdict == "error"
    assert "duration" in played.failure["message"]
    assert played.failure["line"] == 1
