"""An agent whose network to labd is really cut, while its leases end, change hands, and while it is restarted itself.

Holders reach the agent all the time, by another cable. The agent's own log of holders is the witness.
"""

import os
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from bench_agent.client import BenchClient, LeaseRefused
from deploy.demo.lab import DEMO_AGENT, Lab, running_lab, service
from labd.client import LabClient
from labd.client.types import Lease
from tests.holders import holdings
from tests.island import Island
from tests.running_time import running_time

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs the right to make network namespaces")
GONE = r"has ended|superseded|newer lease|expired"
CLOCKS_DIFFER_S = 5.0
"""Within this an agent that was started anew without labd knows that a lease is over; labd itself allows for 60 s."""
NOTICED_S = 15.0
"""Both ends know of a cut by then, on a machine that has other things to do."""


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def _granted(lab: Lab, client: LabClient, lease: Lease) -> Lease:
    lab.wait_for("the lease", lambda: client.lease(lease["id"])["token"] is not None)
    return client.lease(lease["id"])


def _open(stack: ExitStack, lease: Lease) -> BenchClient:
    bench = BenchClient(str(lease["address"]), str(lease["bench"]), str(lease["token"]), timeout_s=30)
    return stack.enter_context(bench)


def _acts(bench: BenchClient) -> None:
    bench.describe()


def _refused(bench: BenchClient) -> None:
    with pytest.raises(LeaseRefused, match=GONE):
        _acts(bench)


def _is_refused(bench: BenchClient) -> bool:
    try:
        _acts(bench)
    except LeaseRefused as refusal:
        return re.search(GONE, str(refusal)) is not None
    return False


def _noticed(log: Path, began: float) -> bool:
    """Whether the agent has said that it is not attached, after so many characters of its log."""
    return re.search("not attached to labd", log.read_text()[int(began) :]) is not None


def test_an_agent_without_labd_lets_nobody_act_whose_lease_is_over(stack: ExitStack, tmp_path: Path) -> None:
    island = stack.enter_context(Island(cables=2))
    to_labd, to_holders = island.cables
    options = ["--agents", f"{to_labd.here}:0", "--insecure-on-network"]
    lab = stack.enter_context(running_lab(tmp_path, options=options))
    client = stack.enter_context(lab.client())
    where = ["--listen", f"{to_holders.there}:8480", "--labd", lab.agents, "--data", str(tmp_path / "agent")]
    command = ["bench_agent.main", "serve", str(DEMO_AGENT), *where, "--insecure-on-network"]
    agent = stack.enter_context(service("agent", command, tmp_path, island.prefix))
    lab.wait_for_benches("bench-1", "bench-2")
    handed = _granted(lab, client, client.create_lease(selector="name=bench-2", holder="ada", ttl_s=600))
    ada = _open(stack, handed)
    _acts(ada)
    short = client.create_lease(selector="name=bench-1", holder="eve", duration_s=12, ttl_s=600)
    eve = _open(stack, _granted(lab, client, short))
    _acts(eve)
    log = tmp_path / "agent.log"
    said = len(log.read_text())
    to_labd.pull()
    cut = running_time()
    waiting = client.create_lease(selector="name=bench-1", holder="wim", ttl_s=600)
    _acts(eve)  # it is still hers
    # In other hands: the agent cannot know, but the first call of the new holder tells it.
    bob = _open(stack, client.transfer(handed["id"], "bob"))
    _acts(bob)
    _refused(ada)
    lab.wait_for("both ends' notice", lambda: client.bench("bench-2")["health"] == "offline" and _noticed(log, said))
    assert running_time() - cut < NOTICED_S
    # Started anew, it knows no less.
    agent.kill()
    agent.wait()
    stack.enter_context(service("agent", command, tmp_path, island.prefix))
    lab.wait_for("the agent's benches", lambda: log.read_text().count("agent serves") == 2)
    _refused(ada)
    _acts(bob)
    # Its lease is over by labd's clock, which the agent has kept, to some milliseconds: nobody has to tell it.
    lab.wait_for("the end of the short lease", lambda: client.lease(short["id"])["state"] in ("ENDING", "ENDED"))
    lab.wait_for("the agent's refusal", lambda: _is_refused(eve), deadline_s=CLOCKS_DIFFER_S)
    assert client.lease(waiting["id"])["state"] == "QUEUED"
    to_labd.plug_in()
    wim = _open(stack, _granted(lab, client, waiting))
    _refused(eve)
    _acts(wim)
    _refused(eve)
    _refused(ada)
    _acts(bob)
    order = [(one.bench, one.lease) for one in holdings(tmp_path / "agent")]  # raises if a bench had two
    assert ("bench-1", waiting["id"]) in order
    assert order.index(("bench-1", short["id"])) < order.index(("bench-1", waiting["id"]))
