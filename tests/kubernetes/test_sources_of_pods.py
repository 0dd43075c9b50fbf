"""Pods that take their script from Git, and a labd that is killed while a pod runs: real containers' commands."""

import json
from contextlib import closing
from pathlib import Path

from deploy.demo.lab import Lab, labd_command, service
from labd.client.types import GitSource as GitWish
from labd.executors.kubernetes.names import RUNNER, SOURCE
from labd.executors.kubernetes.settings import Git, GitCredentials
from labd.model.run import Cause
from labd.model.source import GitSource
from tests.git_server import git_server, make_repository
from tests.kubernetes.node import Inside, LocalNode
from tests.kubernetes.test_executor import Labs, ended, labs, until
from tests.kubernetes.test_runs_in_pods import lab, verdict

__all__ = ["lab", "labs"]
FILES = {
    "smoke/main.lua": "require('test').equal(require('lib.names').name, 'ada')\n",
    "smoke/lib/names.lua": "return {name = 'ada'}\n",
}
COUNTS = "for n = 1, 60 do print('line ' .. n) require('time').sleep('50ms') end require('test').is_true(true)"


def test_scripts_from_git(lab: Lab, tmp_path: Path) -> None:
    lab.wait_for_benches("bench-1", "bench-2")
    commit = make_repository(tmp_path / "served" / "tests", FILES)
    served = tmp_path / "served"
    with git_server(served) as server, git_server(served, password="x") as private, lab.client() as client:

        def submit(url: str, path: str, revision: str = "main") -> str:
            git = GitWish(url=f"{url}/tests", path=path, revision=revision)
            return client.create_run(git=git, executor="kubernetes")["id"]

        good = submit(server, "smoke/main.lua")
        bad = {
            submit(server, "smoke/main.lua", "mian"): "has no revision 'mian': no branch and no tag has that name",
            submit(server, "smoke/mian.lua"): "there is no file 'smoke/mian.lua' in",
            submit(private, "smoke/main.lua"): f"{private}/tests needs a password",
        }
        assert verdict(client, good) == "PASSED"
        assert client.run(good)["commit"] == commit
        for run_id, said in bad.items():
            assert said in verdict(client, run_id)
            run = client.run(run_id)
            assert (run["state"], run["cause"], run["commit"]) == ("ERROR", "SetupFailed", None)


def test_a_private_repository_by_the_credentials_of_its_host(labs: Labs, tmp_path: Path) -> None:
    make_repository(tmp_path / "served" / "tests", FILES)
    cluster = labs.cluster
    with (
        git_server(tmp_path / "served", password="s3cret") as private,
        closing(
            LocalNode(cluster.kubeconfig, cluster.namespace, tmp_path, fake=cluster.fake, programs={RUNNER: _ends})
        ) as node,
    ):
        host = private.removeprefix("http://")
        executor = labs.serve(git=Git(credentials=GitCredentials(secret="git-reader", hosts=(host,))))
        source = GitSource(f"{private}/tests", "smoke/main.lua", "main")
        executor.start(labs.job("r-without", git=source))
        assert f"the credentials for {host} are not there" in ended(executor, "r-without").reason
        secret = {"metadata": {"name": "git-reader"}, "stringData": {"credentials": f"http://ada:s3cret@{host}\n"}}
        cluster.core.create_namespaced_secret(cluster.namespace, secret)
        executor.start(labs.job("r-with", git=source))
        assert ended(executor, "r-with").cause == Cause.NO_RESULT, "its runner was reached"
        assert [span.container for span in node.spans if span.exit_code == 0] == [SOURCE, RUNNER]


def _ends(_: Inside) -> int:
    return 0


def test_a_labd_that_is_killed_loses_nothing_of_a_pod(lab: Lab, tmp_path: Path) -> None:
    lab.wait_for_benches("bench-1", "bench-2")
    ready = lab.folder / "labd" / "labd.json"
    with lab.client() as client:
        run_id = client.create_run(script=COUNTS, executor="kubernetes")["id"]
        until(lambda: client.run(run_id)["state"] == "RUNNING" and "line 3" in texts(lab, run_id), "the pod logs")
    lab.processes["labd"].kill()
    lab.processes["labd"].wait()
    ready.unlink()
    command = labd_command(lab.folder, lab.http.removeprefix("https://"), lab.agents, secure=True)
    with service("labd-again", [*command, "--clusters", str(tmp_path / "clusters.yaml")], lab.folder) as process:
        lab.processes["labd"] = process
        lab.wait_for("labd again", ready.exists)
        assert json.loads(ready.read_text())["http"] == lab.http
        with lab.client() as client:
            assert verdict(client, run_id) == "PASSED"
            assert len(client.run(run_id)["attempts"]) == 1
            assert [text for text in texts(lab, run_id) if text.startswith("line ")] == [
                f"line {number}" for number in range(1, 61)
            ]


def texts(lab: Lab, run_id: str) -> list[str]:
    with lab.client() as client:
        return [line["text"] for line in client.log(run_id)]
