"""The CI templates build every image with a pinned base, describe it, and look it through before it gets a tag.

They are not run here: that takes a container engine and a registry.
"""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.deploying.test_deploy_images import ROLES, stages

CI = Path(__file__).parents[3] / "deploy" / "ci"


def github() -> tuple[dict[str, Any], list[str]]:
    """The job, and the shell of its steps in their order."""
    [job] = yaml.safe_load((CI / "github.yaml").read_text())["jobs"].values()
    return job, [step["run"] for step in job["steps"] if "run" in step]


def gitlab() -> tuple[dict[str, Any], list[str]]:
    document = yaml.safe_load((CI / "gitlab.yaml").read_text())
    jobs = {name: one for name, one in document.items() if isinstance(one, dict) and "stage" in one}
    ordered = sorted(jobs.values(), key=lambda one: document["stages"].index(one["stage"]))
    return document, ["\n".join(one["script"]) for one in ordered]


def test_every_role_is_built() -> None:
    assert github()[0]["strategy"]["matrix"]["role"] == ROLES
    assert gitlab()[0][".role"]["parallel"]["matrix"] == [{"ROLE": ROLES}]
    assert set(ROLES) <= stages().keys()


@pytest.mark.parametrize("steps", [github()[1], gitlab()[1]], ids=["github", "gitlab"])
def test_an_image_gets_its_tag_when_it_has_been_described_and_looked_through(steps: list[str]) -> None:
    wanted = [
        "imagetools inspect",
        "--platform linux/amd64,linux/arm64",
        "--sbom=true",
        "spdx-json",
        "--fail-on high",
        "imagetools create",
    ]
    text = "\n".join(steps)
    places = [text.index(one) for one in wanted]
    assert places == sorted(places)
    assert "--build-arg" in text
    assert "PYTHON_IMAGE=" in text


@pytest.mark.parametrize("steps", [github()[1], gitlab()[1]], ids=["github", "gitlab"])
def test_the_shell_in_it_is_shell(steps: list[str]) -> None:
    for step in steps:
        subprocess.run(["bash", "-n"], input=step, text=True, check=True, timeout=10)


def tag_of(step: str, **variables: str) -> str:
    """What a step of the shell tags an image with, by a docker that says what it is asked for."""
    said = f'docker() {{ printf "%s\\n" "$@"; }}\n{step}'
    shell = ["bash", "-euc", said]
    done = subprocess.run(shell, env=variables, capture_output=True, text=True, check=True, timeout=10)
    words = done.stdout.splitlines()
    return words[words.index("--tag") + 1]


def test_a_release_gets_the_tag_that_the_chart_asks_for() -> None:
    tag = f"v{yaml.safe_load((CI.parent / 'helm/labd/Chart.yaml').read_text())['appVersion']}"
    given = {"REGISTRY": "r", "CI_REGISTRY_IMAGE": "r", "ROLE": "daemon", "GITHUB_SHA": "c", "CANDIDATE": "c"}
    assert tag_of(github()[1][-1], GITHUB_REF_NAME=tag, **given) == f"r/daemon:{tag[1:]}"
    assert tag_of(github()[1][-1], GITHUB_REF_NAME="main", **given) == "r/daemon:main"
    named = {"CI_COMMIT_TAG": tag, "CI_COMMIT_REF_SLUG": "v0-1-0"}
    assert tag_of(gitlab()[1][-1], **named, **given) == f"r/daemon:{tag[1:]}"
    assert tag_of(gitlab()[1][-1], CI_COMMIT_REF_SLUG="main", **given) == "r/daemon:main"


@pytest.mark.parametrize("steps", [github()[1], gitlab()[1]], ids=["github", "gitlab"])
def test_every_platform_that_is_built_is_described_and_looked_through(steps: list[str]) -> None:
    [build] = [step for step in steps if "--platform linux/" in step]
    platforms = build.partition("--platform ")[2].split()[0].replace("linux/", "").split(",")
    for wanted in ("spdx-json", "--fail-on"):
        [step] = [step for step in steps if wanted in step and "for arch in" in step]
        assert f"for arch in {' '.join(platforms)};" in step


def test_gitlab_jobs_need_jobs_that_there_are() -> None:
    document, _ = gitlab()
    for one in document.values():
        if isinstance(one, dict):
            assert set(one.get("needs", [])) <= document.keys()
            assert one.get("extends", ".role") in document
