"""What 500 pods in flight cost labd: runs of the executor ``kubernetes`` against the tests' fake API server.

The pods are functions of this process, on the tests' node: they prove which pod they are, heartbeat their lease as the
real runner does, and hand over a result, all at the same moment. labd is a process of its own, and it alone is
measured; another process asks it things meanwhile, as people do.
"""

import functools
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from labd.client.types import Run
from tests.benchmarks.attached_agents import processor_s, resident_most_mib
from tests.benchmarks.figures import Figure
from tests.benchmarks.prober import probing
from tests.integration.labd_support import Daemon, StreamAgent
from tests.kubernetes.cluster import free_ports, namespaced
from tests.kubernetes.fake import FakeApiServer
from tests.kubernetes.node import LocalNode
from tests.kubernetes.small_runner import small_runner

PODS = 500
SECONDS = 30.0
IDLE_S = 5.0
DEADLINE_S = 600.0


def measure(folder: Path, pods: int = PODS, seconds: float = SECONDS) -> list[Figure]:
    """The baseline is the same labd with the same benches and no run."""
    released = threading.Event()
    with ExitStack() as stack:
        fake = FakeApiServer(history=200_000)
        stack.callback(fake.close)
        cluster = stack.enter_context(namespaced(fake.kubeconfig(folder / "kubeconfig"), fake))
        program = functools.partial(small_runner, released=released)
        node = LocalNode(cluster.kubeconfig, cluster.namespace, folder, fake=fake, programs={"runner": program})
        stack.callback(node.close)
        labd = _labd(stack, folder, cluster.kubeconfig, cluster.namespace)
        stack.enter_context(StreamAgent(labd.agents, *(f"bench-{n:04}" for n in range(pods))))
        _wait(lambda: len(labd.client.benches(states=["available"])) == pods, "the benches")
        idle = _share(labd, IDLE_S)

        begins = _Spent(labd)
        with probing(f"http://{labd.http}") as answers:
            runs = [_run(labd) for _ in range(pods)]
            _wait(lambda: node.running == pods, "all pods run")
            flies = _Spent(labd)
            flight = [_share(labd, seconds / 3) for _ in range(3)]
            ends = _Spent(labd)
            released.set()
            for run in runs:
                _wait(functools.partial(_ended, labd, run), "a run ends")
            over = _Spent(labd)
        passed = sum(labd.client.run(run["id"])["state"] == "PASSED" for run in runs)
        if passed != pods:
            raise RuntimeError(f"{passed} of {pods} runs passed")
        mib = resident_most_mib(labd.process.pid)
    name, started_s = f"{pods} pods in flight", flies.at_s - begins.at_s
    quiet = ("no run", [max(idle, 0.001)])
    slowest = [max(answers)]
    return [
        Figure(f"{name}: labd's core", "cores", flight, *quiet, "value", "at most", 1.0),
        Figure(f"{name}: core while they start", "cores", [flies.since(begins)], *quiet, "value", "at most", 1.0),
        Figure(f"{name}: core while they end", "cores", [over.since(ends)], *quiet, "value", "at most", 1.0),
        Figure(f"{name}: core from first to last", "cores", [over.since(begins)], *quiet, "value", "at most", 1.0),
        Figure(f"{name}: started per second", "1/s", [pods / started_s], "one a second", [1.0], "value", "at least", 5),
        Figure(f"{name}: labd's slowest answer", "ms", slowest, "its median", answers, "value", "at most", 5000),
        Figure(f"{name}: memory", "MiB", [mib], "none", [1.0], "value", "at most", 800),
    ]


class _Spent:
    """A moment, and the processor time that labd has taken until then."""

    def __init__(self, labd: Daemon) -> None:
        self.at_s, self._spent_s = time.monotonic(), processor_s(labd.process.pid)

    def since(self, before: "_Spent") -> float:
        """Cores that labd took on average."""
        return (self._spent_s - before._spent_s) / (self.at_s - before.at_s)


def _labd(stack: ExitStack, folder: Path, kubeconfig: Path, namespace: str) -> Daemon:
    door = f"127.0.0.1:{free_ports(1)[0]}"
    clusters = folder / "clusters.yaml"
    clusters.write_text(
        f"clusters: [{{name: lab, kubeconfig: {kubeconfig}, namespace: {namespace}, "
        f'image: "runner:1", url: "http://{door}", finished_ttl_s: 0}}]\n'
    )
    labd = Daemon(folder / "labd", "--clusters", str(clusters))
    labd.http = door
    stack.enter_context(labd)
    return labd


def _run(labd: Daemon) -> Run:
    return labd.client.create_run(
        script="return 1", name="pod.lua", executor="kubernetes", holder="bench", timeout_s=3600
    )


def _ended(labd: Daemon, run: Run) -> bool:
    return labd.client.run(run["id"])["ended_at"] is not None


def _share(labd: Daemon, seconds: float) -> float:
    """How many cores labd takes meanwhile."""
    before = _Spent(labd)
    time.sleep(seconds)
    return _Spent(labd).since(before)


def _wait(true: Callable[[], bool], what: str) -> None:
    ends = time.monotonic() + DEADLINE_S
    while not true():
        if time.monotonic() > ends:
            raise RuntimeError(f"not within {DEADLINE_S:g} s: {what}")
        time.sleep(0.5)
