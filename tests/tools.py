"""helm, kubectl and the checker of Flux, as `make tools` puts them into build/tools."""

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import pytest

from deploy import tools


def tool(name: str) -> Path:
    """The program `helm` or `kubectl`. Skips the test where it could not be had, but fails it in CI."""
    if not tools.present():
        missing(name)
    return tools.FOLDER / name


def flux_takes(scripts: Sequence[str]) -> list[bool]:
    """For each script, whether InfluxDB's own parser and type checker take it. Skips or fails as `tool` does."""
    node = shutil.which("node")
    if node is None or not tools.flux_present():
        missing("checker of Flux")
    command = [node, str(tools.FOLDER / "flux" / "check.js")]
    done = subprocess.run(command, input=json.dumps(scripts), capture_output=True, text=True, check=True, timeout=60)
    answer: list[bool] = json.loads(done.stdout)
    return answer


def missing(name: str) -> NoReturn:
    """Ends the test that needs it."""
    reason = f"there is no {name}: make tools"
    if os.environ.get("LABD_REQUIRE_TOOLS"):
        pytest.fail(reason)
    pytest.skip(reason)
