"""What a holder, those beside them and those after them meet at the agent: labd, agent and runners as processes."""

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bench_agent.client import BenchClient, LeaseRefused
from deploy.demo.lab import DEMO_AGENT, Lab, running_lab
from labd.client import LabClient
from labd.client.types import Lease, LeasedBench, Run
from tests.holders import holdings
from tests.running_time import running_time

GRACE_S = 20.0

PATIENT = """
local bench, test, time, uds = require("bench"), require("test"), require("time"), require("uds")
local told
bench.on_revoke(function(notice)
  print("told: " .. notice.reason)
  told = notice.grace_s
end)
test.case("goes when it is asked to", function()
  print("runs")
  local deadline = time.monotonic() + 120
  while not told and time.monotonic() < deadline do
    uds.ecu("ECM"):read("VIN")
    time.sleep("100ms")
  end
  test.equal(told, test.between(1, 20))
end)
"""

BOTH = """
local bench, test = require("bench"), require("test")
test.case("both benches", function()
  test.equal(#bench.names, 2)
  for number = 1, 2 do
    local one = bench.open(number)
    one.require("uds").ecu():tester_present()
    test.is_true(one.require("can").bus():measure_cycle(one.buses[1].messages[1], "1s").frames >= 0)
    print(one.name .. " with " .. one.ecus[1].name)
  end
end)
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with running_lab(tmp_path_factory.mktemp("lab"), DEMO_AGENT) as running:
        running.wait_for_benches("bench-1", "bench-2")
        yield running


@pytest.fixture
def client(lab: Lab) -> Iterator[LabClient]:
    with lab.client() as client:
        yield client


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def held(lab: Lab, client: LabClient, stack: ExitStack, name: str = "bench-1") -> Lease:
    lease = client.create_lease(selector=f"name={name}", holder="ada", duration_s=600, ttl_s=600)
    stack.callback(lambda: lab.wait_for_benches(name))
    stack.callback(client.release, lease["id"])
    lab.wait_for("the lease", lambda: client.lease(lease["id"])["token"] is not None)
    return client.lease(lease["id"])


def opened(stack: ExitStack, one: LeasedBench) -> BenchClient:
    token = one.get("token")
    assert one["address"]
    assert token
    return stack.enter_context(BenchClient(one["address"], one["name"], token, timeout_s=30))


def ended(lab: Lab, client: LabClient, run: Run) -> Run:
    lab.wait_for("the end of the run", lambda: client.run(run["id"])["ended_at"] is not None)
    return client.run(run["id"])


def test_the_first_call_makes_a_lease_active(lab: Lab, client: LabClient, stack: ExitStack) -> None:
    lease = held(lab, client, stack)
    assert lease["state"] == "GRANTED"
    opened(stack, lease["benches"][0]).describe()
    lab.wait_for("an active lease", lambda: client.lease(lease["id"])["state"] == "ACTIVE", deadline_s=30)


def test_a_lease_is_shared_with_those_who_look_on_and_those_who_act(
    lab: Lab, client: LabClient, stack: ExitStack
) -> None:
    lease = held(lab, client, stack)
    mine = opened(stack, lease["benches"][0])
    mine.describe()
    bob = opened(stack, client.share(lease["id"], "bob", "observer")["benches"][0])
    carol = opened(stack, client.share(lease["id"], "carol", "co-driver")["benches"][0])
    assert bob.describe().name == "bench-1"
    with pytest.raises(LeaseRefused, match=r"needs a co-driver of lease .* shared with bob as observer only"):
        bob.bus("powertrain").send_message("EngineControl", {"TargetSpeed": 1000})
    carol.bus("powertrain").send_message("EngineControl", {"TargetSpeed": 1000})
    assert mine.ecu("ECM").call("read", did="VIN")


def test_a_share_is_taken_back_within_a_second(lab: Lab, client: LabClient, stack: ExitStack) -> None:
    lease = held(lab, client, stack)
    mine = opened(stack, lease["benches"][0])
    bob = opened(stack, client.share(lease["id"], "bob", "observer")["benches"][0])
    mine.describe()
    with bob.bus("powertrain").stream() as frames:
        client.unshare(lease["id"], "bob")
        asked_at = running_time()
        with pytest.raises(LeaseRefused, match="shared with bob as observer no more"):
            for _ in frames.blocks():
                pass
        assert running_time() - asked_at < 1
    with pytest.raises(LeaseRefused, match="no more"):
        bob.describe()
    assert mine.ecu("ECM").call("read", did="VIN")
    again = opened(stack, client.share(lease["id"], "bob", "observer")["benches"][0])
    assert again.describe().name == "bench-1"


def test_an_extended_lease_outlasts_the_tokens_that_are_out(lab: Lab, client: LabClient, stack: ExitStack) -> None:
    lease = client.create_lease(selector="name=bench-1", holder="ada", duration_s=6, ttl_s=600)
    stack.callback(lambda: lab.wait_for_benches("bench-1"))
    stack.callback(client.release, lease["id"])
    lab.wait_for("the lease", lambda: client.lease(lease["id"])["token"] is not None)
    lease = client.lease(lease["id"])
    assert lease["expires_at"]
    mine = opened(stack, lease["benches"][0])
    former_end = datetime.fromisoformat(lease["expires_at"])
    with mine.bus("powertrain").stream() as frames:
        extended = client.extend(lease["id"], 6)
        while datetime.now(UTC) < former_end + timedelta(seconds=1):
            assert frames.read(10) is not None, "the simulated ECU sends"
        assert mine.ecu("ECM").call("read", did="VIN"), "by a token that says that it is over"
        with pytest.raises(LeaseRefused, match="expired"):
            for _ in frames.blocks():
                pass
    assert extended["expires_at"]
    assert datetime.now(UTC) >= datetime.fromisoformat(extended["expires_at"])
    lab.wait_for("its end", lambda: client.lease(lease["id"])["end_reason"] == "expired", deadline_s=30)


def test_a_held_lease_that_is_not_used_is_told_of_and_ends(lab: Lab, client: LabClient, stack: ExitStack) -> None:
    policy = client.policy()
    stack.callback(client.put_policy, policy, if_match="*")
    client.put_policy({**policy, "idle_release_s": 12, "idle_notice_s": 8}, if_match=policy)
    lease = client.create_lease(selector="name=bench-2", holder="ada", duration_s=600, held=True)
    stack.callback(lambda: lab.wait_for_benches("bench-2"))
    stack.callback(client.release, lease["id"])
    lab.wait_for("the lease", lambda: client.lease(lease["id"])["token"] is not None)
    mine = opened(stack, client.lease(lease["id"])["benches"][0])
    with mine.bus("powertrain").stream() as frames:
        lab.wait_for("a notice", lambda: client.lease(lease["id"])["revoke_at"] is not None, deadline_s=30)
        assert "nobody uses its bench" in client.lease(lease["id"])["revoke_reason"]
        used_at = datetime.now(UTC)
        mine.describe()
        lab.wait_for("the notice taken back", lambda: client.lease(lease["id"])["revoke_at"] is None, deadline_s=30)
        with pytest.raises(LeaseRefused, match="has ended: idle"):
            for _ in frames.blocks():
                pass
        assert datetime.now(UTC) - used_at >= timedelta(seconds=9), "use puts the end off"
    assert client.lease(lease["id"])["end_reason"] == "idle"


def test_a_lease_in_other_hands_is_no_longer_its_former_holders(lab: Lab, client: LabClient, stack: ExitStack) -> None:
    lease = held(lab, client, stack)
    old = opened(stack, lease["benches"][0])
    bob = opened(stack, client.share(lease["id"], "bob", "observer")["benches"][0])
    old.describe()
    bob.describe()
    new = opened(stack, client.transfer(lease["id"], "dora")["benches"][0])
    assert new.ecu("ECM").call("read", did="VIN")
    for former in (old, bob):
        with pytest.raises(LeaseRefused, match="has ended"):
            former.describe()
    holdings(lab.folder / "agent")


def test_a_run_uses_two_benches(lab: Lab, client: LabClient) -> None:
    wanted = [{"selector": "name=bench-2", "count": 1}, {"selector": "name=bench-1", "count": 1}]
    run = client.create_run(script=BOTH, holder="ada", benches=wanted, timeout_s=120)  # type: ignore[arg-type]
    final = ended(lab, client, run)
    assert (final["state"], final["reason"]) == ("PASSED", "")
    texts = [line["text"] for line in client.log(run["id"])]
    assert [text for text in texts if text.startswith("bench-")] == ["bench-2 with BCM", "bench-1 with ECM"]
    lab.wait_for_benches("bench-1", "bench-2")


def test_a_run_that_has_to_go_is_told_and_goes_in_time(
    lab: Lab, client: LabClient, stack: ExitStack, tmp_path: Path
) -> None:
    policy = client.policy()
    stack.callback(client.put_policy, policy, if_match="*")
    client.put_policy({**policy, "preemption_grace_s": GRACE_S}, if_match=policy)
    run = client.create_run(script=PATIENT, holder="ada", selector="name=bench-1", priority="low", timeout_s=300)
    next(line for line in client.follow_log(run["id"]) if line["text"] == "runs")
    urgent = client.create_lease(selector="name=bench-1", holder="eve", priority="urgent", duration_s=60, ttl_s=600)
    stack.callback(lambda: lab.wait_for_benches("bench-1"))
    stack.callback(client.release, urgent["id"])
    final = ended(lab, client, run)
    assert (final["state"], final["reason"]) == ("PASSED", "")
    texts = [line["text"] for line in client.log(run["id"])]
    assert any(text.startswith("labd takes lease ") and "eve needs the bench" in text for text in texts)
    assert any(text.startswith("told: eve needs the bench with priority urgent") for text in texts)
    lab.wait_for("the urgent lease", lambda: client.lease(urgent["id"])["token"] is not None, deadline_s=60)
