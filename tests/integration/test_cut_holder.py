"""A holder whose network to the agent is really cut: packets vanish, and nobody is told."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from bench_agent.client import BenchClient, BenchUnavailable, InUse
from bench_agent.protocol.transport import CUT_S
from deploy.demo.lab import DEMO_AGENT, Lab, running_lab, service
from labd.client import LabClient
from labd.client.types import Lease
from tests.island import Island, NetworkCable
from tests.running_time import running_time

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs the right to make network namespaces")
STALLS_S = 10.0
"""What a machine that has other things to do may take on top."""
SCRIPT = """
local test, uds, time = require("test"), require("uds"), require("time")
test.case("talks for ever", function()
  uds.ecu():session("extended")
  while true do
    print(uds.ecu():read("VIN"))
    time.sleep("100ms")
  end
end)
"""


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


class _Scene:
    """A lab whose agent is on an island with two cables: one to labd, one by which holders reach it."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        island = stack.enter_context(Island(cables=2))
        self.to_labd, self.to_holders = island.cables
        options = ["--agents", f"{self.to_labd.here}:0", "--insecure-on-network"]
        self.lab: Lab = stack.enter_context(running_lab(folder, options=options))
        self.client: LabClient = stack.enter_context(self.lab.client())
        where = ["--listen", "0.0.0.0:8480", "--advertise", f"{self.to_holders.there}:8480", "--labd", self.lab.agents]
        command = ["bench_agent.main", "serve", str(DEMO_AGENT), *where, "--data", str(folder / "agent")]
        stack.enter_context(service("agent", [*command, "--insecure-on-network"], folder, island.prefix))
        self.lab.wait_for_benches("bench-1", "bench-2")
        self._stack = stack

    def lease(self, bench: str, holder: str) -> Lease:
        lease = self.client.create_lease(selector=f"name={bench}", holder=holder, ttl_s=600)
        self.lab.wait_for("the lease", lambda: self.client.lease(lease["id"])["token"] is not None)
        return self.client.lease(lease["id"])

    def open(self, cable: NetworkCable, bench: str, token: str) -> BenchClient:
        return self._stack.enter_context(BenchClient(f"{cable.there}:8480", bench, token, timeout_s=60))


def _ends_cut(ends: "Future[None]", deadline_s: float) -> None:
    """The call has ended by then, with words that tell why."""
    with pytest.raises(BenchUnavailable, match=r"the connection was cut: .* has not answered for 5 s"):
        ends.result(timeout=deadline_s)


def _read_for_ever(bench: BenchClient) -> None:
    with bench.bus("powertrain").stream(own_frames=True) as frames:
        for _ in frames:
            pass


def _nothing_comes(bench: BenchClient) -> None:
    with bench.console("bcm").watch() as console:
        while True:
            console.read(None)


def _ask_for_ever(bench: BenchClient) -> None:
    ecu = bench.ecu("BCM")
    while True:
        ecu.read("VIN")


def _free(bench: BenchClient) -> bool:
    try:
        with bench.console("bcm"):
            return True
    except InUse:
        return False


def test_a_cut_between_holder_and_agent_ends_all_that_hangs_on_it_within_seconds(
    stack: ExitStack, tmp_path: Path
) -> None:
    scene = _Scene(stack, tmp_path)
    lease = scene.lease("bench-2", "ada")
    token = str(lease["token"])
    share = scene.client.share(lease["id"], "bob", "co-driver")
    bob = scene.open(scene.to_labd, "bench-2", str(share["benches"][0]["token"]))
    writer = scene.open(scene.to_holders, "bench-2", token).console("bcm")
    writer.__enter__()
    assert not _free(bob)
    works: list[Callable[[BenchClient], None]] = [_read_for_ever, _nothing_comes, _ask_for_ever]
    benches = [scene.open(scene.to_holders, "bench-2", token) for _ in works]
    for bench in benches:
        bench.describe()
    run = scene.client.create_run(script=SCRIPT, name="talk.lua", holder="eve", selector="name=bench-1")
    next(line for line in scene.client.follow_log(run["id"]) if line["text"].startswith("WVW"))
    pool = stack.enter_context(ThreadPoolExecutor(len(works)))
    calls = [pool.submit(work, bench) for work, bench in zip(works, benches, strict=True)]
    scene.to_holders.pull()
    cut = running_time()
    for call in calls:
        _ends_cut(call, CUT_S + STALLS_S)
    # The agent has noticed as well, and lets go of what the holder had by their streams; the lease is still theirs.
    scene.lab.wait_for("the console", lambda: _free(bob), deadline_s=CUT_S + STALLS_S - (running_time() - cut))
    assert scene.client.lease(lease["id"])["state"] == "ACTIVE"
    # A run's verdict says what was the matter, and the bench is handed on: clean, the tester silent.
    scene.lab.wait_for("the verdict", lambda: scene.client.run(run["id"])["ended_at"] is not None)
    ended = scene.client.run(run["id"])
    assert ended["state"] == "ERROR"
    assert "the connection was cut: the agent's side has not answered for 5 s" in ended["reason"]
    scene.lab.wait_for_benches("bench-1")
    assert running_time() - cut < CUT_S + 2 * STALLS_S
    # The same client goes on once the network is back.
    scene.to_holders.plug_in()
    benches[0].describe()
