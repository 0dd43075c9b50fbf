"""deploy/kind: the script's order, the chart's values and the TestRun. No cluster is made: that takes Docker."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml
from lupa import lua54  # type: ignore[import-untyped]

from bench_agent.server import config as agent_config
from tests.unit.deploying.chart import ROOT, helm, of_kind, pods

KIND = ROOT / "deploy" / "kind"
PROGRAMS = ("docker", "kind", "kubectl", "helm")


def up(folder: Path, *, without: str = "") -> "tuple[subprocess.CompletedProcess[str], list[list[str]]]":
    """Runs the script with programs that only note what they are asked for; there is no cluster yet, and no Secret."""
    notes = folder / "notes"
    notes.touch()
    programs = folder / "bin"
    programs.mkdir()
    for name in PROGRAMS:
        if name != without:
            program = programs / name
            program.write_text(
                f"#!/bin/bash\nprintf '%s\\x1f' {name} \"$@\" >> {notes}; echo >> {notes}\n"
                '[[ "$*" != *"get secret"* ]] || exit 1\n[[ "$*" != *"exec labd-0"* ]] || echo one-time-token\n'
                '[[ "$*" != *"/dev/stdin"* ]] || cat > "$(dirname "$0")/../token"\n'
            )
            program.chmod(0o755)
    for needed in ("bash", "cat", "dirname", "grep"):
        (programs / needed).symlink_to(str(shutil.which(needed)))
    done = subprocess.run(
        [programs / "bash", KIND / "up"],
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": str(programs)},
        timeout=60,
        check=False,
    )
    return done, [line.rstrip("\x1f").split("\x1f") for line in notes.read_text().splitlines()]


def test_it_goes_from_images_to_a_test_run_that_has_passed(tmp_path: Path) -> None:
    done, calls = up(tmp_path)
    assert done.returncode == 0, done.stderr
    text = [" ".join(call) for call in calls]
    wanted = [
        "--target daemon",
        "--target agent",
        "--target runner",
        "create cluster",
        "kind load docker-image",
        "testruns.labd.dev.yaml",
        "helm --kube-context kind-labd upgrade --install labd",
        "create secret generic labd-enrolment",
        "rollout status daemonset/labd-agent",
        "helm --kube-context kind-labd test",
        "deploy/kind/testrun.yaml",
        "{.status.state}=Passed",
    ]
    places = [next(number for number, call in enumerate(text) if one in call) for one in wanted]
    assert places == sorted(places)
    assert (tmp_path / "token").read_text() == "one-time-token\n"
    assert "one-time-token" not in "\n".join(text)


def test_what_is_missing_on_the_machine_is_named(tmp_path: Path) -> None:
    done, calls = up(tmp_path, without="kind")
    assert (done.returncode, calls) == (1, [])
    assert "there is no kind on this machine" in done.stderr


def test_the_chart_takes_what_the_script_gives_it(tmp_path: Path) -> None:
    _, calls = up(tmp_path)
    [given] = [call for call in calls if "upgrade" in call]
    release, chart = given[given.index("--install") + 1 :][:2]
    options = [
        str(ROOT / one) if one.startswith("deploy/") else one.replace("=d", f"={ROOT}/d")
        for one in given[given.index("--namespace") :]
    ]
    out = helm("template", release, str(ROOT / chart), *options)
    manifests: list[dict[str, Any]] = [one for one in yaml.safe_load_all(out) if one]

    files = of_kind(manifests, "ConfigMap", "labd-benches")["data"]
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    [node] = [one for one in files if one.startswith("labd-control-plane")]
    assert agent_config.check(tmp_path / node) == []

    agent = pods(manifests)["DaemonSet/labd-agent"]
    [cluster_node] = yaml.safe_load((KIND / "kind.yaml").read_text())["nodes"]
    assert agent["nodeSelector"].items() <= cluster_node["labels"].items()
    loaded = next(call for call in calls if "docker-image" in call)
    for spec in pods(manifests).values():
        assert all(one["image"] in loaded for one in spec["containers"])


def test_the_test_run_is_one_and_its_script_is_lua() -> None:
    crd = yaml.safe_load((ROOT / "labd/operator/testruns.labd.dev.yaml").read_text())
    test = yaml.safe_load((KIND / "testrun.yaml").read_text())
    [version] = crd["spec"]["versions"]
    jsonschema.validate(test, version["schema"]["openAPIV3Schema"])
    assert test["apiVersion"] == f"{crd['spec']['group']}/{version['name']}"
    lua54.LuaRuntime().compile(test["spec"]["script"])


def test_the_shell_has_no_known_fault() -> None:
    subprocess.run(["bash", "-n", KIND / "up"], check=True, timeout=10)
    checker = shutil.which("shellcheck")
    if checker is None:
        pytest.skip("there is no shellcheck")
    done = subprocess.run([checker, KIND / "up"], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == ""
