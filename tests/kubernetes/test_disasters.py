"""Whole labs whose labd, API server and pods are hurt while runs go on in pods.

The test node is the witness: it writes down when each container really ran.
"""

import functools
import itertools
import random
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from kubernetes.client.exceptions import ApiException

from labd.client.types import Run
from tests.integration.labd_support import Daemon, StreamAgent, until
from tests.kubernetes.cluster import SCHEDULER, free_ports, hurtable, namespaced
from tests.kubernetes.fake import FakeApiServer
from tests.kubernetes.node import LocalNode
from tests.kubernetes.small_runner import small_runner
from tests.postgresql import PostgresServer

BENCHES = ("bench-1", "bench-2", "bench-3", "bench-4")
SEED = 5


class Lab:
    """labds, a bench agent and a node, around an API server."""

    def __init__(self, stack: ExitStack, folder: Path, database: str = "", labds: int = 1) -> None:
        self.server = server = stack.enter_context(hurtable())
        fake = server if isinstance(server, FakeApiServer) else None
        self.cluster = cluster = stack.enter_context(namespaced(server.kubeconfig(folder / "kubeconfig"), fake))
        self.node = LocalNode(
            cluster.kubeconfig,
            cluster.namespace,
            folder / "node",
            fake=fake,
            programs={"runner": small_runner},
        )
        stack.callback(self.node.close)
        doors = [f"127.0.0.1:{port}" for port in free_ports(labds)]
        clusters = folder / "clusters.yaml"
        urls = ",".join(f"http://{door}" for door in doors)
        clusters.write_text(
            f"clusters: [{{name: lab, kubeconfig: {cluster.kubeconfig}, namespace: {cluster.namespace}, "
            f'scheduler: {SCHEDULER}, image: "runner:1", url: "{urls}", finished_ttl_s: 0, stop_grace_s: 2}}]\n'
        )
        options = ["--clusters", str(clusters), "--keys", str(folder / "keys")]
        if database:
            options += ["--database", database]
        self.labds = [Daemon(folder / f"labd-{n}", *options) for n in range(labds)]
        for labd, door in zip(self.labds, doors, strict=True):
            labd.http = door
            labd.launch()
            stack.callback(_kill, labd)
        for labd in self.labds:
            labd.wait()
            stack.callback(labd.kill)
        agent = StreamAgent(",".join(labd.agents for labd in self.labds), *BENCHES)
        stack.enter_context(agent)
        for labd in self.labds:
            until(functools.partial(_all_free, labd), "the benches")

    def submit(self, count: int) -> list[str]:
        return [
            self.labds[n % len(self.labds)].client.create_run(
                script="return 1", name=f"run-{n}.lua", executor="kubernetes", holder="ci"
            )["id"]
            for n in range(count)
        ]

    def ended(self, run_id: str) -> Run:
        """The run, once it has ended."""
        labd = self.labds[0]
        until(lambda: labd.client.run(run_id)["ended_at"] is not None, f"the end of {run_id}")
        return labd.client.run(run_id)

    def restart(self, labd: Daemon) -> None:
        labd.kill()
        labd.start()

    def delete_a_pod(self, chance: random.Random) -> None:
        pods = [name for name in self.cluster.names("pod") if name.startswith("labd-")]
        if pods:
            try:
                name = chance.choice(pods)
                self.cluster.core.delete_namespaced_pod(name, self.cluster.namespace, grace_period_seconds=0)
            except ApiException as error:
                assert error.status == 404  # it had just ended

    def nothing_runs_twice(self, run_ids: list[str]) -> None:
        for run_id in run_ids:
            spans = [span for span in self.node.spans if span.labels["labd.dev/run"] == run_id]
            assert spans, f"{run_id} never ran"
            for one, other in itertools.combinations(spans, 2):
                first, second = sorted((one, other), key=lambda span: span.began)
                assert first.ended is not None, f"{run_id}: {first} goes on beside {second}"
                assert first.ended <= second.began, f"{run_id} ran twice at once: {first}, {second}"

    def nothing_is_left(self) -> None:
        self.server.compact()
        self.server.drop_watches()  # labd lists anew, and sees what has finished long enough ago
        for plural in ("pod", "config_map", "secret"):
            until(functools.partial(self._none_of, plural), f"no {plural} is left")

    def _none_of(self, plural: str) -> bool:
        return not self.cluster.names(plural)


def _all_free(labd: Daemon) -> bool:
    return [one["state"] for one in labd.client.benches()] == ["available"] * len(BENCHES)


def _kill(labd: Daemon) -> None:
    labd.process.kill()


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """One for the tests that leave it as they find it."""
    with ExitStack() as stack:
        yield Lab(stack, tmp_path_factory.mktemp("lab"))


@pytest.fixture
def chance() -> random.Random:
    return random.Random(SEED)  # noqa: S311 - not for secrets


def test_labd_is_killed_while_pods_run(lab: Lab, chance: random.Random) -> None:
    runs = lab.submit(6)
    for _ in range(2):
        time.sleep(chance.uniform(0, 0.6))
        lab.restart(lab.labds[0])
    assert [lab.ended(run_id)["state"] for run_id in runs] == ["PASSED"] * len(runs)
    lab.nothing_runs_twice(runs)
    lab.nothing_is_left()


def test_the_api_server_is_hurt_while_pods_run(lab: Lab, chance: random.Random) -> None:
    runs = lab.submit(8)
    for blow in range(6):
        time.sleep(chance.uniform(0, 0.3))
        if blow % 3 == 0:
            with lab.server.away():
                time.sleep(chance.uniform(0.1, 0.5))
        elif blow % 3 == 1:
            lab.server.compact()
            lab.server.drop_watches()
        else:
            with lab.server.faults.answering(500, resource="pods"):
                time.sleep(chance.uniform(0.1, 0.5))
    assert [lab.ended(run_id)["state"] for run_id in runs] == ["PASSED"] * len(runs)
    lab.nothing_runs_twice(runs)
    lab.nothing_is_left()


def test_pods_deleted_by_hand_are_tried_again_or_told(lab: Lab, chance: random.Random) -> None:
    runs = lab.submit(4)
    for _ in range(4):
        until(lambda: lab.node.running, "a pod runs")
        lab.delete_a_pod(chance)
    for run_id in runs:
        run = lab.ended(run_id)
        assert run["state"] == "PASSED" or run["cause"] == "PodLost", run
    lab.nothing_runs_twice(runs)
    lab.nothing_is_left()


def test_two_labds_keep_one_lab_and_one_is_killed(tmp_path: Path, postgresql: PostgresServer) -> None:
    with ExitStack() as stack:
        database = postgresql.new_labd_database()
        stack.callback(postgresql.drop, database)
        lab = Lab(stack, tmp_path, database, labds=2)
        runs = lab.submit(6)
        until(lambda: lab.node.running, "a pod runs")
        lab.restart(lab.labds[1])
        assert [lab.ended(run_id)["state"] for run_id in runs] == ["PASSED"] * len(runs)
        lab.nothing_runs_twice(runs)
        lab.nothing_is_left()
