"""The fake server as the `kubernetes` library sees it; on a real server the same tests say whether they are true."""

import json
from typing import Any

import pytest
from kubernetes.client.exceptions import ApiException

from tests.kubernetes.cluster import SCHEDULER, Cluster

Object = dict[str, Any]


def config_map(name: str, **data: str) -> Object:
    return {"metadata": {"name": name}, "data": data}


def pod(name: str, **spec: Any) -> Object:
    return {
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "schedulerName": SCHEDULER,
            "restartPolicy": "Never",
            "containers": [{"name": "main", "image": "runner:1"}],
            **spec,
        },
    }


def refused(error: pytest.ExceptionInfo[ApiException]) -> tuple[int, str, str]:
    body = json.loads(error.value.body or "")
    return body["code"], body["reason"], body["message"]


def test_objects_get_an_identity_and_a_version(cluster: Cluster) -> None:
    core, place = cluster.core, cluster.namespace
    made = core.create_namespaced_config_map(place, config_map("a", x="1"))
    assert made.metadata.uid and made.metadata.creation_timestamp
    changed = core.patch_namespaced_config_map("a", place, {"data": {"x": "2", "y": "3"}})
    assert changed.data == {"x": "2", "y": "3"}
    assert changed.metadata.resource_version != made.metadata.resource_version
    with pytest.raises(ApiException) as stale:
        core.replace_namespaced_config_map("a", place, made)
    assert refused(stale)[:2] == (409, "Conflict")
    assert "the object has been modified; please apply your changes to the latest version" in refused(stale)[2]
    with pytest.raises(ApiException) as twice:
        core.create_namespaced_config_map(place, config_map("a"))
    assert refused(twice) == (409, "AlreadyExists", 'configmaps "a" already exists')
    core.delete_namespaced_config_map("a", place)
    with pytest.raises(ApiException) as missing:
        core.read_namespaced_config_map("a", place)
    assert refused(missing) == (404, "NotFound", 'configmaps "a" not found')


def test_a_pod_gets_defaults_and_keeps_its_specification(cluster: Cluster) -> None:
    core, place = cluster.core, cluster.namespace
    made = core.create_namespaced_pod(place, pod("p"))
    assert made.status.phase == "Pending"
    assert made.spec.containers[0].image_pull_policy == "IfNotPresent"
    assert made.spec.service_account_name == "default"
    with pytest.raises(ApiException) as changed:
        core.patch_namespaced_pod("p", place, {"spec": {"restartPolicy": "Always"}})
    code, reason, message = refused(changed)
    assert (code, reason) == (422, "Invalid")
    assert message.startswith('Pod "p" is invalid: spec: Forbidden: pod updates may not change fields other than')
    with pytest.raises(ApiException) as empty:
        core.create_namespaced_pod(place, {"metadata": {"name": "q"}, "spec": {"containers": []}})
    assert refused(empty) == (422, "Invalid", 'Pod "q" is invalid: spec.containers: Required value')


def test_a_status_is_changed_by_its_subresource_only(cluster: Cluster) -> None:
    core, place = cluster.core, cluster.namespace
    core.create_namespaced_pod(place, pod("p"))
    core.patch_namespaced_pod("p", place, {"status": {"phase": "Running"}})
    assert core.read_namespaced_pod("p", place).status.phase == "Pending"
    core.patch_namespaced_pod_status("p", place, {"status": {"phase": "Running"}, "spec": {"nodeName": "x"}})
    found = core.read_namespaced_pod("p", place)
    assert (found.status.phase, found.spec.node_name) == ("Running", None)


def test_a_watch_goes_on_from_the_version_of_a_list(cluster: Cluster) -> None:
    core, place = cluster.core, cluster.namespace
    core.create_namespaced_pod(place, pod("before"))
    version = core.list_namespaced_pod(place).metadata.resource_version
    core.create_namespaced_pod(place, pod("p"))
    core.patch_namespaced_pod("p", place, {"metadata": {"labels": {"app": "other"}}})
    core.delete_namespaced_pod("p", place, grace_period_seconds=0)
    seen = [
        (event["type"], event["object"].metadata.name)
        for event in cluster.watch(
            core.list_namespaced_pod, place, resource_version=version, label_selector="app=p", timeout_seconds=1
        )
    ]
    assert seen == [("ADDED", "p"), ("DELETED", "p")]


def test_lists_come_in_pages_and_by_selectors(cluster: Cluster) -> None:
    core, place = cluster.core, cluster.namespace
    for n in range(5):
        core.create_namespaced_secret(place, {"metadata": {"name": f"s{n}", "labels": {"n": str(n)}}})
    names: list[str] = []
    token = None
    while True:
        page = core.list_namespaced_secret(place, label_selector="n", limit=2, _continue=token)
        names += [one.metadata.name for one in page.items]
        token = page.metadata._continue
        if not token:
            break
    assert names == [f"s{n}" for n in range(5)]
    assert cluster.names("secret", "n in (1,2),n!=2") == ["s1"]
    by_name = core.list_namespaced_secret(place, field_selector="metadata.name=s3")
    assert [one.metadata.name for one in by_name.items] == ["s3"]
    core.delete_collection_namespaced_secret(place, label_selector="n,n notin (4)")
    assert cluster.names("secret", "n") == ["s4"]
