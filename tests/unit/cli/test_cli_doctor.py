"""`labctl doctor`: findings with what to do about them, and an exit code for timers."""

import json

import pytest

from tests.unit.cli.conftest import Labctl
from tests.unit.client.fake_labd import FakeLabd

WELL = {"name": "disk", "state": "ok", "message": "75.0 GB (30%) free at /var/lib/labd", "remedy": ""}
AWAY = {"name": "agent rack-1", "state": "warning", "message": "is not attached", "remedy": "start bench-agent there"}
WRONG = {"name": "InfluxDB", "state": "error", "message": "HTTP 404", "remedy": "make the bucket"}


def _find(labd: FakeLabd, *checks: dict[str, str]) -> None:
    labd.canned["GET", "/doctor"] = (200, "application/json", json.dumps({"checks": checks}).encode())


@pytest.mark.parametrize(("checks", "code"), [([WELL], 0), ([WELL, AWAY], 0), ([WELL, AWAY, WRONG], 1)])
def test_an_error_ends_it_with_1_and_a_warning_does_not(
    labctl: Labctl, labd: FakeLabd, checks: list[dict[str, str]], code: int
) -> None:
    _find(labd, *checks)
    assert labctl("doctor").exit_code == code
    shown = labctl("doctor", "--output", "json")
    assert shown.exit_code == code
    assert json.loads(shown.stdout) == checks


def test_each_finding_says_what_to_do(labctl: Labctl, labd: FakeLabd) -> None:
    _find(labd, WRONG)
    heading, line = labctl("doctor").stdout.splitlines()
    assert heading.split() == ["STATE", "WHAT", "FOUND", "WHAT", "TO", "DO"]
    assert line.split() == ["error", "InfluxDB", "HTTP", "404", "make", "the", "bucket"]
