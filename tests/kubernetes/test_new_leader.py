"""Two labds on one database and one cluster: the lead changes while pods are made, run and are lost."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from labd.executors.kubernetes.executor import KubernetesExecutor
from labd.executors.kubernetes.pod import Door
from labd.executors.kubernetes.settings import Cluster as Settings
from labd.executors.kubernetes.settings import Clusters
from labd.model.identity import ANONYMOUS
from labd.model.run import Cause, ExecutorName, RunState
from labd.services.lab import Lab
from labd.services.running import RunView
from tests.kubernetes.cluster import SCHEDULER, Cluster, Server
from tests.kubernetes.test_executor import ENDS, RUNNING, until
from tests.postgresql import PostgresServer
from tests.unit.labd.fakes import RESULT, FakeClock, attach, open_lab, report


class Twins:
    """The labds, of which the first leads; an agent is attached to the second one."""

    def __init__(self, folder: Path, database: str, cluster: Cluster) -> None:
        self.cluster = cluster
        self.clock = FakeClock()
        self._folder, self._database = folder, database
        self._open: list[tuple[Lab, KubernetesExecutor]] = []
        self.one = self.serve("one")
        until(lambda: _leads(self.one), "the first one leads")
        self.two = self.serve("two")
        self.session, self.link = attach(self.two, report("bench-1"), report("bench-2"))
        until(lambda: self.one.core.presence.attached("bench-1"), "the first one knows of the bench")

    def serve(self, replica: str) -> Lab:
        place: dict[str, Any] = {
            "kubeconfig": self.cluster.kubeconfig,
            "namespace": self.cluster.namespace,
            "image": "runner:1",
            "scheduler": SCHEDULER,
        }
        settings = Settings(name="here", stop_grace_s=1, lost_limit_s=1, finished_ttl_s=0, **place)
        pods = KubernetesExecutor(Clusters(clusters=(settings,)), "lab1", lambda _: Door("http://labd.test"))
        lab = open_lab(self._folder, self.clock, database=self._database, replica=replica, clusters=pods)
        lab.start()
        self._open.append((lab, pods))
        return lab

    def kill(self, lab: Lab, *, calls_go_on: bool = False) -> None:
        """It decides nothing any more; with ``calls_go_on`` what it is about in the cluster it goes on with."""
        assert lab.replicas is not None
        lab.conductor.stop()
        lab.replicas.stop()
        for one, pods in self._open:
            if one is lab and not calls_go_on:
                pods.close()

    def close(self) -> None:
        for lab, pods in self._open:
            lab.stop()
            pods.close()
            lab.core.store.close()

    def submit(self) -> str:
        wish: dict[str, Any] = {"script": "return 1", "name": "x.lua", "files": {}, "holder": "ci", "timeout_s": 60.0}
        return self.two.running.create(ANONYMOUS, executor=ExecutorName.KUBERNETES, **wish).run.id

    def run(self, run_id: str) -> RunView:
        return self.two.running.get(run_id)

    def pods(self) -> dict[str, str]:
        found = self.cluster.core.list_namespaced_pod(self.cluster.namespace).items
        return {pod.metadata.name: pod.metadata.uid for pod in found}

    def report(self, name: str, **status: Any) -> None:
        """What a node says of a pod."""
        self.cluster.core.patch_namespaced_pod_status(name, self.cluster.namespace, {"status": status})

    def passes(self, run_id: str, attempt: int = 1) -> None:
        """The runner reports its result and goes."""
        assert self.two.reporting.put_result(run_id, RESULT, "", attempt=attempt).run.state is RunState.PASSED
        self.report(f"labd-{run_id}-{attempt}", **ENDS["no result"][0])

    def nothing_is_left(self) -> None:
        until(lambda: self.pods() == {} and self.cluster.names("config_map") == [], "nothing is left")


def _leads(lab: Lab) -> bool:
    return lab.replicas is not None and lab.replicas.leads


@pytest.fixture
def twins(tmp_path: Path, cluster: Cluster, postgresql: PostgresServer) -> Iterator[Twins]:
    found = Twins(tmp_path, postgresql.fresh_labd_database(), cluster)
    yield found
    found.close()


def test_a_leader_that_dies_between_a_pod_and_its_config_map(twins: Twins, server: Server) -> None:
    with server.faults.answering(503, verb="create", resource="configmaps"):
        run_id = twins.submit()
        until(lambda: server.faults.requests["create", "configmaps"], "the pod is there, and what it needs is not")
        twins.kill(twins.one)
    former = twins.pods()
    until(lambda: _leads(twins.two), "the other one leads")
    until(lambda: twins.cluster.names("config_map") == [f"labd-{run_id}-1"], "it makes what was missing")
    assert twins.pods() == former == {f"labd-{run_id}-1": former[f"labd-{run_id}-1"]}
    twins.passes(run_id)
    assert [one.number for one, _ in twins.run(run_id).attempts] == [1]
    twins.nothing_is_left()


def test_a_pod_that_is_lost_while_nobody_leads_is_tried_again_once(twins: Twins) -> None:
    run_id = twins.submit()
    name = f"labd-{run_id}-1"
    until(lambda: name in twins.pods(), "the pod")
    twins.report(name, **RUNNING)
    twins.two.leasing.heartbeat(ANONYMOUS, twins.run(run_id).run.lease_id)
    twins.kill(twins.one)
    twins.cluster.core.delete_namespaced_pod(name, twins.cluster.namespace, grace_period_seconds=0)
    until(lambda: twins.run(run_id).run.attempt == 2, "another attempt")
    for order in list(twins.link.orders):
        twins.two.hearing.fenced(twins.session, order.bench, order.epoch)
    until(lambda: list(twins.pods()) == [f"labd-{run_id}-2"], "another pod, and none of the first attempt")
    assert [one.cause for one, _ in twins.run(run_id).attempts] == [Cause.POD_LOST, None]
    twins.passes(run_id, attempt=2)
    twins.nothing_is_left()


def test_an_end_that_only_the_former_leader_saw_is_seen_again(twins: Twins) -> None:
    run_id = twins.submit()
    until(lambda: f"labd-{run_id}-1" in twins.pods(), "the pod")
    twins.kill(twins.one)
    twins.report(f"labd-{run_id}-1", **ENDS["memory"][0])
    until(lambda: twins.run(run_id).run.state.final, "a verdict")
    assert (twins.run(run_id).run.state, twins.run(run_id).run.cause) == (RunState.FAILED, Cause.OUT_OF_MEMORY)
    twins.nothing_is_left()


def test_a_former_leader_that_wakes_up_makes_no_second_pod(twins: Twins, server: Server) -> None:
    """It stood still as it was about to make a pod; meanwhile the other one leads, and makes it."""
    with server.faults.slow(3.0, verb="create", resource="pods"):
        run_id = twins.submit()
        until(lambda: server.faults.requests["create", "pods"], "it is about to make the pod")
        twins.kill(twins.one, calls_go_on=True)
        until(lambda: server.faults.requests["create", "pods"] > 1, "the other one is, too")
    until(lambda: twins.cluster.names("config_map") == [f"labd-{run_id}-1"], "one of them has made it")
    (uid,) = twins.pods().values()
    (given,) = twins.cluster.core.list_namespaced_config_map(
        twins.cluster.namespace, label_selector=f"labd.dev/run={run_id}"
    ).items
    assert given.metadata.owner_references[0].uid == uid
    twins.passes(run_id)
    twins.nothing_is_left()


def test_a_pod_that_a_former_leader_makes_for_a_run_that_is_over_goes(twins: Twins, server: Server) -> None:
    with server.faults.slow(3.0, verb="create", resource="pods"):
        run_id = twins.submit()
        until(lambda: server.faults.requests["create", "pods"], "it is about to make the pod")
        twins.kill(twins.one, calls_go_on=True)
        twins.two.running.cancel(ANONYMOUS, run_id)
        assert twins.pods() == {}
    until(lambda: server.faults.requests["create", "configmaps"], "it was made after the run was over")
    twins.nothing_is_left()
    assert twins.run(run_id).run.state is RunState.CANCELLED
