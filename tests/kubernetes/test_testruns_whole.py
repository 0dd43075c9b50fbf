"""TestRuns through a whole lab: labctl, API server, operator, labd with TLS, a pod's runner, an agent."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.demo.lab import Lab, service
from tests.git_server import git_server, make_repository
from tests.kubernetes.cluster import Cluster
from tests.kubernetes.node import LocalNode
from tests.kubernetes.operating import PATIENCE_S, Tests, installed
from tests.kubernetes.test_runs_in_pods import lab

__all__ = ["lab"]
SMOKE = "print('the smoke test') require('test').equal(require('names').name, 'ada')"
FILES = {"smoke/main.lua": SMOKE, "smoke/names.lua": "return {name = 'ada'}"}
GOES_ON = "print('it began') for _ = 1, 6000 do require('time').sleep('10ms') end"


class User:
    """Somebody with a kubeconfig and a token of labd."""

    def __init__(self, lab: Lab, cluster: Cluster) -> None:
        self._options = ["--kubeconfig", str(cluster.kubeconfig), "--namespace", cluster.namespace]
        self._environment = {name: value for name, value in os.environ.items() if not name.startswith("LABD_")}
        self._environment |= {"LABD_URL": lab.http, "LABD_TOKEN": lab.token or "", "LABD_CA": lab.ca or ""}

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        """``labctl test ...``."""
        return subprocess.Popen(
            [sys.executable, "-m", "labd.cli", "test", *arguments, *self._options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self._environment,
        )

    def labctl(self, *arguments: str) -> tuple[int, str, str]:
        """Exit code, stdout, stderr."""
        with self.start(*arguments) as process:
            out, err = process.communicate(timeout=PATIENCE_S)
        return process.returncode, out, err


@pytest.fixture
def user(lab: Lab, cluster: Cluster, tmp_path: Path) -> Iterator[User]:
    (token := tmp_path / "token").write_text(lab.token or "")
    command = ["labd.daemon", "operator", "--labd", lab.http, "--token-file", str(token), "--executor", "kubernetes"]
    command += ["--kubeconfig", str(cluster.kubeconfig), "--lease-namespace", cluster.namespace]
    command += ["--namespace", cluster.namespace, "--health", "127.0.0.1:0"]
    environment = ["env", f"LABD_CA={lab.ca}"]
    with installed(cluster), service("operator", command, lab.folder, prefix=environment):
        lab.wait_for_benches("bench-1", "bench-2")
        yield User(lab, cluster)


def test_from_git_to_the_verdict_and_the_log_while_it_goes_on(
    lab: Lab, user: User, cluster: Cluster, tmp_path: Path, node: LocalNode
) -> None:
    commit = make_repository(tmp_path / "served" / "tests", FILES)
    with git_server(tmp_path / "served") as server:
        git = ["--git", f"{server}/tests", "--git-path", "smoke/main.lua", "--git-revision", "main"]
        code, out, err = user.labctl("schedule", *git, "--app", "ecm", "--name", "smoke", "--follow")
    assert code == 0, err
    assert "the smoke test" in out
    assert "Passed  smoke" in out
    tests = Tests(cluster)
    passed = tests.until(lambda test: test.finished_at is not None and not test.held)
    assert (passed.status["state"], passed.status["commit"]) == ("Passed", commit)

    (script := tmp_path / "long.lua").write_text(GOES_ON)
    code, out, err = user.labctl("schedule", "--script", str(script), "--app", "ecm", "--name", "long", "-o", "json")
    assert (code, json.loads(out)["metadata"]["name"]) == (0, "long"), err
    with user.start("logs", "long", "-f") as following:
        assert following.stdout is not None
        assert "it began" in next(line for line in following.stdout if "it began" in line)
        assert following.poll() is None  # it comes while the run goes on
        tests.reach("Running", "long")
        tests.delete("long")
        _, err = following.communicate(timeout=PATIENCE_S)
    assert following.returncode == 3, err
    tests.gone("long")
