"""``labctl test``: TestRuns made, shown and waited for in a cluster."""

import json
import re
import threading
import tomllib
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner, Result

from labd.cli.main import main
from tests.kubernetes.cluster import Cluster, Server
from tests.kubernetes.operating import Tests, installed, uninstall

Labctl = Callable[..., Result]
LABD = "http://127.0.0.1:9"
"""Nobody is there."""


@pytest.fixture
def tests(cluster: Cluster) -> Iterator[Tests]:
    with installed(cluster):
        yield Tests(cluster)


@pytest.fixture
def labctl(cluster: Cluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Labctl:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))

    def call(*arguments: str) -> Result:
        cluster_options = ["--kubeconfig", str(cluster.kubeconfig), "--namespace", cluster.namespace]
        options = [] if "--help" in arguments else cluster_options
        result = CliRunner().invoke(main, ["test", *arguments, *options], prog_name="labctl")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return call


@pytest.fixture
def script(tmp_path: Path) -> str:
    file = tmp_path / "test.lua"
    file.write_text("print(1)")
    return str(file)


def told(tests: Tests, name: str, status: dict[str, Any]) -> None:
    """Writes what an operator would."""
    from labd.operator.cluster import TestRuns, connect

    found = tests.get(name)
    assert found is not None
    TestRuns(connect(str(tests.kubeconfig))).save_status(found, status)


def finished(state: str, word: str, **more: str) -> dict[str, Any]:
    since = "2026-11-22T05:00:00Z"
    condition = {"type": "Finished", "status": "True", "reason": word, "message": "", "lastTransitionTime": since}
    return {"state": state, "conditions": [condition], **more}


def test_schedule_a_script(labctl: Labctl, tests: Tests, script: str) -> None:
    result = labctl("schedule", "--script", script, "--app", "my-app", "-l", "2*platform=meb", "--timeout", "90s")
    assert result.exit_code == 0, result.output
    (made,) = tests.all()
    assert result.stdout.strip() == made.name
    assert made.name.startswith("my-app-")
    assert made.spec == {
        "appName": "my-app",
        "script": "print(1)",
        "timeout": "90s",
        "priority": "normal",
        "benches": [{"selector": "platform=meb", "count": 2}],
    }
    assert made.metadata["labels"] == {"labd.dev/app": "my-app"}
    assert f"-n {made.namespace} -f {made.name}" in result.stderr, "the next command finds it as this one did"
    assert "no operator has seen it yet" in labctl("status").stdout
    assert "no operator has seen it yet" in labctl("status", made.name).stdout


def test_schedule_from_git(labctl: Labctl, tests: Tests) -> None:
    git = ["--git", "https://git.example.com/tests.git", "--git-path", "smoke.lua", "--git-revision", "v1"]
    assert labctl("schedule", *git, "--app", "my-app", "--name", "nightly").exit_code == 0
    made = tests.get("nightly")
    assert made is not None
    assert made.spec["git"] == {"url": "https://git.example.com/tests.git", "path": "smoke.lua", "revision": "v1"}
    assert "script" not in made.spec


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--app", "a"], "either --script or --git"),
        (["--app", "a", "--git", "https://git.example.com/t.git"], "--git needs --git-path"),
        (["--app", "a", "--script", "no.lua"], "no.lua cannot be read"),
        (["--script", "no.lua"], "Missing option '--app'"),
    ],
)
def test_wrong_usage(labctl: Labctl, arguments: list[str], said: str) -> None:
    result = labctl("schedule", *arguments)
    assert (result.exit_code, said in result.output) == (64, True), result.output


def test_a_script_that_is_too_large(labctl: Labctl, tmp_path: Path) -> None:
    file = tmp_path / "large.lua"
    file.write_text("-- " + "x" * 262_144)
    result = labctl("schedule", "--app", "a", "--script", str(file))
    assert (result.exit_code, "at most 262144" in result.output) == (64, True), result.output


