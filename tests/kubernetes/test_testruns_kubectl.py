"""TestRuns as a user of kubectl has them."""

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from labd.cli.main import main
from labd.operator.testrun import FINALIZER
from tests.kubernetes.cluster import Cluster, Server
from tests.kubernetes.operating import Labd, Operators, Tests
from tests.kubernetes.test_fake_kubectl import Failed, Kubectl, kubectl
from tests.kubernetes.test_operator import labd, operators, tests
from tests.unit.labd.fakes import attach, report

__all__ = ["kubectl", "labd", "operators", "tests"]
DOCS = Path(__file__).parents[2] / "docs"
SMOKE = """
apiVersion: labd.dev/v1alpha1
kind: TestRun
metadata: {name: smoke}
spec: {appName: ecm, script: print(1)}
"""


def table(text: str) -> list[list[str]]:
    return [re.split(r"\s{2,}", line.strip()) for line in text.splitlines()]


def events(kubectl: Kubectl, name: str = "smoke") -> list[tuple[str, str, str]]:
    """Type, reason and message of what `kubectl describe` tells at its end, but for its heading."""
    told = kubectl("describe", "tr", name).partition("Events:")[2]
    found = [re.split(r"\s{2,}", line.strip(), maxsplit=4) for line in told.splitlines()[3:]]
    return [(one[0], one[1], one[4]) for one in found]


def test_one_from_its_file_to_its_end(labd: Labd, tests: Tests, operators: Operators, kubectl: Kubectl) -> None:
    labd.free()
    operators.start()
    assert "testrun.labd.dev/smoke created" in kubectl("apply", "-f", "-", given=SMOKE)
    run_id = str(tests.reach("Running").run_id)
    heading, row = table(kubectl("get", "tr"))
    assert heading == ["NAME", "STATE", "RESULT", "DURATION", "BENCH", "AGE"]
    assert row[:2] == ["smoke", "Running"]

    labd.end(run_id, "failed")
    kubectl("wait", "--for=condition=Finished", "--timeout=60s", "tr/smoke")
    row = table(kubectl("get", "testruns.labd.dev", "smoke"))[1]
    assert (row[0], row[1], row[2], row[4]) == ("smoke", "Failed", "1 passed", "hil-3")
    assert events(kubectl) == [
        ("Normal", "Scheduled", f"labd has it as run {run_id}"),
        ("Normal", "Started", "it runs on hil-3"),
        ("Warning", "Failed", events(kubectl)[-1][2]),
    ]
    assert kubectl("delete", "tr", "smoke").startswith('testrun.labd.dev "smoke" deleted')
    assert labd.client.run(run_id)["state"] == "FAILED"


def test_one_that_is_deleted_while_it_runs(labd: Labd, tests: Tests, operators: Operators, kubectl: Kubectl) -> None:
    labd.free()
    operators.start()
    kubectl("create", "-f", "-", given=SMOKE)
    tests.reach("Running")
    kubectl("delete", "tr", "smoke", "--timeout=60s")  # which waits until it is gone
    assert [run["state"] for run in labd.runs()] == ["CANCELLED"]
    told = table(kubectl("get", "events", "-o", "custom-columns=R:.reason,M:.message", "--no-headers"))
    assert ["Cancelled", f"it was deleted: run {labd.runs()[0]['id']} is cancelled"] in told


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("print(1)", "print(2)", "the spec of a TestRun cannot be changed; create another TestRun"),
        ("script: print(1)", "priority: low", "expected exactly one of script and git"),
        ("script: print(1)", 'script: x, git: {url: "https://g.example.com/t.git", path: a.lua}', "exactly one of"),
        ("print(1)", "print(1), timeout: 0s", "expected a time above 0 and of at most 168h"),
        ("print(1)", "print(1), benches: [{count: 33}]", "spec.benches[0].count"),
        ("appName: ecm,", "", "spec.appName: Required value"),
        ("appName: ecm", "appName: ecm, scirpt: x", 'unknown field "spec.scirpt"'),
    ],
)
def test_what_the_cluster_does_not_take(
    cluster: Cluster, tests: Tests, kubectl: Kubectl, before: str, after: str, said: str
) -> None:
    cluster.needs(25, "a cluster that checks TestRuns by their rules")
    if after == "print(2)":
        kubectl("apply", "-f", "-", given=SMOKE)
    with pytest.raises(Failed, match=re.escape(said)):
        kubectl("apply", "-f", "-", given=SMOKE.replace(before, after))


