"""The API server as the real kubectl sees it."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.kubernetes.cluster import Cluster
from tests.kubernetes.node import LocalNode
from tests.tools import tool

Kubectl = Callable[..., str]

CONFIG_MAP = """
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {a: "1", b: "2"}
"""
POD = """
apiVersion: v1
kind: Pod
metadata: {name: p, labels: {app: test}}
spec:
  schedulerName: labd-tests
  restartPolicy: Never
  containers:
  - {name: main, image: "shell:1", command: [sh, -c, "echo hello; exec sleep 100"]}
"""


class Failed(Exception):
    """What kubectl said."""


@pytest.fixture
def kubectl(cluster: Cluster, tmp_path: Path) -> Kubectl:
    """Runs it in the test's namespace; raises Failed with its words."""
    program = tool("kubectl")

    def run(*words: str, given: str = "", kubeconfig: Path | None = None) -> str:
        options = ["--kubeconfig", str(kubeconfig or cluster.kubeconfig), "--cache-dir", str(tmp_path / "cache")]
        done = subprocess.run(
            [program, *options, "--namespace", cluster.namespace, *words],
            input=given,
            capture_output=True,
            text=True,
            timeout=60,
            env={"HOME": str(tmp_path), "PATH": os.environ["PATH"]},
            check=False,
        )
        if done.returncode:
            raise Failed(done.stderr)
        return done.stdout

    return run


def test_apply_by_the_client(kubectl: Kubectl) -> None:
    assert kubectl("apply", "-f", "-", given=CONFIG_MAP) == "configmap/settings created\n"
    assert kubectl("apply", "-f", "-", given=CONFIG_MAP) == "configmap/settings unchanged\n"
    less = CONFIG_MAP.replace(', b: "2"', "")
    assert kubectl("apply", "-f", "-", given=less) == "configmap/settings configured\n"
    assert kubectl("get", "cm", "settings", "-o", "jsonpath={.data}") == '{"a":"1"}'
    with pytest.raises(Failed, match='unknown field "datum"'):
        kubectl("apply", "-f", "-", given=CONFIG_MAP.replace("\ndata:", "\ndatum:"))


def test_apply_by_the_server_knows_who_owns_what(kubectl: Kubectl) -> None:
    apply = ("apply", "--server-side", "-f", "-")
    assert kubectl(*apply, "--field-manager", "one", given=CONFIG_MAP) == "configmap/settings serverside-applied\n"
    other = CONFIG_MAP.replace('"1", b: "2"', '"3"')
    with pytest.raises(Failed, match=r'Apply failed with 1 conflict: conflict with "one": \.data\.a'):
        kubectl(*apply, "--field-manager", "two", given=other)
    kubectl(*apply, "--field-manager", "two", "--force-conflicts", given=other)
    # The first gives up what is still its own, and keeps its hands off the other's.
    kubectl(*apply, "--field-manager", "one", given=CONFIG_MAP.replace('a: "1", b: "2"', 'c: "4"'))
    found = json.loads(kubectl("get", "cm", "settings", "-o", "json", "--show-managed-fields"))
    assert found["data"] == {"a": "3", "c": "4"}
    owners = {entry["manager"]: entry["fieldsV1"]["f:data"] for entry in found["metadata"]["managedFields"]}
    assert owners == {"one": {"f:c": {}}, "two": {"f:a": {}}}


def test_get_wait_logs_and_delete_of_a_pod(kubectl: Kubectl, cluster: Cluster, node: LocalNode) -> None:
    assert kubectl("apply", "-f", "-", given=POD) == "pod/p created\n"
    assert kubectl("wait", "--for=condition=Ready", "pod/p", "--timeout=30s") == "pod/p condition met\n"
    header, row = kubectl("get", "pods").splitlines()
    assert header.split() == ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]
    assert row.split()[:4] == ["p", "1/1", "Running", "0"]
    assert kubectl("logs", "p") == "hello\n"
    assert kubectl("patch", "pod", "p", "--type=json", "-p", '[{"op":"add","path":"/metadata/labels/x","value":"y"}]')
    assert kubectl("get", "pod", "-l", "x=y", "-o", "name") == "pod/p\n"
    with pytest.raises(Failed, match="spec: Forbidden: pod updates may not change fields other than"):
        kubectl("patch", "pod", "p", "-p", '{"spec":{"containers":[{"name":"main","command":["true"]}]}}')
    assert kubectl("delete", "pod", "p", "--grace-period=1", "--timeout=30s").startswith('pod "p" deleted')
    with pytest.raises(Failed, match=r'Error from server \(NotFound\): pods "p" not found'):
        kubectl("get", "pod", "p")


def test_get_goes_on_showing_what_changes(kubectl: Kubectl, cluster: Cluster, tmp_path: Path) -> None:
    kubectl("apply", "-f", "-", given=CONFIG_MAP)
    words = [str(tool("kubectl")), "--kubeconfig", str(cluster.kubeconfig), "--cache-dir", str(tmp_path / "cache")]
    watching: Any = subprocess.Popen(
        [*words, "-n", cluster.namespace, "get", "cm", "settings", "-w", "-o", "jsonpath={.data}{'\\n'}"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert watching.stdout.readline() == '{"a":"1","b":"2"}\n'
        kubectl("patch", "cm", "settings", "--type=merge", "-p", '{"data":{"a":null}}')
        assert watching.stdout.readline() == '{"b":"2"}\n'
    finally:
        watching.kill()
        watching.communicate()


def test_what_one_may_do(kubectl: Kubectl) -> None:
    assert kubectl("auth", "can-i", "create", "pods") == "yes\n"
    assert kubectl("auth", "can-i", "list", "leases.coordination.k8s.io") == "yes\n"
