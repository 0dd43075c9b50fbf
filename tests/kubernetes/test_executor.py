"""The executor against an API server: pods are made once, every end is seen, and nothing is left behind."""

import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from kubernetes.client import ApiException

from labd.executors.base import Alive, Exited, Job, Status
from labd.executors.kubernetes.executor import KubernetesExecutor
from labd.executors.kubernetes.names import RUNNER, SOURCE, labels, object_name
from labd.executors.kubernetes.pod import Door, secret
from labd.executors.kubernetes.settings import Cluster as Settings
from labd.executors.kubernetes.settings import Clusters
from labd.model.check import CheckState
from labd.model.run import Cause
from labd.model.source import GitSource
from tests.kubernetes.cluster import SCHEDULER, Cluster, Server

WITHIN_S = 30.0
LONG_AGO = "2020-01-01T00:00:00Z"
Object = dict[str, Any]


def until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not condition():
        assert time.monotonic() < deadline, f"not within {WITHIN_S} s: {what}"
        time.sleep(0.02)


def ago(seconds: float) -> str:
    return (datetime.now(UTC) - timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


class Labs:
    """labds on one store, one after the other; the store's part is ``running``."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.running: dict[str, int] = {}
        self.told: list[str] = []
        self._executors: list[KubernetesExecutor] = []

    def serve(self, *more: Settings, resync_s: float = 60.0, lab: str = "lab1", **settings: Any) -> KubernetesExecutor:
        executor = KubernetesExecutor(
            Clusters(clusters=(self.settings(**settings), *more)),
            lab,
            lambda _: Door("https://labd.example.com:8470", "PEM", "controller.labd"),
            resync_s=resync_s,
        )
        executor.connect(self._of)
        executor.on_change(self.told.append)
        executor.recover({})
        self._executors.append(executor)
        return executor

    def settings(self, name: str = "lab", **settings: Any) -> Settings:
        place = {"kubeconfig": self.cluster.kubeconfig, "namespace": self.cluster.namespace, "image": "runner:1"}
        place["scheduler"] = SCHEDULER
        return Settings(**{"name": name, **place, **settings})

    def die(self) -> None:
        """As far as anybody outside can tell, labd is killed."""
        while self._executors:
            self._executors.pop().close()

    def job(self, run_id: str = "r-1", attempt: int = 1, **more: Any) -> Job:
        self.running[run_id] = attempt
        given = {"attempt": attempt, "timeout_s": 60.0, "script": "return 1\n", **more}
        return Job(run_id, "https://127.0.0.1:8470", "s3cret", "hil-1", "l3ase", **given)

    def pods(self) -> list[str]:
        return sorted(self.cluster.names("pod"))

    def pod(self, name: str) -> Any:
        return self.cluster.core.read_namespaced_pod(name, self.cluster.namespace)

    def report(self, name: str, **status: Any) -> None:
        """What a node says of a pod."""
        self.cluster.core.patch_namespaced_pod_status(name, self.cluster.namespace, {"status": status})

    def bind(self, name: str, node: str) -> None:
        """What a scheduler does."""
        target = {"apiVersion": "v1", "kind": "Node", "name": node}
        body = {"metadata": {"name": name}, "target": target}
        # The library takes the answer for a Binding, which it is not.
        self.cluster.core.create_namespaced_pod_binding(name, self.cluster.namespace, body, _preload_content=False)

    def _of(self, run_ids: Collection[str]) -> Mapping[str, int]:
        return {run_id: self.running[run_id] for run_id in run_ids if run_id in self.running}


@pytest.fixture
def labs(cluster: Cluster) -> Iterator[Labs]:
    enforced = {"pod-security.kubernetes.io/enforce": "restricted"}
    cluster.core.patch_namespace(cluster.namespace, {"metadata": {"labels": enforced}})
    found = Labs(cluster)
    yield found
    found.die()


def ended(executor: KubernetesExecutor, run_id: str = "r-1") -> Exited:
    until(lambda: isinstance(executor.status(run_id), Exited), f"the end of {run_id}")
    status = executor.status(run_id)
    assert isinstance(status, Exited)
    return status


def made(labs: Labs, name: str = "labd-r-1-1") -> None:
    until(lambda: name in labs.pods() and name in labs.cluster.names("config_map"), f"pod {name}")


def containers(name: str, **state: Any) -> list[Object]:
    image = {"image": "runner:1", "imageID": "", "ready": "running" in state, "restartCount": 0}
    return [{"name": name, "state": state, **image}]


RUNNING: Object = {
    "phase": "Running",
    "containerStatuses": containers(RUNNER, running={"startedAt": LONG_AGO}),
    "conditions": [{"type": "Ready", "status": "True"}, {"type": "PodScheduled", "status": "True"}],
}


# A pod for an attempt


def test_an_attempt_gets_a_pod_that_restricted_namespaces_take(labs: Labs) -> None:
    executor = labs.serve()
    assert executor.status("r-1") is None
    executor.start(labs.job(git=GitSource("https://git.example.com/t.git", "a.lua", "main")))
    assert executor.status("r-1") == Alive(1)
    made(labs)
    found = labs.pod("labd-r-1-1")
    assert found.metadata.labels == labels("lab1", "r-1", 1)
    assert [one.name for one in found.spec.init_containers] == [SOURCE]
    given = labs.cluster.core.read_namespaced_config_map("labd-r-1-1", labs.cluster.namespace)
    assert given.metadata.owner_references[0].uid == found.metadata.uid
    assert labs.cluster.names("secret") == []
    assert executor.status("r-1") == Alive(1)


def test_where_tokens_cannot_be_reviewed_the_pod_gets_a_secret(labs: Labs) -> None:
    labs.serve(identity="secret").start(labs.job())
    made(labs)
    found = labs.cluster.core.read_namespaced_secret("labd-r-1-1", labs.cluster.namespace)
    assert found.metadata.owner_references[0].uid == labs.pod("labd-r-1-1").metadata.uid


def test_a_secret_whose_pod_goes_before_it_is_there_goes_too(labs: Labs, monkeypatch: pytest.MonkeyPatch) -> None:
    def later(job: Job, lab: str, owner: Object) -> Object:
        delete = labs.cluster.core.delete_namespaced_pod
        delete(owner["metadata"]["name"], labs.cluster.namespace, grace_period_seconds=0)
        return secret(job, lab, owner)

    monkeypatch.setattr("labd.executors.kubernetes.keeper.secret", later)
    executor = labs.serve(identity="secret")
    executor.start(labs.job())
    assert ended(executor).cause == Cause.POD_LOST
    until(lambda: labs.cluster.names("secret") == labs.cluster.names("config_map") == [], "nothing is left")


def _terminated(code: int, ago_s: float = 0.0, **more: Any) -> Object:
    return {"exitCode": code, "reason": "Error", "finishedAt": ago(ago_s), **more}


ENDS: dict[str, tuple[Object, Cause]] = {
    "no result": (
        {"phase": "Succeeded", "containerStatuses": containers(RUNNER, terminated=_terminated(0))},
        Cause.NO_RESULT,
    ),
    "deadline": ({"phase": "Failed", "reason": "DeadlineExceeded"}, Cause.TIMEOUT),
    "memory": (
        {
            "phase": "Failed",
            "containerStatuses": containers(RUNNER, terminated=_terminated(137, reason="OOMKilled")),
        },
        Cause.OUT_OF_MEMORY,
    ),
    "evicted": (
        {"phase": "Failed", "conditions": [{"type": "DisruptionTarget", "status": "True", "reason": "EvictionByAPI"}]},
        Cause.EVICTED,
    ),
    "git": (
        {"phase": "Failed", "initContainerStatuses": containers(SOURCE, terminated=_terminated(1, message="no main"))},
        Cause.SETUP_FAILED,
    ),
    "image": (
        {
            "containerStatuses": containers(RUNNER, waiting={"reason": "ImagePullBackOff", "message": "not found"}),
            "conditions": [{"type": "PodScheduled", "status": "True", "lastTransitionTime": LONG_AGO}],
        },
        Cause.IMAGE_PULL,
    ),
    "node": (
        {"phase": "Unknown", "conditions": [{"type": "Ready", "status": "Unknown", "lastTransitionTime": LONG_AGO}]},
        Cause.POD_LOST,
    ),
    "room": (
        {
            "conditions": [
                {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "lastTransitionTime": LONG_AGO}
            ]
        },
        Cause.UNSCHEDULABLE,
    ),
}


def test_every_end_is_seen_with_its_cause(labs: Labs) -> None:
    executor = labs.serve(image_pull_limit_s=1, lost_limit_s=1, unschedulable_limit_s=1000)
    runs = {name: f"r-{number}" for number, name in enumerate(ENDS)}
    for run_id in runs.values():
        executor.start(labs.job(run_id))
    for name, run_id in runs.items():
        made(labs, object_name(run_id, 1))
        labs.report(object_name(run_id, 1), **ENDS[name][0])
    assert {name: ended(executor, run_id).cause for name, run_id in runs.items()} == {
        name: cause for name, (_, cause) in ENDS.items()
    }


def test_what_a_pod_waits_for_is_told_until_its_runner_runs(labs: Labs) -> None:
    executor = labs.serve(image_pull_limit_s=1000, unschedulable_limit_s=1000)
    assert executor.waits_for("r-1") is None
    executor.start(labs.job())
    made(labs)
    until(lambda: (executor.waits_for("r-1") or "").startswith("a node"), "it waits for a node")
    labs.report("labd-r-1-1", **ENDS["image"][0])
    until(lambda: executor.waits_for("r-1") == "the image runner:1 (ImagePullBackOff): not found", "and for its image")
    labs.report("labd-r-1-1", **RUNNING)
    until(lambda: executor.waits_for("r-1") is None, "and for nothing any more")


def test_deleted_by_hand(labs: Labs) -> None:
    executor = labs.serve()
    executor.start(labs.job())
    made(labs)
    labs.cluster.core.delete_namespaced_pod("labd-r-1-1", labs.cluster.namespace)
    assert ended(executor).cause == Cause.POD_LOST
    assert labs.pods() == []


def test_a_limit_that_passes_while_nothing_is_heard_ends_it(labs: Labs) -> None:
    executor = labs.serve(unschedulable_limit_s=3)
    executor.start(labs.job())
    assert ended(executor).cause == Cause.UNSCHEDULABLE
    executor.forget("r-1")
    del labs.running["r-1"]
    until(lambda: labs.pods() == [], "the pod that never got a node is deleted")


# Once only


def test_the_next_labd_takes_over_what_there_is(labs: Labs) -> None:
    first = labs.serve()
    first.start(labs.job())
    made(labs)
    uid = labs.pod("labd-r-1-1").metadata.uid
    labs.die()
    labs.report("labd-r-1-1", **RUNNING)
    second = labs.serve()
    second.start(labs.job(begun=True))
    assert second.status("r-1") == Alive(1)
    assert labs.pod("labd-r-1-1").metadata.uid == uid
    labs.report("labd-r-1-1", **ENDS["no result"][0])
    assert ended(second).cause == Cause.NO_RESULT


def test_killed_between_the_pod_and_what_comes_with_it(labs: Labs) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("labd.executors.kubernetes.keeper.ClusterKeeper._make", lambda *_: None)
        labs.serve().start(labs.job())
        until(labs.pods, "the pod")
        labs.die()
    assert labs.cluster.names("config_map") == []
    uid = labs.pod("labd-r-1-1").metadata.uid
    labs.serve().start(labs.job())
    made(labs)
    assert labs.pod("labd-r-1-1").metadata.uid == uid


def test_a_runner_that_had_begun_and_is_gone_is_not_started_again(labs: Labs) -> None:
    executor = labs.serve()
    executor.start(labs.job(begun=True))
    assert ended(executor).cause == Cause.POD_LOST
    assert labs.pods() == []


def test_somebody_elses_pod_of_the_name_is_left_alone(labs: Labs) -> None:
    other = labs.serve(lab="lab2")
    other.start(labs.job())
    made(labs)
    executor = labs.serve(lab="lab1")
    executor.start(labs.job())
    end = ended(executor)
    assert end.cause == Cause.SETUP_FAILED
    assert "not this lab's" in end.reason
    executor.stop("r-1")
    executor.forget("r-1")
    assert other.status("r-1") == Alive(1)
    assert labs.pod("labd-r-1-1").metadata.labels["labd.dev/lab"] == "lab2"


def test_answer_that_was_lost(labs: Labs, server: Server) -> None:
    """The server made the pod, and labd never heard of it."""
    executor = labs.serve()
    until(lambda: executor.checks()[0].state is CheckState.OK, "the cluster is looked at")
    with server.faults.answering(504, verb="create", resource="configmaps", times=2):
        executor.start(labs.job())
        made(labs)
    assert labs.pods() == ["labd-r-1-1"]
    assert server.faults.requests["create", "pods"] >= 2, "asked again, found the pod"


# The API server is away, or forgetful


def test_away_when_a_run_starts(labs: Labs, server: Server) -> None:
    executor = labs.serve()
    with server.away():
        executor.start(labs.job())
        until(lambda: executor.checks()[0].state is CheckState.ERROR, "it is told")
        assert executor.status("r-1") == Alive(1)
    made(labs)
    assert labs.pods() == ["labd-r-1-1"]


def test_away_while_pods_end_or_vanish(labs: Labs, server: Server) -> None:
    executor = labs.serve()
    for run_id in ("r-1", "r-2", "r-3"):
        executor.start(labs.job(run_id))
        made(labs, object_name(run_id, 1))
        labs.report(object_name(run_id, 1), **RUNNING)
    with server.faults.answering(503, verb="watch"), server.faults.answering(503, verb="list"):
        server.drop_watches()
        labs.report("labd-r-1-1", **ENDS["no result"][0])
        labs.cluster.core.delete_namespaced_pod("labd-r-2-1", labs.cluster.namespace)
        server.compact()
    assert ended(executor, "r-1").cause == Cause.NO_RESULT
    assert ended(executor, "r-2").cause == Cause.POD_LOST
    assert executor.status("r-3") == Alive(1)


def test_a_watch_that_is_too_old_begins_anew_with_a_list(labs: Labs, server: Server) -> None:
    executor = labs.serve()
    executor.start(labs.job())
    made(labs)
    lists = server.faults.requests["list", "pods"]
    with server.faults.answering(410, verb="watch", times=1):
        server.drop_watches()
        until(lambda: server.faults.requests["list", "pods"] > lists, "another list")
    labs.report("labd-r-1-1", **ENDS["deadline"][0])
    assert ended(executor).cause == Cause.TIMEOUT


def test_a_watch_that_is_closed_goes_on(labs: Labs, server: Server) -> None:
    executor = labs.serve()
    executor.start(labs.job())
    made(labs)
    watches = server.faults.requests["watch", "pods"]
    server.drop_watches()
    until(lambda: server.faults.requests["watch", "pods"] > watches, "another watch")
    labs.report("labd-r-1-1", **ENDS["memory"][0])
    assert ended(executor).cause == Cause.OUT_OF_MEMORY


def test_without_any_watch_the_lists_are_enough(labs: Labs, server: Server) -> None:
    with server.faults.answering(503, verb="watch"):
        executor = labs.serve(resync_s=0.5)
        executor.start(labs.job())
        made(labs)
        labs.report("labd-r-1-1", **ENDS["evicted"][0])
        assert ended(executor).cause == Cause.EVICTED


def test_nobody_waits_for_a_slow_api_server(labs: Labs, server: Server) -> None:
    executor = labs.serve()
    with server.faults.slow(3.0):
        began = time.monotonic()
        for number in range(20):
            executor.start(labs.job(f"r-{number}"))
            executor.status(f"r-{number}")
            executor.stop(f"r-{number}")
            executor.forget(f"r-{number}")
        assert time.monotonic() - began < 2.0


def test_a_pod_that_can_not_be_made_for_too_long_is_an_error(labs: Labs, server: Server) -> None:
    executor = labs.serve(unschedulable_limit_s=1)
    with server.faults.answering(500, verb="create", resource="pods"):
        executor.start(labs.job())
        end = ended(executor)
    assert end.cause == Cause.UNSCHEDULABLE
    assert "etcdserver: request timed out" in end.reason


# The end, by labd


def test_stopping_deletes_the_pod_and_what_came_with_it(labs: Labs) -> None:
    executor = labs.serve()
    executor.start(labs.job())
    made(labs)
    executor.stop("r-1")
    assert ended(executor).reason == "labd ended the runner"
    until(lambda: labs.pods() == labs.cluster.names("config_map") == [], "nothing is left")


def test_stopped_before_it_was_made(labs: Labs, server: Server) -> None:
    executor = labs.serve()
    with server.faults.answering(503, verb="create", resource="pods"):
        executor.start(labs.job())
        until(lambda: server.faults.requests["create", "pods"], "it was tried")
        executor.stop("r-1")
        assert ended(executor).reason == "labd ended the runner"
    assert labs.pods() == []


def test_a_new_attempt_is_another_pod_and_the_former_one_goes(labs: Labs) -> None:
    executor = labs.serve()
    executor.start(labs.job())
    made(labs)
    labs.report("labd-r-1-1", **RUNNING)
    executor.stop("r-1")
    executor.forget("r-1")
    executor.start(labs.job(attempt=2))
    made(labs, "labd-r-1-2")
    until(lambda: labs.pods() == ["labd-r-1-2"], "the former pod is deleted")
    assert executor.status("r-1") == Alive(2)


def test_what_is_left_over_is_swept_and_nothing_else(labs: Labs) -> None:
    former = labs.serve()
    for run_id in ("r-over", "r-live", "r-done"):
        former.start(labs.job(run_id))
        made(labs, object_name(run_id, 1))
    other = labs.serve(lab="lab2")
    other.start(labs.job("r-other"))
    made(labs, "labd-r-other-1")
    labs.report("labd-r-done-1", **ENDS["no result"][0])
    labs.die()
    del labs.running["r-over"], labs.running["r-done"], labs.running["r-other"]
    labs.serve(finished_ttl_s=600)
    until(lambda: labs.pods() == ["labd-r-done-1", "labd-r-live-1", "labd-r-other-1"], "only what is over goes")
    labs.die()
    labs.serve(finished_ttl_s=0)
    until(lambda: labs.pods() == ["labd-r-live-1", "labd-r-other-1"], "what has finished goes after its time")
    until(lambda: len(labs.cluster.names("config_map")) == 2, "and what came with it")


def test_pods_on_their_way_out_count_for_the_limit_of_a_cluster(labs: Labs) -> None:
    executor = labs.serve(stop_grace_s=600)
    executor.start(labs.job("r-1", pods_max=2))
    executor.start(labs.job("r-2", pods_max=2))
    for run_id in ("r-1", "r-2"):
        made(labs, object_name(run_id, 1))
        labs.bind(object_name(run_id, 1), "a-node")
        labs.report(object_name(run_id, 1), **RUNNING)
    executor.stop("r-1")
    until(lambda: labs.pod("labd-r-1-1").metadata.deletion_timestamp, "it is on its way out")
    del labs.running["r-1"]
    executor.forget("r-1")
    for run_id in ("r-3", "r-4"):
        executor.start(labs.job(run_id, pods_max=3))
    until(lambda: len(labs.pods()) == 3, "one more has room")
    until(lambda: executor._keepers["lab"]._queue._failures, "the other one waits")
    assert len(labs.pods()) == 3
    labs.cluster.core.delete_namespaced_pod("labd-r-1-1", labs.cluster.namespace, grace_period_seconds=0)
    until(lambda: labs.pods() == ["labd-r-2-1", "labd-r-3-1", "labd-r-4-1"], "it has room")


def test_what_has_finished_goes_when_its_time_has_come_and_not_at_some_later_list(labs: Labs) -> None:
    executor = labs.serve(finished_ttl_s=2)
    executor.start(labs.job())
    made(labs)
    # Its node's clock is a little ahead of the API server's, of which labd knows whole seconds only.
    labs.report("labd-r-1-1", phase="Failed", containerStatuses=containers(RUNNER, terminated=_terminated(1, -1)))
    ended(executor)
    del labs.running["r-1"]
    executor.forget("r-1")
    until(lambda: labs.pods() == labs.cluster.names("config_map") == [], "it goes long before the next list")


def test_a_pod_that_a_lost_node_never_lets_go_is_deleted_by_force_once_its_run_is_over(
    labs: Labs, server: Server
) -> None:
    limits: dict[str, Any] = {"stop_grace_s": 1, "lost_limit_s": 1}
    first = labs.serve(**limits)
    first.start(labs.job())
    made(labs)
    labs.bind("labd-r-1-1", "a-node-that-is-lost")
    labs.report("labd-r-1-1", **RUNNING)
    labs.cluster.core.delete_namespaced_pod("labd-r-1-1", labs.cluster.namespace)
    assert ended(first).cause == Cause.POD_LOST
    labs.die()
    second = labs.serve(resync_s=0.5, **limits)
    lists = server.faults.requests["list", "pods"]
    until(lambda: server.faults.requests["list", "pods"] > lists + 5, "looked at several times")
    assert labs.pods() == ["labd-r-1-1"], "by the store its attempt is under way, and may hold a bench"
    del labs.running["r-1"]
    until(lambda: labs.pods() == labs.cluster.names("config_map") == [], "nothing is left")
    assert second.status("r-1") is None


# What labd may do


def test_what_labd_may_not_do_is_told_at_start(labs: Labs, server: Server) -> None:
    with server.forbidden("create", "pods"), server.forbidden("watch", "pods"):
        executor = labs.serve()
        until(lambda: executor.checks()[0].state is CheckState.ERROR and executor.checks()[0].remedy, "a check")
        until(lambda: "may not" in executor.checks()[0].message, "what is missing")
        assert f"may not create pods, watch pods in namespace {labs.cluster.namespace}" in executor.checks()[0].message
        executor.start(labs.job())
        end = ended(executor)
    assert end.cause == Cause.SETUP_FAILED
    assert "forbidden" in end.reason.lower()


def test_a_kubeconfig_without_the_context_is_told(labs: Labs) -> None:
    executor = labs.serve(context="nowhere")
    until(lambda: "nowhere" in executor.checks()[0].message, "the mistake")
    assert executor.checks()[0].state is CheckState.ERROR


def test_clusters_by_name(labs: Labs) -> None:
    second = labs.cluster.namespace + "-2"
    labs.cluster.core.create_namespace({"metadata": {"name": second}})
    try:
        executor = labs.serve(labs.settings("second", namespace=second), default=True)
        assert (executor.clusters, executor.default_cluster) == (("lab", "second"), "lab")
        executor.start(labs.job("r-1"))
        executor.start(labs.job("r-2", cluster="second"))
        made(labs)
        there = labs.cluster.core.list_namespaced_pod
        until(lambda: [one.metadata.name for one in there(second).items] == ["labd-r-2-1"], "the other one")
        assert labs.pods() == ["labd-r-1-1"]
    finally:
        labs.die()
        labs.cluster.core.delete_namespace(second)


def test_many_at_once_are_each_made_once(labs: Labs) -> None:
    executor = labs.serve()
    runs = [f"r-{number}" for number in range(40)]

    def start(part: list[str]) -> None:
        for run_id in part:
            executor.start(labs.job(run_id))

    starters = [threading.Thread(target=start, args=(part,)) for part in (runs[:20], runs[20:])]
    for starter in starters:
        starter.start()
    for starter in starters:
        starter.join()
    until(lambda: len(labs.cluster.names("config_map")) == 40, "all pods")
    assert len(labs.pods()) == 40
    statuses: set[Status | None] = {executor.status(run_id) for run_id in runs}
    assert statuses == {Alive(1)}


def test_restricted_namespaces_refuse_what_is_not(labs: Labs) -> None:
    """Else the first test here would say nothing."""
    labs.cluster.needs(23, "Pod Security admission")
    with pytest.raises(ApiException) as refusal:
        labs.cluster.core.create_namespaced_pod(
            labs.cluster.namespace,
            {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "p", "image": "p:1"}]}},
        )
    assert "restricted" in str(refusal.value.body)
