"""The page of metrics says of every measurement what the catalogue says, and of nothing else."""

import re

import pytest

from labd.model.measurements import CATALOGUE, Measurement
from tests.docs.pages import ROOT

PAGE = (ROOT / "docs/reference/metrics.md").read_text("utf-8")
SECTIONS = dict(re.findall(r"^### `(\w+)`\n(.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL))


def test_the_page_has_every_measurement_and_no_other() -> None:
    assert list(SECTIONS) == list(CATALOGUE)


@pytest.mark.parametrize("name", CATALOGUE)
def test_a_measurement_is_described_as_it_is(name: str) -> None:
    assert SECTIONS.get(name, "").strip() == described(CATALOGUE[name])


def described(measurement: Measurement) -> str:
    """What stands below the measurement's heading."""
    lines = [f"{measurement.meaning} By {measurement.source}: {measurement.when}.", "", "| tag | meaning | values |"]
    lines.append("|---|---|---|")
    for tag in measurement.tags:
        if tag.values:
            values = ", ".join(f"`{value}`" for value in tag.values) if len(tag.values) <= 20 else _ends(tag.values)
        else:
            values = tag.bound
        lines.append(f"| `{tag.name}` | {tag.meaning} | {values} |")
    lines += ["", "| field | type | unit | meaning |", "|---|---|---|---|"]
    for field in measurement.fields:
        may_miss = " (may be absent)" if field.optional else ""
        lines.append(f"| `{field.name}` | {field.kind} | {field.unit} | {field.meaning}{may_miss} |")
    return "\n".join(lines)


def _ends(values: tuple[str, ...]) -> str:
    return f"`{values[0]}` .. `{values[-1]}`"
