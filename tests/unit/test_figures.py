"""`make bench` keeps its promises: the entries' keys, and a target that is missed fails."""

import io
import json
from pathlib import Path
from typing import Literal

import pytest
from rich.console import Console

from tests.benchmarks.figures import Figure, report
from tests.benchmarks.publish import publish

Of = Literal["ratio", "value"]
Sense = Literal["at most", "at least"]


def figure(target: float, *, of: Of = "ratio", sense: Sense = "at most") -> Figure:
    return Figure("read", "ms", [1.0, 3.0, 2.0], "plain", [2.0, 1.0, 0.5], of, sense, target)


@pytest.mark.parametrize(
    ("of", "sense", "target", "ok"),
    [
        ("ratio", "at most", 2.0, True),
        ("ratio", "at most", 1.9, False),
        ("ratio", "at least", 2.0, True),
        ("ratio", "at least", 2.1, False),
        ("value", "at most", 2.0, True),
        ("value", "at most", 1.9, False),
    ],
)
def test_a_figure_knows_whether_it_meets_its_target(of: Of, sense: Sense, target: float, ok: bool) -> None:
    assert figure(target, of=of, sense=sense).ok is ok


def test_the_published_page_keeps_what_was_not_measured_again(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    publish(page, {"one": [figure(2.0)], "two": [figure(1.0)]}, ("one", "two"))
    before = page.read_text()
    assert before.count("| met |") == before.count("| **missed** |") == 1
    publish(page, {"two": [figure(3.0), figure(3.0)]}, ("one", "two"))
    after = page.read_text()
    assert after.count("| met |") == 3
    assert [line for line in before.splitlines() if "one -->" in line] == [
        line for line in after.splitlines() if "one -->" in line
    ]


def test_the_report_fails_when_one_entry_is_not_ok_and_keeps_all(tmp_path: Path) -> None:
    file, console = tmp_path / "build" / "bench.json", Console(file=io.StringIO())
    assert report([figure(2.0)], file, console)
    assert not report([figure(2.0), figure(1.0)], file, console)
    entries = json.loads(file.read_text())
    assert [entry["ok"] for entry in entries] == [True, False]
    assert {"name", "value", "unit", "baseline", "ratio", "target", "ok", "min", "median", "max"} <= entries[0].keys()
    assert (entries[0]["min"], entries[0]["median"], entries[0]["max"]) == (1.0, 2.0, 3.0)
    assert (entries[0]["baseline"], entries[0]["ratio"]) == (1.0, 2.0)
