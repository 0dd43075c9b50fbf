"""The Lua reference names every diagnostic service with all its arguments."""

import re

import pytest

from ecu_adapters.uds.services import SERVICES
from tests.docs.pages import ROOT

_WAIT = {"wait_ms"}
"""What scripts call ``timeout``."""
ROWS = re.findall(r"^\| (`.*)$", (ROOT / "docs/reference/lua.md").read_text(), re.MULTILINE)


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_has_a_row_with_its_arguments(service: str) -> None:
    rows = [row for row in ROWS if f"`{service}`" in row.split(" | ")[0]]
    assert len(rows) == 1
    missing = [
        name for name in (*SERVICES[service].required, *SERVICES[service].optional) if f"`{name}`" not in rows[0]
    ]
    assert set(missing) <= _WAIT
