"""The judge finds each broken promise: a judge that cannot convict proves nothing."""

import json
from pathlib import Path
from typing import Any

from bench_agent.server.holder_log import NAME
from tests.chaos.journal import Event
from tests.chaos.judge import Final, judge, judge_logs

DONE = {"l-1": Final("ENDED", "released"), "l-2": Final("ENDED", "released")}


def event(op: str, at: float, lease: str = "l-1", **changes: Any) -> Event:
    values: dict[str, Any] = {"began": at, "ended": at + 0.1, "ok": True, "lease": lease, "group": "meb", **changes}
    return Event(op, **values)


def life(lease: str, start: float, *, epoch: int, waits: float = 1.0) -> list[Event]:
    """A lease that is asked for, waits, acts, and is given back; all on the one bench there is."""
    on = {"bench": "hil-01", "epoch": epoch}
    served = start + waits
    return [
        event("create", start, lease, state="QUEUED"),
        event("heartbeat", served - 0.5, lease, state="QUEUED"),
        event("heartbeat", served, lease, state="GRANTED", remaining_s=600.0, **on),
        event("call", served + 0.2, lease, **on),
        event("heartbeat", served + 0.5, lease, state="ACTIVE", remaining_s=599.5, **on),
        event("release", served + 0.8, lease, state="ENDING", **on),
    ]


def promises(events: list[Event], final: dict[str, Final]) -> set[str]:
    return {violation.promise for violation in judge(events, final)}


def test_lives_in_turn_break_no_promise() -> None:
    assert promises(life("l-1", 0.0, epoch=1) + life("l-2", 0.2, epoch=2, waits=3.0), DONE) == set()


def test_a_lease_that_labd_forgot_is_found() -> None:
    assert promises(life("l-1", 0.0, epoch=1), {}) == {"what was acknowledged is kept"}


def test_a_release_that_was_lost_is_found() -> None:
    broken = promises(life("l-1", 0.0, epoch=1), {"l-1": Final("ACTIVE")})
    assert broken == {"what was acknowledged is kept", "nothing waits for ever"}


def test_a_lease_that_goes_back_to_the_queue_is_found() -> None:
    again = [event("heartbeat", 5.0, state="QUEUED")]
    assert promises(life("l-1", 0.0, epoch=1) + again, DONE) == {"a lease never goes back"}


def test_a_lease_that_changes_its_bench_is_found() -> None:
    moved = [event("heartbeat", 1.6, state="ACTIVE", bench="hil-02", epoch=1)]
    assert promises(life("l-1", 0.0, epoch=1) + moved, DONE) == {"a lease never goes back"}


def test_a_hard_end_that_moves_is_found() -> None:
    longer = [event("heartbeat", 1.6, state="ACTIVE", bench="hil-01", epoch=1, remaining_s=700.0)]
    assert promises(life("l-1", 0.0, epoch=1) + longer, DONE) == {"the remaining time is kept"}


def test_a_lease_that_expires_early_is_found() -> None:
    events = life("l-1", 0.0, epoch=1)[:-1]
    assert promises(events, {"l-1": Final("ENDED", "expired")}) == {"the remaining time is kept"}


def test_one_who_jumps_the_queue_is_found() -> None:
    first, second = life("l-1", 0.0, epoch=2, waits=9.0), life("l-2", 0.2, epoch=1, waits=2.0)
    assert promises(first + second, DONE) == {"the queue keeps its order"}


def test_one_who_loses_its_place_is_found() -> None:
    waiting = [event("create", 0.0, state="QUEUED", position=2), event("heartbeat", 1.0, state="QUEUED", position=3)]
    assert promises(waiting, DONE) == {"the queue keeps its order"}


def test_a_lease_that_was_asked_for_twice_counts_from_the_first_time() -> None:
    first, second = life("l-1", 0.5, epoch=2, waits=9.0), life("l-2", 0.9, epoch=1, waits=2.0)
    second[0] = event("create", 0.9, "l-2", state="QUEUED", asked=0.2)
    assert promises(first + second, DONE) == set()


def test_an_old_holder_that_acts_after_the_new_one_is_found() -> None:
    late = [event("call", 9.0, bench="hil-01", epoch=1)]
    events = life("l-1", 0.0, epoch=1) + life("l-2", 0.2, epoch=2, waits=3.0) + late
    assert promises(events, DONE) == {"one holder at a time"}


def test_two_holders_in_an_agents_log_are_found(tmp_path: Path) -> None:
    begin = {"boot": 1.0, "event": "begin", "bench": "b", "lease": "l-1", "epoch": 1, "who": "me"}
    lines = [begin, begin | {"boot": 2.0, "lease": "l-2", "epoch": 2}]
    (tmp_path / NAME).write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert [violation.promise for violation in judge_logs([tmp_path])] == ["one holder at a time"]


def test_two_leases_of_one_epoch_are_found() -> None:
    events = life("l-1", 0.0, epoch=1) + life("l-2", 0.2, epoch=1, waits=3.0)
    assert promises(events, DONE) == {"one holder at a time"}


def test_one_who_waits_for_ever_is_found() -> None:
    assert promises(life("l-1", 0.0, epoch=1)[:2], {"l-1": Final("QUEUED")}) == {"nothing waits for ever"}
