"""Questions to the store of the last day."""

import json
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from labd.telemetry.day import PACK_S, Cell, cell_of, column, merged

Tags = Mapping[str, str]
Value = float | str


class Aggregate(StrEnum):
    """What a step shows of the values in it."""

    MEAN = "mean"
    SUM = "sum"
    MIN = "min"
    MAX = "max"
    LAST = "last"
    COUNT = "count"


OF_TEXT = (Aggregate.LAST, Aggregate.COUNT)
"""What there is of a text."""


@dataclass(frozen=True, slots=True)
class Question:
    """One field of the series of a measurement, over a time."""

    measurement: str
    field: str
    tags: Tags
    """Only series that have these."""
    since: int
    """s since the Unix epoch, a multiple of the step."""
    until: int
    step_s: int
    """A multiple of the slot."""
    aggregate: Aggregate


@dataclass(frozen=True, slots=True)
class FoundSeries:
    """What there is of one series."""

    tags: Tags
    points: list[tuple[int, Value]]
    """The beginning of each step in which there is a value, and the value."""


def ask(path: Path, question: Question, limit: int, visible: Callable[[Tags], bool]) -> tuple[list[FoundSeries], bool]:
    """The first ``limit`` visible series that have values, and whether there may be more. Raises OSError."""
    found: list[FoundSeries] = []
    try:
        database = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        try:
            rows = database.execute(
                "SELECT id, tags FROM series WHERE measurement = ? ORDER BY tags", (question.measurement,)
            ).fetchall()
            for number, text in rows:
                tags = json.loads(text)
                if any(tags.get(name) != value for name, value in question.tags.items()) or not visible(tags):
                    continue
                if len(found) == limit:
                    return found, True
                if points := _points(database, number, question):
                    found.append(FoundSeries(tags, points))
        finally:
            database.close()
    except sqlite3.Error as error:
        raise OSError(f"{path}: {error}") from error
    return found, False


def _points(database: sqlite3.Connection, number: int, question: Question) -> list[tuple[int, Value]]:
    steps: dict[int, Cell] = {}
    for slot, cell in sorted(_cells(database, number, question), key=lambda pair: pair[0]):
        if question.since <= slot < question.until:
            step = slot // question.step_s * question.step_s
            one = {"": cell}
            steps[step] = merged({"": steps[step]}, one)[""] if step in steps else cell
    return [(step, _value(cell, question.aggregate)) for step, cell in steps.items()]


def _cells(database: sqlite3.Connection, number: int, question: Question) -> list[tuple[int, Cell]]:
    packs = database.execute(
        "SELECT data FROM packs WHERE series = ? AND start > ? AND start < ?",
        (number, question.since - PACK_S, question.until),
    )
    cells = [pair for (data,) in packs for pair in column(data, question.field)]
    rows = database.execute(
        "SELECT slot, fields FROM slots WHERE series = ? AND slot >= ? AND slot < ?",
        (number, question.since, question.until),
    )
    for slot, fields in rows:
        content = json.loads(fields).get(question.field)
        if content is not None:
            cells.append((slot, cell_of(content)))
    return cells


def _value(cell: Cell, aggregate: Aggregate) -> Value:
    if aggregate is Aggregate.COUNT:
        return float(cell[0])
    if aggregate is Aggregate.LAST or len(cell) == 2:
        value: Value = cell[-1]
        return value
    _, total, least, greatest, _ = cell
    values = {
        Aggregate.MEAN: total / cell[0],
        Aggregate.SUM: total,
        Aggregate.MIN: least,
        Aggregate.MAX: greatest,
    }
    return float(values[aggregate])
