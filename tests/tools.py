"""helm and kubectl, as `make tools` puts them into build/tools."""

import os
from pathlib import Path

import pytest

from deploy import tools


def tool(name: str) -> Path:
    """The program `helm` or `kubectl`. Skips the test where it could not be had, but fails it in CI."""
    if tools.present():
        return tools.FOLDER / name
    reason = f"there is no {name}: make tools"
    if os.environ.get("LABD_REQUIRE_TOOLS"):
        pytest.fail(reason)
    pytest.skip(reason)