def test_the_commands_of_the_how_to_page(
    cluster: Cluster,
    labd: Labd,
    tests: Tests,
    operators: Operators,
    kubectl: Kubectl,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Each of them, in their order, with the names that they are about here."""
    cluster.needs(25, "kubectl apply of the definition of TestRuns")
    page = (DOCS / "how-to/run-tests-from-the-cluster.md").read_text()
    manifest = page.partition("<!-- file: smoke.yaml -->\n```yaml\n")[2].partition("```")[0]
    commands = re.findall(r"^(?:\$ )?((?:labctl test|kubectl) (?:.*\\\n)*.*)$", page, re.MULTILINE)
    assert len(commands) == 9
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LABD_URL", labd.url)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    Path("identify.lua").write_text("print(1)")
    Path("smoke.yaml").write_text(manifest)
    Path("testruns.yaml").write_text((Path(__file__).parents[2] / "labd/operator/testruns.labd.dev.yaml").read_text())
    attach(labd.lab, report("hil-4", {"platform": "meb"}), agent="agent-2")  # a bench for each that ends in Passed
    operators.start()
    name = ""
    for command in commands:
        program, *words = shlex.split(command.replace("\\\n", "").replace("my-app-x7k2p", name))
        if program == "kubectl":
            said = kubectl(*words)
        else:
            where = ["--kubeconfig", str(tests.kubeconfig), "--namespace", tests.namespace]
            result = CliRunner().invoke(main, [*words, *where], prog_name="labctl")
            assert result.exit_code == 0, (command, result.output)
            said = result.stdout
        if "create" in words or "--script" in words:
            name = said.split()[0].rpartition("/")[2]
            found = tests.until(lambda test: test.run_id is not None, name)
            labd.free()
            labd.end(str(found.run_id))
    assert sorted(test.state for test in tests.all()) == ["Error", "Passed", "Passed"]  # no pods here: none from Git


def test_one_that_nobody_lets_go_is_freed_as_the_documentation_says(tests: Tests, kubectl: Kubectl) -> None:
    page = (DOCS / "reference/testrun.md").read_text()
    (line,) = [line for line in page.splitlines() if line.startswith("kubectl patch tr NAME")]
    kubectl("create", "-f", "-", given=SMOKE.replace("{name: smoke}", f"{{name: smoke, finalizers: [{FINALIZER}]}}"))
    kubectl("delete", "tr", "smoke", "--wait=false")
    assert tests.get() is not None
    kubectl(*shlex.split(line.replace("NAME", "smoke"))[1:])
    assert tests.get() is None


def test_two_of_one_name(tests: Tests, kubectl: Kubectl) -> None:
    kubectl("create", "-f", "-", given=SMOKE)
    with pytest.raises(Failed, match=r'testruns\.labd\.dev "smoke" already exists'):
        kubectl("create", "-f", "-", given=SMOKE)


def test_who_may_not_write_events_is_told_once_and_nothing_else_is_missing(
    server: Server, labd: Labd, tests: Tests, operators: Operators, capsys: pytest.CaptureFixture[str]
) -> None:
    labd.free()
    with server.forbidden("create", "events"):
        operators.start()
        tests.create()
        labd.end(str(tests.reach("Running").run_id))
        tests.reach("Passed")
    assert capsys.readouterr().out.count("it needs create of events") == 1
