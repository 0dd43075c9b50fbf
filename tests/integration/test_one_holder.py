"""No bench has two holders, and no lease ends early or late: agents stopped, cut off, and a labd with a wrong date.

The agent's own log of holders is the witness.
"""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from bench_agent.client import BenchClient, LeaseRefused
from deploy.demo.lab import DEMO_AGENT, Lab, agent_command, labd_command, running_lab, service
from labd.client import LabClient
from labd.client.types import Lease
from tests.holders import holdings
from tests.integration.cable import Cable

BENCH = "bench-1"
GONE = r"has ended|superseded|newer lease"


def ask(client: LabClient, holder: str, duration_s: float = 1800) -> Lease:
    return client.create_lease(selector=f"name={BENCH}", holder=holder, duration_s=duration_s, ttl_s=600)


def granted(lab: Lab, client: LabClient, lease: Lease) -> Lease:
    lab.wait_for("the lease", lambda: client.lease(lease["id"])["token"] is not None)
    return client.lease(lease["id"])


def opened(lease: Lease) -> BenchClient:
    assert lease["address"] is not None
    assert lease.get("token")
    return BenchClient(lease["address"], BENCH, lease["token"] or "", timeout_s=30)


def hold(stack: ExitStack, lab: Lab, client: LabClient) -> tuple[Lease, BenchClient]:
    """A lease whose holder acts, and has the agent send by itself."""
    lab.wait_for_benches(BENCH)
    lease = granted(lab, client, ask(client, "old"))
    bench = stack.enter_context(opened(lease))
    bench.bus("powertrain").cyclic("EngineControl", {"TargetSpeed": 1500}, period_s=0.02)
    assert bench.ecu("ECM").call("read", did="VIN")
    return lease, bench


def hand_over(lab: Lab, client: LabClient, old: BenchClient, new: Lease) -> None:
    """The old holder is refused before the new one has called at all."""
    lease = granted(lab, client, new)
    with pytest.raises(LeaseRefused, match=GONE):
        old.describe()
    with opened(lease) as bench:
        assert bench.ecu("ECM").call("read", did="VIN")
        with pytest.raises(LeaseRefused, match=GONE):
            old.ecu("ECM").call("read", did="VIN")


def end(lab: Lab, client: LabClient, lease: Lease) -> None:
    client.release(lease["id"])
    lab.wait_for_benches(BENCH)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def test_a_stopped_agent_refuses_the_old_holder_before_it_lets_the_new_one_in(stack: ExitStack, tmp_path: Path) -> None:
    lab = stack.enter_context(running_lab(tmp_path, DEMO_AGENT))
    client = stack.enter_context(lab.client())
    lease, old = hold(stack, lab, client)
    agent = lab.processes["agent"]
    os.kill(agent.pid, signal.SIGSTOP)
    try:
        client.release(lease["id"])
        new = ask(client, "new")
        assert new["state"] == "QUEUED"  # the agent has not confirmed the end of the old lease
        time.sleep(1)
        assert client.lease(new["id"])["state"] == "QUEUED"
    finally:
        os.kill(agent.pid, signal.SIGCONT)
    hand_over(lab, client, old, new)
    end(lab, client, new)
    first, second = (held for held in holdings(tmp_path / "agent") if held.bench == BENCH)
    assert first.lease == lease["id"]
    assert second.lease == new["id"]
    assert first.ended <= second.begun


def test_an_agent_that_is_cut_off_keeps_its_holder_until_it_hears_and_hands_over_then(
    stack: ExitStack, tmp_path: Path
) -> None:
    lab = stack.enter_context(running_lab(tmp_path))
    cable = stack.enter_context(Cable(lab.agents))
    client = stack.enter_context(lab.client())
    command = agent_command(DEMO_AGENT, cable.address, tmp_path / "agent")
    lab.processes["agent"] = stack.enter_context(service("agent", command, tmp_path))
    lease, old = hold(stack, lab, client)
    cable.pull()
    client.release(lease["id"])
    new = ask(client, "new")
    assert new["state"] == "QUEUED"
    assert old.ecu("ECM").call("read", did="VIN")  # it cannot know; nobody else has the bench
    assert client.lease(new["id"])["state"] == "QUEUED"
    cable.plug_in()
    hand_over(lab, client, old, new)
    end(lab, client, new)
    first, second = (held for held in holdings(tmp_path / "agent") if held.bench == BENCH)
    assert first.ended <= second.begun


@pytest.mark.parametrize("off_by_s", [3600, -3600])
def test_a_labd_that_comes_back_with_a_wrong_date_frees_and_prolongs_nothing(
    stack: ExitStack, tmp_path: Path, off_by_s: int
) -> None:
    lab = stack.enter_context(running_lab(tmp_path, DEMO_AGENT))
    client = stack.enter_context(lab.client())
    lease, bench = hold(stack, lab, client)
    lab.wait_for_benches("bench-2")
    short = client.create_lease(selector="name=bench-2", holder="short", duration_s=20, ttl_s=600)
    process = lab.processes.pop("labd")
    process.kill()
    process.wait()
    ready = tmp_path / "labd" / "labd.json"
    ready.unlink()
    command = labd_command(tmp_path, lab.http.removeprefix("http://"), lab.agents)
    wrong = ["tests.integration.wrong_date", str(off_by_s), *command]
    lab.processes["labd"] = stack.enter_context(service("labd-again", wrong, tmp_path))
    lab.wait_for("labd again", ready.exists)
    lab.wait_for("the agent again", lambda: client.bench(BENCH)["health"] == "healthy")
    again = client.heartbeat(lease["id"])
    assert again["expires_at"] == lease["expires_at"]
    assert again["state"] not in ("ENDING", "ENDED")
    assert bench.ecu("ECM").call("read", did="VIN")
    with opened(again) as fresh:
        assert fresh.ecu("ECM").call("read", did="VIN")
    lab.wait_for("the end of the short lease", lambda: client.lease(short["id"])["state"] == "ENDED", deadline_s=60)
    assert client.lease(short["id"])["end_reason"] == "expired"
    assert client.lease(lease["id"])["state"] not in ("ENDING", "ENDED")