def test_a_name_that_is_taken(labctl: Labctl, tests: Tests, script: str) -> None:
    tests.create("nightly")
    result = labctl("schedule", "--script", script, "--app", "a", "--name", "nightly")
    assert (result.exit_code, "there is a TestRun 'nightly'" in result.output) == (65, True), result.output


def test_what_the_cluster_refuses_is_said(labctl: Labctl, tests: Tests, script: str) -> None:
    result = labctl("schedule", "--app", "My App", "--script", script, "--name", "smoke")
    assert (result.exit_code, "appName" in result.output) == (65, True), result.output


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (finished("Passed", "Passed", result="2 passed"), 0),
        (finished("Failed", "Failed", reason="VIN is wrong"), 1),
        (finished("Error", "Refused", reason="no bench matches"), 2),
        (finished("Error", "Cancelled", reason="Cancelled: not now"), 3),
    ],
)
def test_waiting_ends_with_the_verdict(
    labctl: Labctl, tests: Tests, script: str, monkeypatch: pytest.MonkeyPatch, status: dict[str, Any], code: int
) -> None:
    monkeypatch.setattr("labd.cli.test_following.sleep", lambda _: told(tests, "smoke", status))
    result = labctl("schedule", "--app", "a", "--script", script, "--name", "smoke", "--wait")
    assert result.exit_code == code, result.output
    assert status.get("reason", status["state"]) in result.stdout


def test_status_of_all_and_of_one(labctl: Labctl, tests: Tests) -> None:
    assert "no tests" in labctl("status").output
    tests.create("smoke")
    assert "no operator has seen it yet" in labctl("status", "smoke").output
    assert "no operator has seen it yet" in labctl("status").output
    told(tests, "smoke", {"state": "Running", "bench": "hil-3", "runID": "r-1"})
    assert "hil-3" in labctl("status").output
    assert "r-1" in labctl("status", "smoke").output
    assert json.loads(labctl("status", "smoke", "-o", "json").stdout)["status"]["state"] == "Running"
    missing = labctl("status", "smok")
    assert (missing.exit_code, "did you mean 'smoke'?" in missing.output) == (65, True)


def test_the_list_is_of_what_was_asked_for_and_the_newest_first(cluster: Cluster, labctl: Labctl, tests: Tests) -> None:
    for number, app in enumerate(("ecm", "tcm", "ecm")):
        tests.create(f"smoke-{number}", appName=app)
    told(tests, "smoke-0", finished("Passed", "Passed"))

    def names(*options: str) -> list[str]:
        return [one["metadata"]["name"] for one in json.loads(labctl("status", "-o", "json", *options).stdout)]

    assert names("--app", "tcm") == ["smoke-1"]
    assert names("--state", "passed") == ["smoke-0"]
    assert names("--state", "Pending", "--app", "ecm") == ["smoke-2"]
    assert set(names()) == {"smoke-0", "smoke-1", "smoke-2"}
    everywhere = labctl("status", "--all-namespaces", "--app", "tcm").stdout.splitlines()
    assert everywhere[0].split()[:2] == ["NAMESPACE", "TEST"]
    assert any(line.split()[:2] == [cluster.namespace, "smoke-1"] for line in everywhere)
    assert labctl("status", "smoke-0", "--app", "ecm").exit_code == 64


def test_names_are_completed(cluster: Cluster, tests: Tests, monkeypatch: pytest.MonkeyPatch) -> None:
    tests.create("smoke")
    tests.create("nightly")
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))

    def offered(incomplete: str, *options: str) -> list[str]:
        completion = ShellComplete(main, {}, "labctl", "_LABCTL_COMPLETE")
        return [one.value for one in completion.get_completions(["test", *options], incomplete)]

    there = ["--namespace", cluster.namespace]
    assert sorted(offered("", "status", *there)) == ["nightly", "smoke"]
    assert offered("sm", "logs", "-f", *there) == ["smoke"]
    monkeypatch.setenv("KUBECONFIG", "/nowhere")
    assert offered("", "status", *there) == []


def test_logs_of_one_that_has_none(labctl: Labctl, tests: Tests) -> None:
    tests.create("smoke")
    result = labctl("logs", "smoke")
    assert (result.exit_code, "has no log: it is Pending: no operator has seen it yet" in result.output) == (
        65,
        True,
    ), result.output


