"""The page of measured figures: docs/reference/performance.md."""

import os
import platform
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from tests.benchmarks.figures import Figure

PAGE = Path("docs/reference/performance.md")
_HEAD = """# Performance

What `make bench` measured. Every figure is taken in turn with its baseline in the same run, on a machine that was doing
nothing else (a virtual one still has neighbours); medians, with the smallest and largest sample in brackets. Absolute
figures say little of another machine, ratios more. `python -m tests.benchmarks --publish` measures again and writes the
page.

"""
_COLUMNS = "| figure | measured | baseline | ratio | asked | | measured on |\n|---|---|---|---|---|---|---|\n"


def publish(page: Path, measured: Mapping[str, Sequence[Figure]], order: Sequence[str]) -> None:
    """Writes the page anew: rows of the modules in ``measured``, and those that it had of the others in ``order``."""
    rows = _rows(page.read_text()) if page.exists() else {}
    where = machine()
    for name, figures in measured.items():
        rows[name] = [_row(figure, where) for figure in figures]
    table = [f"{row} <!-- {name} -->" for name in order for row in rows.get(name, [])]
    page.write_text(_HEAD + _COLUMNS + "\n".join(table) + "\n")


def machine() -> str:
    """Cores, processor, Python and date."""
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    processor = model[1].strip() if model else platform.machine()
    date = datetime.now(UTC).date()
    return f"{date}, {os.cpu_count()} cores of {processor}, Python {platform.python_version()}"


def _rows(text: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        row, _, mark = line.rpartition(" <!-- ")
        if row and mark.endswith(" -->"):
            found.setdefault(mark.removesuffix(" -->"), []).append(row)
    return found


def _row(figure: Figure, where: str) -> str:
    entry = figure.entry()
    measured = f"{entry['median']:.4g} ({entry['min']:.4g} to {entry['max']:.4g}) {figure.unit}"
    baseline = f"{entry['baseline']:.4g} {figure.unit}, {figure.baseline_name}"
    met = "met" if figure.ok else "**missed**"
    return f"| {figure.name} | {measured} | {baseline} | {figure.ratio:.2f} | {figure.asked} | {met} | {where} |"
