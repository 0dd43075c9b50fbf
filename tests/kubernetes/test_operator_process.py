"""``labd operator`` as a process."""

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from kubernetes import client as kubernetes

from tests.kubernetes.cluster import Cluster, Server
from tests.kubernetes.operating import PATIENCE_S, Labd, Tests, eventually, installed

LEASE_S = 3
SLACK_S = 30.0
"""What a busy machine may take longer."""
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


class Process:
    """``labd operator``, killed at the end if it still runs."""

    def __init__(self, stack: ExitStack, cluster: Cluster, labd: Labd, folder: Path, *options: str) -> None:
        token = folder / "token"
        token.write_text("labd-asks-nobody\n")
        command = [*COMMAND, "--labd", labd.url, "--token-file", str(token), "--kubeconfig", str(cluster.kubeconfig)]
        command += ["--namespace", f"{cluster.namespace}=default", "--lease-namespace", cluster.namespace, *options]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("LABD_")}
        self.process = stack.enter_context(
            subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
        )
        stack.callback(self.process.kill)
        assert self.process.stderr is not None
        self._lines = self.process.stderr
        found = re.search(r"health=(\S+)", next(line for line in self._lines if "the operator runs" in line))
        assert found is not None
        self._address = found[1]
        threading.Thread(target=self._lines.read, daemon=True).start()  # or it would be stuck one day

    def state(self) -> dict[str, Any]:
        """What /healthz answers."""
        with urlopen(f"http://{self._address}/healthz", timeout=PATIENCE_S) as answer:
            found: dict[str, Any] = json.load(answer)
        return found

    def kill(self) -> None:
        """With SIGKILL."""
        self.process.kill()
        self.process.wait(PATIENCE_S)


def test_it_starts_before_labd_runs_until_it_is_told_to_stop_and_gives_the_lease_up(
    cluster: Cluster, labd: Labd, tmp_path: Path
) -> None:
    with installed(cluster), ExitStack() as stack:
        labd.go()
        operator = Process(stack, cluster, labd, tmp_path)
        tests = Tests(cluster)
        tests.create()
        waiting = tests.until(lambda test: test.condition("Synced") is not None)
        assert waiting.status["state"] == "Pending"
        assert "cannot be reached" in waiting.status["reason"]
        assert "labd at" in str(operator.state()["labd"])
        labd.come()
        tests.until(lambda test: test.run_id is not None)
        state = operator.state()
        assert (state["ready"], state["leading"], state["labd"]) == (True, True, "ok")
        operator.process.terminate()
        assert operator.process.wait(PATIENCE_S) == 0
    leases = kubernetes.CoordinationV1Api(cluster.api)
    lease = leases.read_namespaced_lease("labd-operator", cluster.namespace)
    assert lease.spec is not None
    assert lease.spec.holder_identity is None
    assert len(labd.runs()) == 1


def test_killed_while_it_leads_before_the_status_is_written_and_before_a_finished_one_is_removed(
    cluster: Cluster, server: Server, labd: Labd, tmp_path: Path
) -> None:
    """Three operators, one after the other; each is killed with SIGKILL at the worst moment."""
    with installed(cluster), ExitStack() as stack:
        options = ["--lease-duration", str(LEASE_S), "--ttl", "0.1"]
        tests = Tests(cluster)
        first = Process(stack, cluster, labd, tmp_path, *options)
        eventually(lambda: first.state()["leading"])
        second = Process(stack, cluster, labd, tmp_path, *options)
        eventually(lambda: second.state()["ready"])
        assert not second.state()["leading"]

        with server.faults.answering(503, verb="patch", resource="testruns/status"):
            tests.create()
            eventually(labd.runs)
            first.kill()  # labd has the run, and nobody knows of it
        killed_at = time.monotonic()
        found = tests.until(lambda test: test.run_id is not None)
        assert time.monotonic() - killed_at < LEASE_S + SLACK_S
        assert second.state()["leading"]
        (run,) = labd.runs()
        assert found.run_id == run["id"]

        labd.free()
        tests.reach("Running")
        with server.faults.answering(503, verb="delete", resource="testruns"):
            labd.end(run["id"])
            tests.until(lambda test: test.finished_at is not None and not test.held)
            eventually(lambda: server.faults.requests["delete", "testruns"])
            second.kill()
        assert tests.reach("Passed").run_id == run["id"]
        Process(stack, cluster, labd, tmp_path, *options)
        tests.gone()
        assert [(one["id"], one["state"]) for one in labd.runs()] == [(run["id"], "PASSED")]
        assert labd.client.result(run["id"])["verdict"] == "passed"


def test_without_a_cluster_it_says_what_is_missing(tmp_path: Path) -> None:
    environment = {**os.environ, "KUBECONFIG": str(tmp_path / "none")}
    environment.pop("KUBERNETES_SERVICE_HOST", None)
    ended = subprocess.run(COMMAND, check=False, capture_output=True, text=True, env=environment, timeout=PATIENCE_S)
    assert ended.returncode == 1
    assert "cannot start: there is no kubeconfig" in ended.stderr
