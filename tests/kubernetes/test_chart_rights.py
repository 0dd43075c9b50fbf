"""labd and its operator with the rights that the chart gives their service accounts, and no others."""

import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from labd.executors.base import Alive
from labd.model.check import CheckState
from tests.kubernetes.cluster import Cluster
from tests.kubernetes.json_api import JsonApi, Object, Refused
from tests.kubernetes.operating import Labd, Operators, Tests, installed
from tests.kubernetes.test_executor import ENDS, Labs, ended, made, until
from tests.unit.deploying.chart import CHART, helm

_PLURALS = {
    "ServiceAccount": ("/api/v1", "serviceaccounts"),
    "Role": ("/apis/rbac.authorization.k8s.io/v1", "roles"),
    "RoleBinding": ("/apis/rbac.authorization.k8s.io/v1", "rolebindings"),
    "ClusterRole": ("/apis/rbac.authorization.k8s.io/v1", "clusterroles"),
    "ClusterRoleBinding": ("/apis/rbac.authorization.k8s.io/v1", "clusterrolebindings"),
}
As = Callable[[str], Cluster]
"""The cluster as a service account of the release `labd` sees it."""


@pytest.fixture
def as_account(cluster: Cluster, tmp_path: Path) -> Iterator[As]:
    api = JsonApi(cluster.kubeconfig)
    options = ["--set", f"operator.namespaces.{cluster.namespace}=default"]
    out = helm("template", "labd", str(CHART), "--namespace", cluster.namespace, *options)
    cluster_wide: list[str] = []
    try:
        for thing in yaml.safe_load_all(out):
            if thing is None or thing["kind"] not in _PLURALS or "helm.sh/hook" in str(thing["metadata"]):
                continue
            version, plural = _PLURALS[thing["kind"]]
            if thing["kind"].startswith("Cluster"):
                api.request("POST", f"{version}/{plural}", thing)
                cluster_wide.append(f"{version}/{plural}/{thing['metadata']['name']}")
            else:
                api.request("POST", f"{version}/namespaces/{cluster.namespace}/{plural}", thing)

        def seen(account: str) -> Cluster:
            place = f"/api/v1/namespaces/{cluster.namespace}/serviceaccounts/{account}/token"
            token = api.request("POST", place, {"spec": {"audiences": []}})["status"]["token"]
            known: Object = yaml.safe_load(cluster.kubeconfig.read_text())
            known["users"] = [{"name": user["name"], "user": {"token": token}} for user in known["users"]]
            (path := tmp_path / f"{account}.json").write_text(json.dumps(known))
            return dataclasses.replace(cluster, kubeconfig=path)

        yield seen
    finally:
        for path in cluster_wide:
            api.request("DELETE", path)


def refuses(seen: Cluster, method: str, path: str, body: Any = None) -> bool:
    try:
        JsonApi(seen.kubeconfig).request(method, path.format(namespace=seen.namespace), body)
    except Refused as error:
        return error.code == 403
    return False


def test_labd_runs_pods_with_the_rights_of_the_chart(cluster: Cluster, as_account: As) -> None:
    seen = as_account("labd")
    labs = Labs(seen)
    try:
        executor = labs.serve(finished_ttl_s=0)
        until(lambda: executor.checks()[0].state is CheckState.OK, "labd may do what it needs")
        for run_id in ("r-1", "r-2"):
            executor.start(labs.job(run_id))
            made(labs, f"labd-{run_id}-1")
            assert executor.status(run_id) == Alive(1)
        labs.report("labd-r-1-1", **ENDS["no result"][0])
        ended(executor, "r-1")
        executor.stop("r-2")
        ended(executor, "r-2")
        for run_id in ("r-1", "r-2"):
            executor.forget(run_id)
            del labs.running[run_id]
        until(lambda: labs.pods() == cluster.names("config_map") == [], "nothing is left")
        assert executor.checks()[0].state is CheckState.OK
    finally:
        labs.die()
    for method, path in (
        ("GET", "/api/v1/namespaces/{namespace}/secrets"),
        ("GET", "/api/v1/pods"),
        ("GET", "/api/v1/nodes"),
        ("GET", "/api/v1/namespaces/{namespace}/serviceaccounts"),
    ):
        assert refuses(seen, method, path), path
    assert refuses(seen, "POST", "/api/v1/namespaces/{namespace}/secrets", {"metadata": {"name": "s"}})
    assert refuses(seen, "POST", "/api/v1/namespaces/default/pods", {"metadata": {"name": "p"}})


def test_the_operator_makes_runs_with_the_rights_of_the_chart(cluster: Cluster, as_account: As, tmp_path: Path) -> None:
    (folder := tmp_path / "labd").mkdir()
    labd = Labd(folder)
    with installed(cluster):
        seen = as_account("labd-operator")
        operators, tests = Operators(seen, labd), Tests(cluster)
        try:
            labd.free()
            operators.start()
            tests.create()
            labd.end(str(tests.reach("Running").run_id))
            tests.reach("Passed")
            tests.until(lambda test: not test.held)
            tests.create("another")
            tests.until(lambda test: test.run_id is not None, "another")
            tests.delete("another")
            tests.gone("another")
        finally:
            operators.close()
            labd.close()
        for path in (
            "/api/v1/namespaces/{namespace}/secrets",
            "/api/v1/namespaces/{namespace}/pods",
            "/api/v1/namespaces/{namespace}/configmaps",
            "/apis/labd.dev/v1alpha1/testruns",
        ):
            assert refuses(seen, "GET", path), path
