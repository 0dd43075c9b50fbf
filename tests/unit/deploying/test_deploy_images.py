"""What the images and the compose files start is something that the programs accept. No container engine is needed."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from bench_agent.main import main as bench_agent
from labd.daemon import main as labd
from tests.unit.deploying.programs import parse

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "deploy"
DOCKERFILE = DEPLOY / "Dockerfile"
COMPOSE = [DEPLOY / "compose.yaml", DEPLOY / "demo" / "compose.yaml"]
PROGRAMS: dict[str, click.Command] = {"labd": labd, "bench-agent": bench_agent}
ROLES = ["daemon", "agent", "runner"]


def instructions() -> list[tuple[str, str]]:
    """Of the Dockerfile, with continued lines joined."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE).replace("\\\n", "")
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in text.splitlines() if line)]


def stages() -> dict[str, dict[str, list[str]]]:
    """Per stage: what its instructions say, each time, with that of the stages that it is made from."""
    found: dict[str, dict[str, list[str]]] = {}
    stage: dict[str, list[str]] = {}
    for word, rest in instructions():
        if match := re.fullmatch(r"(\S+) AS (\S+)", rest) if word == "FROM" else None:
            stage = {key: list(values) for key, values in found.get(match[1], {"FROM": [match[1]]}).items()}
            found[match[2]] = stage
        else:
            stage.setdefault(word, []).append(rest)
    return found


def command(stage: dict[str, list[str]], word: str) -> list[str]:
    """The last one of that word, in the form of a list."""
    text = stage[word][-1]
    parsed: list[str] = json.loads(text[text.index("[") :])
    return parsed


def fill(text: str) -> str:
    """With the variables of compose.env.example set."""
    return re.sub(r"\$\{(\w+)(?::[-?][^}]*)?\}", lambda match: f"some-{match[1].lower().replace('_', '-')}", text)


@pytest.mark.parametrize("role", ["daemon", "agent"])
def test_the_images_start_what_the_programs_accept(role: str) -> None:
    stage = stages()[role]
    parse(PROGRAMS[command(stage, "ENTRYPOINT")[0]], command(stage, "CMD"))


def test_there_is_an_image_for_every_role() -> None:
    assert set(ROLES) <= stages().keys()
    assert command(stages()["runner"], "ENTRYPOINT") == ["python", "-P", "-m", "scenarios"]


@pytest.mark.parametrize("role", ROLES)
def test_nobody_in_an_image_is_root(role: str) -> None:
    assert stages()[role]["USER"][-1] == "10001:10001"


@pytest.mark.parametrize("role", ROLES)
def test_every_image_says_how_its_health_is_asked_for(role: str) -> None:
    asked = command(stages()[role], "HEALTHCHECK")
    assert asked[:2] == ["python", "-P"]
    if asked[2] == "-c":
        compile(asked[-1], "HEALTHCHECK", "exec")
    else:
        assert asked[2] == "-m"
        assert (ROOT / f"{asked[3].replace('.', '/')}.py").is_file()


def test_the_health_of_an_agent_is_asked_for_where_its_data_is() -> None:
    stage = stages()["agent"]
    given = command(stage, "CMD")
    assert command(stage, "HEALTHCHECK")[-1] == given[given.index("--data") + 1] == stage["VOLUME"][-1]


@pytest.mark.parametrize("role", ROLES)
def test_the_base_can_be_pinned_by_its_digest(role: str) -> None:
    assert stages()[role]["FROM"] == ["${PYTHON_IMAGE}"]
    assert instructions()[0] == ("ARG", "PYTHON_IMAGE=python:3.12-slim-bookworm")


def test_images_and_chart_are_of_this_release() -> None:
    release = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert ("ARG", f"VERSION={release}") in instructions()
    assert yaml.safe_load((DEPLOY / "helm/labd/Chart.yaml").read_text())["appVersion"] == release


def test_the_runner_can_fetch_from_git() -> None:
    assert any(" git " in f"{one} " for one in stages()["runner"]["RUN"])
    assert any(" iproute2 " in f"{one} " for one in stages()["agent"]["RUN"])


def test_the_images_contain_every_package() -> None:
    text = DOCKERFILE.read_text()
    packages = [path.parent.name for path in ROOT.glob("*/__init__.py")]
    assert len(packages) >= 4
    assert [package for package in packages if f"COPY {package} {package}\n" not in text] == []


@pytest.mark.parametrize("path", COMPOSE, ids=lambda path: str(path.relative_to(DEPLOY)))
def test_the_compose_file_starts_what_the_programs_accept(path: Path) -> None:
    services: dict[str, Any] = yaml.safe_load(path.read_text())["services"]
    built = [service for service in services.values() if "build" in service]
    assert len(built) == 2
    for service in built:
        stage = stages()[service["build"]["target"]]
        given = [fill(word) for word in service.get("command", command(stage, "CMD"))]
        # The file is in the container only.
        given = [
            word
            for option, word in zip(["", *given], given, strict=False)
            if "--influx-token-file" not in (option, word)
        ]
        parse(PROGRAMS[command(stage, "ENTRYPOINT")[0]], given)
        assert (path.parent / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
        # The images know how it is asked for.
        assert "healthcheck" not in service


@pytest.mark.parametrize("path", COMPOSE, ids=lambda path: str(path.relative_to(DEPLOY)))
def test_what_the_compose_file_mounts_is_there(path: Path) -> None:
    document = yaml.safe_load(path.read_text())
    for service in document["services"].values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (path.parent / source).exists(), source
            elif not source.startswith("$"):
                assert source in document["volumes"]


def test_the_lab_of_the_compose_file_is_secure() -> None:
    text = (DEPLOY / "compose.yaml").read_text()
    assert "insecure" not in text.lower()
    document = yaml.safe_load(text)
    published = {name: one.get("ports", []) for name, one in document["services"].items()}
    assert published == {
        "labd": ["8470:8470", "8471:8471"],
        "agent": [],
        "postgresql": [],
        "influxdb": [],
        "grafana": ["127.0.0.1:3000:3000"],
    }


def test_passwords_come_from_a_file_that_nobody_commits() -> None:
    text = (DEPLOY / "compose.yaml").read_text()
    used = set(re.findall(r"\$\{(\w+)", text))
    example = dict(re.findall(r"^(\w+)=(.*)$", (DEPLOY / "compose.env.example").read_text(), flags=re.MULTILINE))
    assert used == example.keys()
    assert [name for name, value in example.items() if value and re.search("PASSWORD|TOKEN", name)] == []
    for ignored in (".gitignore", ".dockerignore"):
        assert {"deploy/.env", "deploy/secrets/"} <= set((ROOT / ignored).read_text().splitlines())


def test_secrets_are_files_which_containers_that_are_read_only_can_have() -> None:
    document = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    assert all(one.keys() == {"file"} and one["file"].startswith("./secrets/") for one in document["secrets"].values())
    takers = [name for name, one in document["services"].items() if "influx_token" in one.get("secrets", [])]
    assert takers == ["labd", "influxdb", "grafana"]
    assert [name for name, one in document["services"].items() if one.get("read_only")] == ["labd", "agent"]
