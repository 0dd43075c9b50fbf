"""A whole lab whose runs are pods: labd with TLS, an agent, an API server, and a node that runs the pods' commands."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.demo.lab import DEMO_AGENT, Lab, running_lab
from labd.client import LabClient, ProblemError
from tests.kubernetes.cluster import SCHEDULER, Cluster
from tests.kubernetes.node import LocalNode
from tests.kubernetes.test_executor import until

PASSES = "require('test').is_true(1 == 1)\n"
WAITS = "require('time').sleep('60s')"


@pytest.fixture
def lab(cluster: Cluster, node: LocalNode, tmp_path: Path) -> Iterator[Lab]:
    enforced = {"pod-security.kubernetes.io/enforce": "restricted"}
    cluster.core.patch_namespace(cluster.namespace, {"metadata": {"labels": enforced}})
    here = {
        "name": "here",
        "kubeconfig": str(cluster.kubeconfig),
        "namespace": cluster.namespace,
        "image": "labd-runner:1",
        "scheduler": SCHEDULER,
        "finished_ttl_s": 0,
        "stop_grace_s": 5,
        "image_pull_limit_s": 1,
    }
    file = tmp_path / "clusters.yaml"
    file.write_text(json.dumps({"clusters": [here]}))
    with running_lab(tmp_path / "lab", DEMO_AGENT, secure=True, options=("--clusters", str(file))) as found:
        yield found


def verdict(client: LabClient, run_id: str) -> str:
    until(lambda: client.run(run_id)["state"] not in ("PENDING", "RUNNING"), f"a verdict of {run_id}")
    run = client.run(run_id)
    return f"{run['state']} {run['reason']}".strip()


def test_runs_end_as_their_pods_do(lab: Lab, cluster: Cluster, node: LocalNode) -> None:
    lab.wait_for_benches("bench-1", "bench-2")
    with lab.client() as client:
        with pytest.raises(ProblemError, match="262144"):
            client.create_run(script="-- " + "x" * 262_144, executor="kubernetes")

        def found() -> dict[str, str]:
            return {check["name"]: check["state"] for check in client.doctor()["checks"]}

        until(lambda: found()["cluster here"] == "ok", "doctor finds the cluster in order")
        passed = client.create_run(script=PASSES, executor="kubernetes")["id"]
        assert verdict(client, passed) == "PASSED"

        evicted = client.create_run(script=WAITS, executor="kubernetes")["id"]
        node.life(f"labd-{evicted}-1")
        node.evict(f"labd-{evicted}-1")
        node.life(f"labd-{evicted}-2")
        assert [one["cause"] for one in client.run(evicted)["attempts"]] == ["Evicted", None]
        client.cancel_run(evicted)

        with node.no_image():
            nowhere = client.create_run(script=PASSES, executor="kubernetes")["id"]
            assert verdict(client, nowhere).startswith("ERROR the image labd-runner:1 does not come (ImagePullBackOff)")
        assert verdict(client, evicted).startswith("CANCELLED")
    until(lambda: not cluster.names("pod") and not cluster.names("config_map"), "nothing is left")
