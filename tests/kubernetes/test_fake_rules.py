"""The fake server's finer points, and the ways to hurt it: owners, finalizers, CRDs, rights, tokens, faults."""

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.kubernetes.cluster import SCHEDULER, Cluster, Server, namespaced
from tests.kubernetes.fake import FakeApiServer
from tests.kubernetes.json_api import AWAY, MERGE, JsonApi, Object, Refused

APPLY = "application/apply-patch+yaml"


@pytest.fixture
def api(cluster: Cluster) -> JsonApi:
    return JsonApi(cluster.kubeconfig)


def until(true: Callable[[], Any], timeout_s: float = 30) -> None:
    ends = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < ends, "it did not come to be"
        time.sleep(0.02)


def refused(code: int) -> Any:
    return pytest.raises(Refused, match=f"^{code}: ")


def config_map(name: str, **meta: Any) -> Object:
    return {"metadata": {"name": name, **meta}, "data": {"a": "1"}}


def path(cluster: Cluster, plural: str, name: str = "") -> str:
    return f"/api/v1/namespaces/{cluster.namespace}/{plural}" + (f"/{name}" if name else "")


def test_what_is_owned_goes_with_its_owner(cluster: Cluster, api: JsonApi) -> None:
    owner = api.request("POST", path(cluster, "secrets"), {"metadata": {"name": "owner"}})
    reference = {"apiVersion": "v1", "kind": "Secret", "name": "owner", "uid": owner["metadata"]["uid"]}
    api.request("POST", path(cluster, "configmaps"), config_map("owned", ownerReferences=[reference]))
    stray = {**reference, "uid": "no-such-uid"}
    api.request("POST", path(cluster, "configmaps"), config_map("stray", ownerReferences=[stray]))
    api.request("POST", path(cluster, "configmaps"), config_map("free"))
    until(lambda: sorted(cluster.names("config_map")) == ["free", "owned"])
    api.request("DELETE", path(cluster, "secrets", "owner"))
    until(lambda: cluster.names("config_map") == ["free"])


def test_an_object_stays_until_its_finalizers_are_gone(cluster: Cluster, api: JsonApi) -> None:
    where = path(cluster, "configmaps", "kept")
    api.request("POST", path(cluster, "configmaps"), config_map("kept", finalizers=["labd.dev/test"]))
    assert api.request("DELETE", where)["metadata"]["deletionTimestamp"]
    with refused(422):
        api.request("PATCH", where, {"metadata": {"finalizers": ["labd.dev/test", "x.dev/new"]}}, kind=MERGE)
    api.request("PATCH", where, {"metadata": {"finalizers": None}}, kind=MERGE)
    with refused(404):
        api.request("GET", where)


@contextmanager
def things(cluster: Cluster, api: JsonApi, **spec: Any) -> Iterator[tuple[str, Object]]:
    """Where objects of a kind of the test's own are, and one of them."""
    schema = {
        "type": "object",
        "required": ["size"],
        "properties": {"size": {"type": "integer", "maximum": 5}, "mode": {"type": "string", "default": "fast"}},
        **spec,
    }
    status = {"type": "object", "properties": {"state": {"type": "string"}}}
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": schema, "status": status}}},
    }
    group = f"{cluster.namespace}.example.com"
    names = {"plural": "things", "kind": "Thing"}
    crd = {"group": group, "scope": "Namespaced", "names": names, "versions": [version]}
    definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    api.request("POST", definitions, {"metadata": {"name": f"things.{group}"}, "spec": crd})
    place = f"/apis/{group}/v1/namespaces/{cluster.namespace}/things"
    try:
        until(lambda: _is_served(api, place))
        yield place, {"apiVersion": f"{group}/v1", "kind": "Thing", "metadata": {"name": "t"}, "spec": {"size": 1}}
    finally:
        api.request("DELETE", f"{definitions}/things.{group}")
    until(lambda: not _is_served(api, place))


