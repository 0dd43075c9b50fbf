"""The result: its bounds, its reason, and its JUnit XML."""

import json
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest

from labd.client.types import Failure
from scenarios import record as records
from scenarios.junit import render
from scenarios.record import Record

if TYPE_CHECKING:
    from tests.unit.scenarios.conftest import Play, Played

SCRIPT = """
local test = require("test")
test.case("passes", function() test.step("a step") end)
test.case("fails <&\\0>", function() test.fail("bad \\27 value") end)
test.case("breaks", function() nothing() end)
"""


def suite_of(played: "Played") -> ElementTree.Element:
    return ElementTree.fromstring(render(played.result))[0]  # noqa: S314 - our own


def failure(message: str) -> Failure:
    return Failure(message=message, file="s.lua", line=7, traceback="s.lua:7: in main chunk")


def test_the_document_is_json_of_version_1(play: "Play") -> None:
    result = json.loads(json.dumps(play(SCRIPT).result))
    assert result["version"] == 1
    assert result["benches"] == ["b1"]
    assert [case["verdict"] for case in result["cases"]] == ["passed", "failed", "error"]
    assert result["started_at"].endswith("Z")
    assert result["cases"][0]["steps"][0]["text"] == "a step"


def test_junit_counts_and_names_failures_and_errors(play: "Play") -> None:
    suite = suite_of(play(SCRIPT))
    assert {name: suite.get(name) for name in ("name", "tests", "failures", "errors")} == {
        "name": "s.lua",
        "tests": "3",
        "failures": "1",
        "errors": "1",
    }
    cases = suite.findall("testcase")
    assert [case.get("name") for case in cases] == ["passes", "fails <&\\x00>", "breaks"]
    assert "a step" in (cases[0].findtext("system-out") or "")
    failed = cases[1].find("failure")
    assert failed is not None
    assert failed.get("message") == "bad \\x1b value"
    assert (failed.text or "").startswith("s.lua:4: bad \\x1b value\ns.lua:4: in")
    assert cases[1].get("line") == "4"
    assert cases[2].find("error") is not None


def test_junit_shows_what_broke_outside_every_case(play: "Play") -> None:
    suite = suite_of(play("x = = 1"))
    assert suite.get("errors") == "1"
    (case,) = suite.findall("testcase")
    assert case.get("name") == "(scenario)"
    assert case.find("error") is not None


def test_junit_shows_a_deadline_once(play: "Play", late: None) -> None:
    played = play("require('test').case('c', function() print('late') while true do end end)")
    assert [case.get("name") for case in suite_of(played).findall("testcase")] == ["c"]


def test_the_first_outcome_decides() -> None:
    record = Record("s.lua", [])
    record.start_case("a")
    assert record.finish("error", failure("ran too long"))
    record.step("too late")
    record.end_case("passed")
    assert not record.finish("passed")
    result = record.result(0, 0)
    assert result["verdict"] == "error"
    assert [(case["name"], case["verdict"], case["steps"]) for case in result["cases"]] == [("a", "error", [])]
    assert result["reason"] == "s.lua:7: ran too long"


def test_times_are_relative_to_the_case() -> None:
    now = [100.0]
    record = Record("s.lua", [], clock=lambda: now[0])
    now[0] = 101.0
    record.start_case("a")
    now[0] = 101.25
    record.step("x")
    now[0] = 102.0
    record.end_case("passed")
    record.finish("passed")
    result = record.result(0, 0)
    assert result["cases"][0]["steps"] == [{"at_s": 0.25, "text": "x"}]
    assert result["cases"][0]["duration_s"] == 1.0
    assert result["duration_s"] == 2.0


def test_the_number_of_cases_is_bounded(monkeypatch: pytest.MonkeyPatch, play: "Play") -> None:
    monkeypatch.setattr(records, "CASES", 3)
    played = play("local test = require('test') while true do test.case('c', function() end) end")
    assert len(played.result["cases"]) == 3
    assert "may have 3 cases, not more" in played.result["reason"]


def test_long_names_steps_and_messages_are_cut(play: "Play") -> None:
    played = play(
        "local test = require('test') local long = ('x'):rep(50000)"
        " test.case(long, function() test.step(long) test.fail(long) end)"
    )
    assert len(played.case["name"]) == 200
    assert len(played.case["steps"][0]["text"]) == 400
    assert len(played.failure["message"]) < 17_000
    assert len(played.result["reason"]) <= 500


def test_a_result_fits_into_a_request_however_many_cases_it_has() -> None:
    record = Record("long.lua", ["bench-1"])
    failure = Failure(message="m" * 16_000, file="long.lua", line=1, traceback="t" * 4000)
    for number in range(2000):
        record.start_case(f"case {number}")
        for _ in range(20):
            record.step("s" * 400)
        record.end_case("failed", failure)
    record.finish("passed")
    result = record.result(0, 0)
    assert len(result["cases"]) == 2000
    assert len(json.dumps({"document": result, "junit": render(result)})) < 16 * 2**20
    assert result["cases"][0]["failure"] == failure
    assert "20 steps and 0 frames left out" in result["cases"][-1]["steps"][0]["text"]
