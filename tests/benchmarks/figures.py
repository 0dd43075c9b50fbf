"""A measured figure beside its baseline, and what is asked of it."""

import json
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Figure:
    """Samples of one thing and of its baseline, taken in the same run, and the target for it.

    ``target`` bounds ``of``: the ratio of the medians (figure to baseline), or the median itself.
    """

    name: str
    unit: str
    samples: list[float]
    baseline_name: str
    baseline: list[float]
    of: Literal["ratio", "value"]
    sense: Literal["at most", "at least"]
    target: float

    @property
    def value(self) -> float:
        """The median (p50) of the samples."""
        return statistics.median(self.samples)

    @property
    def ratio(self) -> float:
        """The median as a multiple of the baseline's."""
        return self.value / statistics.median(self.baseline)

    @property
    def ok(self) -> bool:
        """Whether the target is met."""
        measured = self.ratio if self.of == "ratio" else self.value
        return measured <= self.target if self.sense == "at most" else measured >= self.target

    @property
    def asked(self) -> str:
        """The target in words."""
        return f"{self.sense} {self.target:g}{' ×' if self.of == 'ratio' else f' {self.unit}'}"

    def entry(self) -> dict[str, Any]:
        """The figure as it goes into build/bench.json."""
        return {
            "name": self.name,
            "value": self.value,
            "unit": self.unit,
            "baseline": statistics.median(self.baseline),
            "ratio": self.ratio,
            "target": self.asked,
            "ok": self.ok,
            "min": min(self.samples),
            "median": self.value,
            "max": max(self.samples),
            "samples": len(self.samples),
            "baseline_name": self.baseline_name,
            "baseline_min": min(self.baseline),
            "baseline_median": statistics.median(self.baseline),
            "baseline_max": max(self.baseline),
        }


def interleave(
    rounds: int, ours: Callable[[], Iterable[float]], baseline: Callable[[], Iterable[float]]
) -> tuple[list[float], list[float]]:
    """Samples of both, taken in turn, so that a machine whose speed drifts is fair to both."""
    mine: list[float] = []
    theirs: list[float] = []
    for _ in range(rounds):
        theirs.extend(baseline())
        mine.extend(ours())
    return mine, theirs


def report(figures: list[Figure], file: Path, console: Console) -> bool:
    """Prints the table, writes ``file``, and tells whether every figure met its target."""
    table = Table("figure", "min", "median", "max", "unit", "baseline", "ratio", "target", "")
    for figure in figures:
        entry = figure.entry()
        table.add_row(
            figure.name, *(f"{entry[key]:.4g}" for key in ("min", "median", "max")), figure.unit,
            f"{entry['baseline']:.4g} ({figure.baseline_name})", f"{figure.ratio:.2f}", figure.asked,
            "ok" if figure.ok else "MISSED",
        )  # fmt: skip
    console.print(table)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps([figure.entry() for figure in figures], indent=2) + "\n")
    return all(figure.ok for figure in figures)