def test_a_custom_resource_has_defaults_and_a_status_of_its_own(cluster: Cluster, api: JsonApi) -> None:
    with things(cluster, api) as (place, thing):
        made = api.request("POST", place, {**thing, "spec": {"size": 1, "x": 2}, "status": {"state": "no"}})
        assert (made["spec"], made.get("status"), made["metadata"]["generation"]) == (
            {"size": 1, "mode": "fast"},
            None,
            1,
        )
        with pytest.raises(Refused, match=r"^422: .*spec.size: Required value"):
            api.request("POST", place, {**thing, "metadata": {"name": "u"}, "spec": {}})
        changed = api.request(
            "PATCH", f"{place}/t/status", {"status": {"state": "good"}, "spec": {"size": 3}}, kind=MERGE
        )
        assert (changed["spec"]["size"], changed["status"], changed["metadata"]["generation"]) == (
            1,
            {"state": "good"},
            1,
        )
        assert api.request("PATCH", f"{place}/t", {"spec": {"mode": "slow"}}, kind=MERGE)["metadata"]["generation"] == 2


def test_a_custom_resource_keeps_its_rules(cluster: Cluster, api: JsonApi) -> None:
    cluster.needs(25, "a rule of a CustomResourceDefinition")
    rule = {"rule": "self.size == oldSelf.size", "message": "the size cannot be changed"}
    with things(cluster, api, **{"x-kubernetes-validations": [rule]}) as (place, thing):
        api.request("POST", place, thing)
        with pytest.raises(Refused, match=r'^422: Thing.*"t" is invalid: spec: Invalid value: .*the size cannot be'):
            api.request("PATCH", f"{place}/t", {"spec": {"size": 2}}, kind=MERGE)


def _is_served(api: JsonApi, place: str) -> bool:
    try:
        api.request("GET", place)
    except Refused as error:
        assert error.code == 404
        return False
    return True


