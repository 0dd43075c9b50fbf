"""Notice that labd wants the bench back, as a script and its runner meet it."""

import threading
import time
from typing import Any, cast

import pytest

from labd.client import RevokeNotice, notice_of
from labd.client.types import Lease
from scenarios.lease import Heartbeat
from scenarios.revocation import Revocation
from scenarios.stop import Stop
from tests.unit.scenarios.conftest import Play

NOTICE = RevokeNotice("lease-1", "a release build is urgent", 30.0, "2026-11-21T09:31:00Z")


def told(stop: Stop | None = None) -> Revocation:
    revocation = Revocation(stop or Stop())
    revocation.tell(NOTICE)
    return revocation


def test_the_script_is_told_between_two_calls_with_reason_and_time(play: Play) -> None:
    played = play(
        """
        local bench, time, test = require("bench"), require("time"), require("test")
        local told = 0
        bench.on_revoke(function(notice)
          told = told + 1
          time.sleep("1ms") -- calls from within do not come back here
          print(notice.reason, notice.grace_s > 20 and notice.grace_s <= 30)
        end)
        test.case("works on", function()
          local can = require("can").bus()
          can:send("EngineControl", {})
          can:send("EngineControl", {})
          test.equal(told, 1)
        end)
        """,
        revocation=told(),
    )
    assert played.verdict == "passed", played.result
    assert "a release build is urgent\ttrue" in played.text


def test_a_script_that_sleeps_is_woken_and_sleeps_on(play: Play) -> None:
    stop = Stop()
    revocation = Revocation(stop)
    threading.Timer(0.2, revocation.tell, [NOTICE]).start()
    began = time.monotonic()
    played = play(
        """
        local bench, time, test = require("bench"), require("time"), require("test")
        test.case("sleeps", function()
          local at
          local start = time.monotonic()
          bench.on_revoke(function() at = time.monotonic() - start end)
          time.sleep("1500ms")
          test.is_true(at and at < 1.4, "woken")
          test.is_true(time.monotonic() - start >= 1.5, "slept to the end")
        end)
        """,
        stop=stop,
        revocation=revocation,
    )
    assert played.verdict == "passed", played.result
    assert time.monotonic() - began >= 1.5


def test_an_error_in_the_function_is_the_scripts_at_its_line(play: Play) -> None:
    played = play(
        """local bench, time = require("bench"), require("time")
        bench.on_revoke(function(notice) error("given up: " .. notice.reason) end)
        require("test").case("ends early", function()
          time.sleep("10ms")
          print("never")
        end)
        """,
        revocation=told(),
    )
    assert "given up: a release build is urgent" in str(played.result)
    assert played.verdict == "error"
    assert "never" not in played.text


def test_without_a_function_nothing_happens_and_one_that_comes_later_is_told(play: Play) -> None:
    played = play(
        """
        local bench, time, test = require("bench"), require("time"), require("test")
        test.case("late", function()
          time.sleep("5ms")
          bench.on_revoke(function(notice) print("told") end)
          time.sleep("5ms")
          bench.on_revoke(nil)
          time.sleep("5ms")
        end)
        """,
        revocation=told(),
    )
    assert played.text.count("told") == 1


def test_what_is_no_function_is_refused(play: Play) -> None:
    failure = play('local bench = require("bench")\nbench.on_revoke("stop")').failure
    assert 'bench.on_revoke takes a function, not "stop"' in failure["message"]


def lease(**changes: Any) -> Lease:
    answer = {
        "id": "lease-1",
        "state": "ACTIVE",
        "ttl_s": 30.0,
        "heartbeat_by": "2026-11-21T09:30:30Z",
        "revoke_at": "2026-11-21T09:31:00Z",
        "revoke_reason": "maintenance",
        "end_reason": None,
    }
    return cast(Lease, answer | changes)


def test_the_grace_is_reckoned_by_labds_clock_alone() -> None:
    notice = notice_of(lease())
    assert notice is not None
    assert notice.grace_s == 60.0
    assert str(notice) == "labd takes lease lease-1 back in 60 s: maintenance"
    late = notice_of(lease(heartbeat_by="2026-11-21T09:40:30Z"))
    assert late is not None
    assert late.grace_s == 0.0


@pytest.mark.parametrize("changes", [{"revoke_at": None}, {"state": "ENDING"}, {"state": "ENDED"}])
def test_there_is_no_notice_without_one_or_after_the_end(changes: dict[str, Any]) -> None:
    assert notice_of(lease(**changes)) is None


def test_the_runner_tells_each_notice_once_and_again_when_it_has_come_nearer() -> None:
    class Lab:
        def __init__(self) -> None:
            self.answers = [lease(revoke_at=None), *[lease()] * 3, *[lease(revoke_at="2026-11-21T09:30:10Z")] * 2]
            self.done = threading.Event()

        def heartbeat(self, lease_id: str) -> Lease:
            if len(self.answers) == 1:
                self.done.set()
                return self.answers[0]
            return self.answers.pop(0)

    lab, noticed = Lab(), list[float]()
    heartbeat = Heartbeat(lab, "lease-1", 0.15, lambda reason: None, lambda notice: noticed.append(notice.grace_s))
    heartbeat.start()
    assert lab.done.wait(10)
    heartbeat.close()
    assert noticed == [60.0, 10.0]
