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

_TAIL = """

**Runs** (`run_start`) are submitted, executed by the executor `process` and followed to their verdict through the
REST API; their script does nothing. "20 runs at once" takes 20 benches of one agent, and as many threads that ask,
beside labd, agent and runners on the same cores. The baseline is how many bare Python processes a second import what
a runner needs, two at a time. From its second run on labd forks runners (see [decision
32](../decisions/0032-runners-are-forked-by-a-nursery.md)).

**Pods** (`pods_in_flight`) are runs of the executor `kubernetes` on the tests' fake API server. No kubelet and no
container is measured: each pod is a thread of the benchmark's, which reports its status through the API as a node
does, proves to labd which pod it is, heartbeats its lease, and, when all are in flight, hands over its result at the
same moment as all others. "labd's slowest answer" is that to another process, which asks for the version, benches and
runs all the time.

**Points** (`points_spool`) go through labd's spool into VictoriaMetrics by the write API of InfluxDB 2, and are
counted there.
"""


def publish(page: Path, measured: Mapping[str, Sequence[Figure]], order: Sequence[str]) -> None:
    """Writes the page anew: rows of the modules in ``measured``, and those that it had of the others in ``order``."""
    rows = _rows(page.read_text()) if page.exists() else {}
    where = machine()
    for name, figures in measured.items():
        rows[name] = [_row(figure, where) for figure in figures]
    table = [f"{row} <!-- {name} -->" for name in order for row in rows.get(name, [])]
    page.write_text(_HEAD + _COLUMNS + "\n".join(table) + "\n" + _TAIL)


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
