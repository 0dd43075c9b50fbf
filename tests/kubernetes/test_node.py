"""The test node: what becomes of a pod, seen through the API."""

import time
from pathlib import Path
from typing import Any

import pytest
from kubernetes.client.exceptions import ApiException

from tests.kubernetes.cluster import SCHEDULER, Cluster
from tests.kubernetes.node import LocalNode

Object = dict[str, Any]


def pod(name: str, script: str, *, container: Object | None = None, **spec: Any) -> Object:
    main = {"name": "main", "image": "shell:1", "command": ["sh", "-c", script], **(container or {})}
    return {
        "metadata": {"name": name},
        "spec": {
            "schedulerName": SCHEDULER,
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 5,
            "containers": [main],
            **spec,
        },
    }


def ended(found: Any) -> bool:
    return found.status.phase in {"Succeeded", "Failed"}


def end_of(found: Any) -> Any:
    return found.status.container_statuses[0].state.terminated


def reason(found: Any) -> str | None:
    states = found.status.container_statuses or []
    return states[0].state.waiting.reason if states and states[0].state.waiting else None


def test_a_pod_runs_with_what_it_is_given(cluster: Cluster, node: LocalNode) -> None:
    core, place = cluster.core, cluster.namespace
    token = {"serviceAccountToken": {"audience": "labd", "expirationSeconds": 600, "path": "token"}}
    volumes = [
        {"name": "given", "configMap": {"name": "given"}},
        {"name": "scratch", "emptyDir": {}},
        {"name": "token", "projected": {"sources": [token]}},
    ]
    mounts = [
        {"name": "given", "mountPath": "/etc/given"},
        {"name": "scratch", "mountPath": "/scratch"},
        {"name": "token", "mountPath": "/var/run/secrets/x"},
    ]
    first = {
        "name": "first",
        "image": "shell:1",
        "command": ["sh", "-c", "echo fetched > /scratch/source"],
        "volumeMounts": mounts,
    }
    script = 'cat /etc/given/a "$SOURCE"; echo $$(wc -w < /var/run/secrets/x/token) token on $NODE'
    variables = [
        {"name": "SOURCE", "value": "/scratch/source"},
        {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
    ]
    thing = pod("p", script, container={"env": variables, "volumeMounts": mounts})
    thing["spec"] |= {"volumes": volumes, "initContainers": [first]}
    core.create_namespaced_pod(place, thing)
    cluster.wait_for("p", lambda found: found.spec.node_name)
    # What a pod waits for may come after it.
    core.create_namespaced_config_map(place, {"metadata": {"name": "given"}, "data": {"a": "given\n"}})
    found = cluster.wait_for("p", ended)
    assert found.status.phase == "Succeeded"
    assert (end_of(found).reason, end_of(found).exit_code) == ("Completed", 0)
    assert found.status.init_container_statuses[0].state.terminated.exit_code == 0
    assert core.read_namespaced_pod_log("p", place) == f"given\nfetched\n1 token on {node.name}\n"
    assert [span.container for span in node.spans] == ["first", "main"]


def test_an_exit_code_and_the_last_words_are_reported(cluster: Cluster, node: LocalNode) -> None:
    thing = pod("p", "echo it broke; exit 3", container={"terminationMessagePolicy": "FallbackToLogsOnError"})
    cluster.core.create_namespaced_pod(cluster.namespace, thing)
    found = cluster.wait_for("p", ended)
    assert found.status.phase == "Failed"
    assert (end_of(found).reason, end_of(found).exit_code, end_of(found).message) == ("Error", 3, "it broke\n")


def test_an_init_container_that_fails_is_the_end(cluster: Cluster, node: LocalNode) -> None:
    first = {"name": "first", "image": "shell:1", "command": ["sh", "-c", "exit 2"]}
    cluster.core.create_namespaced_pod(cluster.namespace, pod("p", "exit 0", initContainers=[first]))
    found = cluster.wait_for("p", ended)
    assert found.status.phase == "Failed"
    assert found.status.init_container_statuses[0].state.terminated.exit_code == 2
    assert reason(found) == "PodInitializing"


def test_a_deadline_ends_a_pod(cluster: Cluster, node: LocalNode) -> None:
    cluster.core.create_namespaced_pod(cluster.namespace, pod("p", "exec sleep 100", activeDeadlineSeconds=1))
    found = cluster.wait_for("p", ended)
    assert (found.status.phase, found.status.reason) == ("Failed", "DeadlineExceeded")
    assert end_of(found).exit_code == 143


def test_a_deleted_pod_gets_its_grace_and_then_goes(cluster: Cluster, node: LocalNode, tmp_path: Path) -> None:
    core, place = cluster.core, cluster.namespace
    witness = tmp_path / "asked"
    polite = f"trap 'echo asked > {witness}; exit 0' TERM; echo ready; while :; do sleep 0.05; done"
    for name, script, grace_s in (
        ("polite", polite, 30),
        ("stubborn", "trap '' TERM; while :; do sleep 0.05; done", 1),
    ):
        core.create_namespaced_pod(place, pod(name, script))
        life = node.life(name)
        if name == "polite":
            _until(lambda: "ready" in life.containers["main"].log.read_text())  # noqa: B023 - it is this one's
        core.delete_namespaced_pod(name, place, grace_period_seconds=grace_s)
        _until(lambda: name not in cluster.names("pod"))  # noqa: B023 - it is this one's
    assert witness.read_text() == "asked\n"
    assert [span.exit_code for span in node.spans] == [0, 137]


def _until(true: Any, timeout_s: float = 30) -> None:
    ends = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < ends, "it did not come to be"
        time.sleep(0.02)


def test_memory_and_eviction_end_a_pod_with_their_reasons(cluster: Cluster, node: LocalNode) -> None:
    for name in ("big", "unlucky"):
        cluster.core.create_namespaced_pod(cluster.namespace, pod(name, "exec sleep 100"))
    node.life("big")
    node.run_out_of_memory("big")
    found = cluster.wait_for("big", ended)
    assert (end_of(found).reason, end_of(found).exit_code) == ("OOMKilled", 137)
    node.evict("unlucky")
    found = cluster.wait_for("unlucky", ended)
    assert (found.status.phase, found.status.reason) == ("Failed", "Evicted")
    assert [one.reason for one in found.status.conditions if one.type == "DisruptionTarget"] == ["TerminationByKubelet"]


def test_a_pod_waits_for_a_node_and_for_its_image(cluster: Cluster, node: LocalNode) -> None:
    with node.no_image():
        with node.full():
            cluster.core.create_namespaced_pod(cluster.namespace, pod("p", "exit 0"))
            found = cluster.wait_for("p", lambda one: one.status.conditions)
            assert (found.status.conditions[0].reason, found.spec.node_name) == ("Unschedulable", None)
        cluster.wait_for("p", lambda one: reason(one) == "ErrImagePull")
        cluster.wait_for("p", lambda one: reason(one) == "ImagePullBackOff")
    assert cluster.wait_for("p", ended).status.phase == "Succeeded"


def test_a_lost_node_says_nothing_while_its_pods_go_on(cluster: Cluster, node: LocalNode) -> None:
    cluster.core.create_namespaced_pod(cluster.namespace, pod("p", "exec sleep 100"))
    cluster.wait_for("p", lambda one: one.status.phase == "Running")
    with node.lost():
        cluster.wait_for("p", lambda one: one.status.phase == "Unknown")
        cluster.core.delete_namespaced_pod("p", cluster.namespace, grace_period_seconds=0)
        with pytest.raises(ApiException):
            cluster.core.read_namespaced_pod("p", cluster.namespace)
        assert node.running == 1
    _until(lambda: node.running == 0)
