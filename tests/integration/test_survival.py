"""What dies, and what lives on: the real labd, agent and runner, killed with SIGKILL in the middle of a run."""

import os
import signal
from contextlib import ExitStack
from pathlib import Path
from typing import Literal

import pytest

from deploy.demo.lab import DEMO_AGENT, Lab, agent_command, labd_command, running_lab, service
from labd.client import LabClient
from labd.client.types import Run

LINES = 30
SCRIPT = f"""
local test, uds, time = require("test"), require("uds"), require("time")
test.case("talks for a while", function()
  for line = 1, {LINES} do
    print(line .. " " .. uds.ecu():read("VIN"))
    time.sleep("100ms")
  end
end)
"""


Where = Literal["process", "bench"]
everywhere = pytest.mark.parametrize("where", ["process", "bench"])


def start_run(client: LabClient, where: Where) -> Run:
    """A run that has written its first lines and goes on for seconds."""
    run = client.create_run(script=SCRIPT, name="talk.lua", holder="test", selector="name=bench-1", executor=where)
    next(line for line in client.follow_log(run["id"]) if line["text"].startswith("3 "))
    return client.run(run["id"])


def kill(lab: Lab, name: str) -> None:
    process = lab.processes.pop(name)
    process.kill()
    process.wait()


def wait_for_nursery(lab: Lab, client: LabClient) -> None:
    """Returns once further runs will be forked by it; the first one has it started."""
    script = 'require("test").is_true(true)'
    wait_for_end(lab, client, client.create_run(script=script, holder="test", selector="name=bench-1"))
    lab.wait_for("nursery", lambda: "labd-nursery" in children_of(lab.processes["labd"].pid))
    lab.wait_for_benches("bench-1")


def children_of(pid: int) -> list[str]:
    """What they are called."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    children = [child for thread in threads for child in (thread / "children").read_text().split()]
    return [Path(f"/proc/{child}/comm").read_text().strip() for child in children]


def wait_for_end(lab: Lab, client: LabClient, run: Run) -> Run:
    lab.wait_for("end of the run", lambda: client.run(run["id"])["ended_at"] is not None)
    return client.run(run["id"])


@everywhere
def test_a_run_outlives_labd(tmp_path: Path, where: Where) -> None:
    with ExitStack() as stack:
        lab = stack.enter_context(running_lab(tmp_path, DEMO_AGENT))
        client = stack.enter_context(lab.client())
        lab.wait_for_benches("bench-1")
        if where == "process":
            wait_for_nursery(lab, client)
        run = start_run(client, where)
        kill(lab, "labd")
        ready = tmp_path / "labd" / "labd.json"
        ready.unlink()
        command = labd_command(tmp_path, lab.http.removeprefix("http://"), lab.agents)
        lab.processes["labd"] = stack.enter_context(service("labd-again", command, tmp_path))
        lab.wait_for("labd again", ready.exists)
        ended = wait_for_end(lab, client, run)
        assert (ended["state"], ended["reason"]) == ("PASSED", "")
        texts = [line["text"] for line in client.follow_log(run["id"])]
        talk = [text for text in texts if text.endswith("WVWZZZ1KZ6W000001")]
        assert talk == [f"{line} WVWZZZ1KZ6W000001" for line in range(1, LINES + 1)]
        lab.wait_for_benches("bench-1", "bench-2")


@everywhere
def test_a_killed_agent_makes_the_run_an_error_and_comes_back(tmp_path: Path, where: Where) -> None:
    with ExitStack() as stack:
        lab = stack.enter_context(running_lab(tmp_path, DEMO_AGENT))
        client = stack.enter_context(lab.client())
        lab.wait_for_benches("bench-1")
        run = start_run(client, where)
        kill(lab, "agent")
        ended = wait_for_end(lab, client, run)
        assert ended["state"] == "ERROR"
        assert ended["reason"]
        assert client.bench("bench-1")["health"] == "offline"
        command = agent_command(DEMO_AGENT, lab.agents, tmp_path / "agent")
        lab.processes["agent"] = stack.enter_context(service("agent-again", command, tmp_path))
        lab.wait_for_benches("bench-1", "bench-2")


@everywhere
def test_a_killed_runner_makes_the_run_an_error_and_frees_the_bench(tmp_path: Path, where: Where) -> None:
    with running_lab(tmp_path, DEMO_AGENT) as lab, lab.client() as client:
        lab.wait_for_benches("bench-1")
        run = start_run(client, where)
        for pid in runners(tmp_path):
            os.kill(pid, signal.SIGKILL)
        ended = wait_for_end(lab, client, run)
        assert ended["state"] == "ERROR"
        assert "SIGKILL" in ended["reason"]
        lab.wait_for_benches("bench-1")


def test_a_stopped_agent_ends_the_run_beside_it_with_the_reason(tmp_path: Path) -> None:
    with running_lab(tmp_path, DEMO_AGENT) as lab, lab.client() as client:
        lab.wait_for_benches("bench-1")
        run = start_run(client, "bench")
        process = lab.processes.pop("agent")
        process.terminate()
        process.wait()
        ended = wait_for_end(lab, client, run)
        assert ended["state"] == "ERROR"
        assert ended["reason"].endswith("was told to stop (the agent stops)")


def test_a_cancelled_run_at_the_bench_leaves_no_process(tmp_path: Path) -> None:
    with running_lab(tmp_path, DEMO_AGENT) as lab, lab.client() as client:
        lab.wait_for_benches("bench-1")
        run = start_run(client, "bench")
        assert [Path(f"/proc/{pid}/cwd").readlink().parent.parent.name for pid in runners(tmp_path)] == ["agent"]
        client.cancel_run(run["id"])
        lab.wait_for_benches("bench-1")
        lab.wait_for("end of the runner", lambda: not list((tmp_path / "agent" / "runs").iterdir()))
        assert client.run(run["id"])["state"] == "CANCELLED"


def test_a_revoked_lease_ends_the_run_at_the_bench(tmp_path: Path) -> None:
    with running_lab(tmp_path, DEMO_AGENT) as lab, lab.client() as client:
        lab.wait_for_benches("bench-1")
        run = start_run(client, "bench")
        client.release(str(run["lease_id"]))
        ended = wait_for_end(lab, client, run)
        assert (ended["state"], ended["reason"]) == ("ERROR", "its lease was released while it ran")
        lab.wait_for_benches("bench-1")


def runners(folder: Path) -> list[int]:
    """Processes whose working folder lies in ``folder``: each run has one of its own there."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").readlink().is_relative_to(folder):
                found.append(int(process.name))
        except OSError:
            continue  # it has just ended
    assert found
    return found