def test_no_token_goes_where_a_status_says(labctl: Labctl, tests: Tests, monkeypatch: pytest.MonkeyPatch) -> None:
    tests.create("smoke")
    told(tests, "smoke", {"state": "Running", "runID": "r-1", "log": f"{LABD}/api/v1/runs/r-1/log"})
    monkeypatch.delenv("LABD_URL", raising=False)
    monkeypatch.setattr("labd.client.log_stream.ATTEMPTS", 1)
    away = labctl("logs", "smoke")
    assert (away.exit_code, LABD in away.output) == (69, True), away.output
    monkeypatch.setenv("LABD_TOKEN", "secret")
    result = labctl("logs", "smoke")
    assert (result.exit_code, f"LABD_URL={LABD}" in result.output) == (64, True), result.output


def test_a_cluster_without_the_definition(cluster: Cluster, server: Server, labctl: Labctl, script: str) -> None:
    uninstall(cluster)
    for arguments in (["status"], ["status", "smoke"], ["schedule", "--app", "a", "--script", script]):
        result = labctl(*arguments)
        assert result.exit_code == 65
        assert "labd operator --print-crd | kubectl apply -f -" in result.output


def test_a_cluster_that_is_away(cluster: Cluster, server: Server, labctl: Labctl) -> None:
    with server.away():
        result = labctl("status")
    assert (result.exit_code, "cannot be reached" in result.output) == (69, True), result.output


def test_who_may_not(cluster: Cluster, server: Server, labctl: Labctl, tests: Tests) -> None:
    with server.forbidden("list", "testruns"):
        result = labctl("status")
    assert (result.exit_code, "kubectl auth can-i" in result.output) == (65, True), result.output


def test_no_kubeconfig(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    result = CliRunner().invoke(main, ["test", "status"], prog_name="labctl")
    assert (result.exit_code, "name one with --kubeconfig" in result.output) == (65, True), result.output


@pytest.mark.parametrize(
    ("content", "context", "said"),
    [
        ("foo: [", None, "it is no YAML of the kind Config"),
        ("hello", None, "it is no YAML of the kind Config"),
        ("", None, "is empty"),
        (None, "nowhere", "has no context 'nowhere', but: "),
        ("http://127.0.0.1:9", None, "the API server at http://127.0.0.1:9 cannot be reached: Connection refused"),
    ],
)
def test_a_kubeconfig_that_does_not_do(
    cluster: Cluster, tmp_path: Path, content: str | None, context: str | None, said: str
) -> None:
    file, good = tmp_path / "config", cluster.kubeconfig.read_text()
    if content is not None and content.startswith("http"):
        good, content = re.sub(r"https?://[^\s\"',}]+", content, good), None
    file.write_text(good if content is None else content)
    options = ["--kubeconfig", str(file), *(["--context", context] if context else [])]
    result = CliRunner().invoke(main, ["test", "status", *options], prog_name="labctl")
    assert isinstance(result.exception, SystemExit), result.exception
    assert said in result.output


def test_something_else_that_answers(labctl: Labctl, cluster: Cluster, tmp_path: Path) -> None:
    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>Welcome</html>")

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        file = tmp_path / "config"
        file.write_text(re.sub(r"https?://[^\s\"',}]+", url, cluster.kubeconfig.read_text()))
        result = CliRunner().invoke(main, ["test", "status", "--kubeconfig", str(file)], prog_name="labctl")
        server.shutdown()
    assert (result.exit_code, "is no API server of Kubernetes: '<html>" in result.output) == (69, True), result.output


def test_all_of_it_is_called_kctrl_too() -> None:
    scripts = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts["kctrl"] == scripts["labctl"]
    shown = CliRunner().invoke(main, ["test", "--help"], prog_name="kctrl")
    assert "Usage: kctrl test" in shown.output
    completion = CliRunner().invoke(main, ["completion", "bash"], prog_name="kctrl")
    assert "_KCTRL_COMPLETE" in completion.output