def test_pods_token_says_which_pod_it_is_until_that_is_gone(cluster: Cluster, api: JsonApi) -> None:
    container = {"name": "main", "image": "a:1"}
    pod = api.request(
        "POST",
        path(cluster, "pods"),
        {"metadata": {"name": "p"}, "spec": {"schedulerName": SCHEDULER, "containers": [container]}},
    )
    bound = {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": pod["metadata"]["uid"]}
    wanted = {"spec": {"audiences": ["labd"], "expirationSeconds": 600, "boundObjectRef": bound}}
    token = api.request("POST", path(cluster, "serviceaccounts", "default/token"), wanted)["status"]["token"]

    def review(*audiences: str) -> Object:
        asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview"}
        spec = {"token": token, "audiences": [*audiences]}
        found: Object = api.request("POST", "/apis/authentication.k8s.io/v1/tokenreviews", {**asked, "spec": spec})
        status: Object = found["status"]
        return status

    good = review("labd", "other")
    assert (good["authenticated"], good["audiences"]) == (True, ["labd"])
    assert good["user"]["username"] == f"system:serviceaccount:{cluster.namespace}:default"
    assert good["user"]["extra"]["authentication.kubernetes.io/pod-name"] == ["p"]
    assert good["user"]["extra"]["authentication.kubernetes.io/pod-uid"] == [pod["metadata"]["uid"]]
    assert not review("other").get("authenticated")
    api.request("DELETE", path(cluster, "pods", "p"), {"gracePeriodSeconds": 0})
    if cluster.fake is not None:  # a real server keeps what it found for some seconds
        assert not review("labd").get("authenticated")


def test_service_accounts_may_what_roles_allow(tmp_path: Path) -> None:
    server = FakeApiServer(tls=True)
    try:
        with namespaced(server.kubeconfig(tmp_path / "admin"), server) as cluster:
            admin = JsonApi(cluster.kubeconfig)
            token = admin.request("POST", path(cluster, "serviceaccounts", "default/token"), {"spec": {}})
            robot = JsonApi(server.kubeconfig(tmp_path / "robot", token=token["status"]["token"]))
            account = f"system:serviceaccount:{cluster.namespace}:default"
            said = (
                f'User "{account}" cannot list resource "pods" in API group "" in the namespace "{cluster.namespace}"'
            )
            with pytest.raises(Refused, match=f"^403: pods is forbidden: {said}"):
                robot.request("GET", path(cluster, "pods"))
            place = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{cluster.namespace}"
            rule = {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}
            admin.request("POST", f"{place}/roles", {"metadata": {"name": "r"}, "rules": [rule]})
            reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"}
            subject = {"kind": "ServiceAccount", "name": "default", "namespace": cluster.namespace}
            binding = {"metadata": {"name": "b"}, "roleRef": reference, "subjects": [subject]}
            admin.request("POST", f"{place}/rolebindings", binding)
            assert robot.request("GET", path(cluster, "pods"))["items"] == []
            with refused(403):
                robot.request("GET", path(cluster, "secrets"))
            server.access.ahead_s = 7200
            with refused(401):
                robot.request("GET", path(cluster, "pods"))
    finally:
        server.close()


def test_who_was_away_too_long_is_told_that_it_is_gone(cluster: Cluster, api: JsonApi, server: Server) -> None:
    version = api.request("GET", path(cluster, "configmaps"))["metadata"]["resourceVersion"]
    server.compact()
    event = next(api.watch(path(cluster, "configmaps"), version, threading.Event()))
    assert (event["type"], event["object"]["code"], event["object"]["reason"]) == ("ERROR", 410, "Expired")
    assert event["object"]["message"].startswith(f"too old resource version: {version} (")
    first = api.request("GET", path(cluster, "configmaps"))
    assert first["metadata"].get("continue") is None


def test_watches_get_bookmarks_and_can_be_cut(cluster: Cluster, api: JsonApi, server: Server) -> None:
    if isinstance(server, FakeApiServer):
        server.bookmark_every_s = 0.05
    version = api.request("GET", path(cluster, "configmaps"))["metadata"]["resourceVersion"]
    # a real server sends one shortly before it ends the watch
    events = api.watch(path(cluster, "configmaps"), version, threading.Event(), timeoutSeconds=6)
    assert next(events)["type"] == "BOOKMARK"
    server.drop_watches()
    with pytest.raises(AWAY):
        for _ in range(1000):
            next(events)


def test_requests_fail_as_a_test_wants_it(cluster: Cluster, api: JsonApi, server: Server) -> None:
    with server.faults.answering(429, verb="list", resource="pods", times=1, retry_after_s=3):
        with refused(429):
            api.request("GET", path(cluster, "pods"))
        api.request("GET", path(cluster, "pods"))
    with server.forbidden("create", "pods"), refused(403):
        api.request("POST", path(cluster, "pods"), {"metadata": {"name": "p"}})
    with server.away(), pytest.raises(AWAY):
        api.request("GET", path(cluster, "pods"))
    assert api.request("GET", path(cluster, "pods"))["items"] == []
    assert server.faults.requests["list", "pods"] == 3
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    connection.request("GET", "/api/v1/no-such-things")
    assert json.loads(connection.getresponse().read())["message"] == "the server could not find the requested resource"
    connection.close()


def test_patches_of_every_kind(cluster: Cluster, api: JsonApi) -> None:
    containers = [{"name": "a", "image": "a:1"}, {"name": "b", "image": "b:1"}]
    api.request(
        "POST",
        path(cluster, "pods"),
        {"metadata": {"name": "p"}, "spec": {"schedulerName": SCHEDULER, "containers": containers}},
    )
    where = path(cluster, "pods", "p")
    strategic = {"spec": {"containers": [{"name": "b", "image": "b:2"}]}}
    found = api.request("PATCH", where, strategic, kind="application/strategic-merge-patch+json")
    assert [one["image"] for one in found["spec"]["containers"]] == ["a:1", "b:2"]
    operations = [{"op": "test", "path": "/spec/containers/0/image", "value": "a:1"}]
    operations.append({"op": "replace", "path": "/spec/containers/0/image", "value": "a:2"})
    found = api.request("PATCH", where, operations, kind="application/json-patch+json")
    assert [one["image"] for one in found["spec"]["containers"]] == ["a:2", "b:2"]
    with refused(422):
        api.request("PATCH", where, operations, kind="application/json-patch+json")
    config = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "labels": {"x": "y"}}}
    found = api.request("PATCH", where, config, kind=APPLY, fieldManager="me")
    assert found["metadata"]["labels"] == {"x": "y"}
    stale = {"metadata": {"resourceVersion": "1", "labels": {"x": "z"}}}
    with refused(409):
        api.request("PATCH", where, stale, kind=MERGE)
