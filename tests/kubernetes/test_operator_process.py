"""``labd operator`` as a process."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest
from kubernetes import client as kubernetes

from tests.kubernetes.cluster import Cluster
from tests.kubernetes.operating import PATIENCE_S, Labd, Tests, installed

COMMAND = [sys.executable, "-m", "labd.daemon", "operator", "--health", "127.0.0.1:0"]


@pytest.fixture
def labd(tmp_path: Path) -> Iterator[Labd]:
    folder = tmp_path / "labd"
    folder.mkdir()
    labd = Labd(folder)
    try:
        yield labd
    finally:
        labd.close()


def test_it_runs_until_it_is_told_to_stop_and_gives_the_lease_up(cluster: Cluster, labd: Labd, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("labd-asks-nobody\n")
    options = ["--labd", labd.url, "--token-file", str(token), "--kubeconfig", str(cluster.kubeconfig)]
    options += ["--namespace", f"{cluster.namespace}=default", "--lease-namespace", cluster.namespace]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LABD_")}
    with (
        installed(cluster),
        subprocess.Popen([*COMMAND, *options], stderr=subprocess.PIPE, text=True, env=environment) as process,
    ):
        assert process.stderr is not None
        try:
            first = next(line for line in process.stderr if "the operator runs" in line)
            address = re.search(r"health=(\S+)", first)
            assert address is not None
            tests = Tests(cluster)
            tests.create()
            tests.until(lambda test: test.run_id is not None)
            with urlopen(f"http://{address[1]}/readyz", timeout=PATIENCE_S) as answer:
                state = json.load(answer)
            assert (answer.status, state["leading"], state["labd"]) == (200, True, "ok")
            process.terminate()
            process.communicate(timeout=PATIENCE_S)
        finally:
            process.kill()
    assert process.returncode == 0
    leases = kubernetes.CoordinationV1Api(cluster.api)
    lease = leases.read_namespaced_lease("labd-operator", cluster.namespace)
    assert lease.spec is not None
    assert lease.spec.holder_identity is None
    assert len(labd.runs()) == 1


def test_without_a_cluster_it_says_what_is_missing(tmp_path: Path) -> None:
    environment = {**os.environ, "KUBECONFIG": str(tmp_path / "none")}
    environment.pop("KUBERNETES_SERVICE_HOST", None)
    ended = subprocess.run(COMMAND, check=False, capture_output=True, text=True, env=environment, timeout=PATIENCE_S)
    assert ended.returncode == 1
    assert "cannot start: there is no kubeconfig" in ended.stderr
