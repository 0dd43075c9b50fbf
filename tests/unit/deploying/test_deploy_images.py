"""What the images and the compose file start is something that the programs accept. No container engine is needed."""

import json
import re
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
PROGRAMS: dict[str, click.Command] = {"labd": labd, "bench-agent": bench_agent}


def stages() -> dict[str, dict[str, list[str]]]:
    """Per stage of the Dockerfile: its ENTRYPOINT and CMD."""
    found: dict[str, dict[str, list[str]]] = {}
    stage = ""
    for line in (DEPLOY / "Dockerfile").read_text().splitlines():
        if match := re.match(r"FROM \S+ AS (\S+)", line):
            stage = match[1]
            found[stage] = {}
        elif match := re.match(r"(ENTRYPOINT|CMD) (\[.*\])", line):
            found[stage][match[1]] = json.loads(match[2])
    return found


@pytest.mark.parametrize("role", ["daemon", "agent"])
def test_the_images_start_what_the_programs_accept(role: str) -> None:
    stage = stages()[role]
    parse(PROGRAMS[stage["ENTRYPOINT"][0]], stage["CMD"])


def test_there_is_an_image_for_every_role() -> None:
    assert {"daemon", "agent", "runner"} <= stages().keys()
    assert stages()["runner"]["ENTRYPOINT"] == ["python", "-m", "scenarios"]


def test_the_compose_file_starts_what_the_programs_accept() -> None:
    services: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    for service in services.values():
        stage = stages()[service["build"]["target"]]
        parse(PROGRAMS[stage["ENTRYPOINT"][0]], service.get("command", stage["CMD"]))
        assert (DEPLOY / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            assert not source.startswith(".") or (DEPLOY / source).exists()


def test_the_images_contain_every_package() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    packages = [path.parent.name for path in ROOT.glob("*/__init__.py")]
    assert len(packages) >= 4
    assert [package for package in packages if f"COPY {package} {package}\n" not in text] == []
