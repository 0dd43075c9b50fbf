"""Limits of runs in clusters: a run too many waits without a bench, and is told for what."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labd.model.identity import ANONYMOUS
from labd.model.lease import LeaseState
from labd.model.policy import Policy, RunLimit, RunPolicy, policy_of
from labd.model.run import Cause, ExecutorName, Run, RunState
from labd.scheduling.decide import decide
from labd.scheduling.lab import Bench, Held, Lab
from labd.scheduling.rules import Rules
from labd.scheduling.wish import Part, Wish
from labd.services.errors import Invalid
from labd.services.lab import Lab as WholeLab
from tests.unit.labd.fakes import RESULT, FakeClock, FakeClusters, attach, open_lab, report, settle


@pytest.fixture
def pods() -> FakeClusters:
    return FakeClusters()


@pytest.fixture
def lab(tmp_path: Path, clock: FakeClock, pods: FakeClusters, database: str | None) -> Iterator[WholeLab]:
    lab = open_lab(tmp_path, clock, database=database, clusters=pods)
    attach(lab, *(report(f"bench-{number}", {"platform": "meb" if number < 4 else "mqb"}) for number in range(6)))
    yield lab
    lab.core.store.close()


def _allow(lab: WholeLab, *limits: RunLimit) -> None:
    lab.policing.replace(ANONYMOUS, Policy(runs=RunPolicy(limits=limits)))


def _submit(lab: WholeLab, **changes: Any) -> Run:
    wish: dict[str, Any] = {"script": "return 1", "name": "x.lua", "files": {}, "holder": "ci", "timeout_s": 60.0}
    wish["executor"] = ExecutorName.KUBERNETES
    run = lab.running.create(ANONYMOUS, **{**wish, **changes}).run
    settle(lab)
    return lab.running.get(run.id).run


def test_a_run_over_a_limit_waits_without_a_bench_and_says_for_what(lab: WholeLab, pods: FakeClusters) -> None:
    _allow(lab, RunLimit(2, cluster="lab-a"))
    first, _, third = _submit(lab), _submit(lab), _submit(lab)
    waiting = lab.running.get(third.id)
    assert (waiting.run.state, waiting.benches) == (RunState.PENDING, ())
    assert waiting.obstacle == "cluster lab-a runs 2 of 2 runs"
    assert lab.leasing.get(third.lease_id).obstacle == "cluster lab-a runs 2 of 2 runs"
    found = lab.explaining.why(third.lease_id).explanation
    assert (str(found.at_limit), found.expected_start) == ("cluster lab-a runs 2 of 2 runs", None)
    assert len(pods.jobs) == 2
    lab.reporting.put_result(first.id, RESULT, "")
    settle(lab)
    assert lab.running.get(third.id).run.state is RunState.RUNNING, "though its predecessor's bench is not clean yet"


def test_who_waits_for_a_limit_holds_nobody_up(lab: WholeLab) -> None:
    _allow(lab, RunLimit(0, cluster="lab-a"))
    assert _submit(lab).state is RunState.PENDING
    assert _submit(lab, cluster="lab-b").state is RunState.RUNNING
    assert _submit(lab, executor=ExecutorName.PROCESS).state is RunState.RUNNING, "limits are of runs in clusters"
    lease = lab.leasing.create(ANONYMOUS, selector="", holder="ada", duration_s=60.0, ttl_s=60.0).lease
    assert lease.state is LeaseState.GRANTED


def test_limits_may_be_of_a_team_or_of_a_selector_or_of_both(lab: WholeLab) -> None:
    _allow(lab, RunLimit(1, team="chassis"), RunLimit(1, selector=" platform = meb "), RunLimit(4))
    assert _submit(lab, team="chassis", selector="platform=mqb").state is RunState.RUNNING
    assert _submit(lab, selector="platform=meb").state is RunState.RUNNING
    for wish, obstacle in (
        ({"team": "chassis"}, "team chassis runs 1 of 1 runs"),
        ({"selector": "platform==meb"}, "selector platform=meb runs 1 of 1 runs"),
    ):
        run = _submit(lab, **wish)
        assert (run.state, lab.running.get(run.id).obstacle) == (RunState.PENDING, obstacle)
        lab.running.cancel(ANONYMOUS, run.id)
    runs = [_submit(lab) for _ in range(3)]
    assert [run.state for run in runs] == [RunState.RUNNING, RunState.RUNNING, RunState.PENDING]
    _allow(lab)
    assert lab.running.get(runs[2].id).run.state is RunState.RUNNING


def test_a_run_that_is_tried_again_waits_for_the_limit_like_others(lab: WholeLab, pods: FakeClusters) -> None:
    _allow(lab, RunLimit(1))
    run, other = _submit(lab), _submit(lab)
    pods.die(run.id, "the node was drained", Cause.EVICTED)
    settle(lab)
    assert lab.running.get(other.id).run.state is RunState.RUNNING
    assert lab.running.get(run.id).obstacle == "the lab runs 1 of 1 runs"


def test_limits_are_checked_and_kept(lab: WholeLab) -> None:
    with pytest.raises(Invalid) as refused:
        _allow(lab, RunLimit(1, selector="a in"), RunLimit(1, team="x"), RunLimit(2, team="x"))
    assert [one.field for one in refused.value.errors] == ["runs.limits.0.selector", "runs.limits.2"]
    policy = Policy(runs=RunPolicy(2, (RunLimit(3, "lab-a", "chassis", "platform=meb"),)))
    assert policy_of(asdict(policy)) == policy


WISHES = st.lists(st.sampled_from([(), ("a",), ("b",), ("a", "b")]), max_size=8)


@given(WISHES, WISHES, st.integers(0, 4), st.integers(0, 4))
def test_no_limit_is_exceeded_and_none_waits_without_need(
    held: list[tuple[str, ...]], wished: list[tuple[str, ...]], a: int, b: int
) -> None:
    benches = tuple(Bench(f"bench-{number}", {"name": f"bench-{number}"}) for number in range(16))
    present = tuple(
        Held(f"h-{number}", (f"bench-{number}",), 0.0, 100.0, limits=limits) for number, limits in enumerate(held)
    )
    wishes = tuple(
        Wish(f"w-{number}", number, (Part(""),), 60.0, 0.0, limits=limits) for number, limits in enumerate(wished)
    )
    most = {"a": a, "b": b}
    decision = decide(Lab(1.0, benches, wishes, present), Rules(limits=most))
    granted = {grant.wish for grant in decision.grants}
    assert granted | decision.at_limit.keys() == {wish.id for wish in wishes}, "there is a bench for each"
    for limit, number in most.items():
        before = sum(limit in limits for limits in held)
        new = sum(limit in wish.limits for wish in wishes if wish.id in granted)
        assert new == 0 or before + new <= number
    for reached in decision.at_limit.values():
        assert reached.taken >= reached.most
