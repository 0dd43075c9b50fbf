"""How long traces stay: what labd says for each team."""

import os
import time
from collections.abc import Callable
from pathlib import Path

from bench_agent.client import BenchClient
from bench_agent.protocol import lab_pb2
from bench_agent.server.trace_keeping import Bounds, TraceRules, note_team, prune_teams
from tests.unit.bench_agent.harness import FakeLabd, Signer, StartAgent

DEADLINE_S = 60.0


def _trace(traces: Path, lease: str, team: str, age_s: float) -> Path:
    place = traces / lease
    place.mkdir(parents=True)
    (place / "bus-0001.log").write_bytes(bytes(1000))
    note_team(place, team)
    os.utime(place, (time.time() - age_s,) * 2)
    return place


def _left(traces: Path) -> list[str]:
    return sorted(path.name for path in traces.iterdir())


def _until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_each_teams_traces_go_by_its_own_age(tmp_path: Path) -> None:
    for lease, team, age_s in (("a", "blue", 300), ("b", "blue", 100), ("c", "red", 300), ("d", "", 300)):
        _trace(tmp_path, lease, team, age_s)
    prune_teams(tmp_path, TraceRules(Bounds(max_age_s=250), {"red": Bounds()}), ())
    assert _left(tmp_path) == ["b", "c"]


def test_a_teams_oldest_traces_go_when_they_are_too_many(tmp_path: Path) -> None:
    for lease, team, age_s in (("a", "blue", 300), ("b", "blue", 200), ("c", "blue", 100), ("d", "red", 400)):
        _trace(tmp_path, lease, team, age_s)
    prune_teams(tmp_path, TraceRules(teams={"blue": Bounds(max_bytes=2100)}), ())
    assert _left(tmp_path) == ["b", "c", "d"]


def test_what_is_in_use_stays_and_counts(tmp_path: Path) -> None:
    oldest = _trace(tmp_path, "a", "blue", 300)
    for lease, age_s in (("b", 200), ("c", 100)):
        _trace(tmp_path, lease, "blue", age_s)
    prune_teams(tmp_path, TraceRules(Bounds(max_age_s=250, max_bytes=2100)), [oldest])
    assert _left(tmp_path) == ["a", "c"]


def test_rules_come_from_labd_and_hold_at_once(labd: FakeLabd, start_agent: StartAgent, signer: Signer) -> None:
    running = start_agent()
    labd.wait(lambda message: message.HasField("hello"))
    with BenchClient(running.address, "bench-1", signer.token(team="blue")) as bench:
        bench.describe()
        traces = running.agent.config.agent.data_dir / "traces"
        assert (traces / "lease-1" / "team").read_text() == "blue"
        _trace(traces, "old", "blue", 3600)
        _trace(traces, "other", "red", 3600)
        rules = lab_pb2.TraceRules()
        rules.teams["blue"].max_age_s = 0
        labd.say(lab_pb2.LabMessage(trace_rules=rules))
        _until(lambda: _left(traces) == ["lease-1", "other"])
        rules.default.max_bytes = 10
        labd.say(lab_pb2.LabMessage(trace_rules=rules))
        _until(lambda: _left(traces) == ["lease-1"])
