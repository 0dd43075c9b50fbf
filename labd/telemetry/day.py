"""The last day of every series, in an SQLite file of its own, by slots of 10 s.

A slot keeps of each field how many values there were, their sum, the least, the greatest and the last one, so that
every coarser step is exact. Slots of the last minutes are rows; older ones of a series are packed together, 10 minutes
in a row, which takes about a tenth of the room.
"""

import contextlib
import json
import sqlite3
import threading
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import structlog

from labd.model.measurements import CATALOGUE
from labd.telemetry.admission import Admitted, Series

SLOT_S = 10
KEEP_S = 86_400
AHEAD_S = 600
"""So far ahead of labd's clock a point may be."""
PACK_S = 600
"""So many seconds are packed together."""
BYTES_MAX = 512 * 2**20
"""Of the file: beyond it, the oldest goes before its day is over."""
_PACK_SERIES = 200
"""At most so many series are packed at once, as others wait meanwhile."""
_LATE_S = 60
"""So long after their end, slots are packed."""
_MARK_S = 30 * 86_400
"""A mark that nobody has set anew for so long is forgotten."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS series (
    id INTEGER PRIMARY KEY, measurement TEXT NOT NULL, tags TEXT NOT NULL, UNIQUE (measurement, tags)
);
CREATE TABLE IF NOT EXISTS slots (
    series INTEGER NOT NULL, slot INTEGER NOT NULL, fields TEXT NOT NULL, PRIMARY KEY (series, slot)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS slots_by_time ON slots (slot);
CREATE TABLE IF NOT EXISTS packs (
    series INTEGER NOT NULL, start INTEGER NOT NULL, data BLOB NOT NULL, PRIMARY KEY (series, start)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS packs_by_time ON packs (start);
CREATE TABLE IF NOT EXISTS marks (name TEXT PRIMARY KEY, mark TEXT NOT NULL, at INTEGER NOT NULL) WITHOUT ROWID;
"""
_FORM = 1
"""Of the file; one of another form is begun anew."""
Cell = list[Any]
"""Of one field in a slot: count, sum, least, greatest, last. A text has count and last only."""

_log = structlog.get_logger()


class Day:
    """Taken and flushed by one thread, asked by any."""

    def __init__(self, path: Path, *, bytes_max: int = BYTES_MAX) -> None:
        """Raises OSError if the file cannot be used. A damaged one is begun anew: it holds figures of a day."""
        self.path = path
        self._bytes_max = bytes_max
        self._ids: dict[Series, int] = {}
        self._open: dict[tuple[Series, int], dict[str, Cell]] = {}
        self._marks: dict[str, str] = {}
        """Not in the file yet."""
        self._packed_until = 0
        self._to_pack: list[int] = []
        self.outside = 0
        """Points that were older than a day, or of the future."""
        self._lock = threading.Lock()
        try:
            self._database = _opened(path)
        except sqlite3.DatabaseError as error:
            _log.warning("the figures of the last day cannot be read; they begin anew", error=str(error))
            _remove(path)
            try:
                self._database = _opened(path)
            except sqlite3.DatabaseError as fault:
                raise OSError(f"{path}: {fault}") from fault

    def take(self, admitted: Iterable[Admitted], now: float) -> None:
        """Adds points to their slots, in memory; those of another day, or of the future, are not kept here."""
        for one in admitted:
            if not now - KEEP_S < one.point.time < now + AHEAD_S:
                self.outside += 1
                continue
            slot = one.time_ns // (SLOT_S * 1_000_000_000) * SLOT_S
            cells = self._open.setdefault((one.series, slot), {})
            for name, content in one.point.fields.items():
                if content is not None:
                    add(cells, name, content)

    def mark(self, name: str, mark: str) -> None:
        """Notes something in memory, which comes to the file together with what was taken before."""
        self._marks[name] = mark

    def marked(self, name: str) -> str | None:
        """What the file has under the name. Raises OSError."""
        try:
            with self._lock:
                row = self._database.execute("SELECT mark FROM marks WHERE name = ?", (name,)).fetchone()
        except sqlite3.Error as error:
            raise OSError(f"{self.path}: {error}") from error
        return None if row is None else str(row[0])

    def flush(self, now: float) -> None:
        """Brings slots and marks to the file, and at times packs and removes what is old. Raises OSError."""
        slots, self._open = self._open, {}
        try:
            with self._lock, self._database:
                for (series, slot), cells in slots.items():
                    self._put(self._identifier(series), slot, cells)
                marks = [(name, mark, int(now)) for name, mark in self._marks.items()]
                self._database.executemany("INSERT OR REPLACE INTO marks (name, mark, at) VALUES (?, ?, ?)", marks)
                self._pack(now)
            self._marks.clear()
        except sqlite3.Error as error:
            self._ids.clear()
            raise OSError(f"{self.path}: {error}") from error

    def close(self) -> None:
        """What was not flushed is lost."""
        with self._lock:
            self._database.close()

    def _identifier(self, series: Series) -> int:
        if (known := self._ids.get(series)) is not None:
            return known
        names = [tag.name for tag in CATALOGUE[series[0]].tags]
        tags = json.dumps(dict(zip(names, series[1:], strict=True)))
        self._database.execute("INSERT OR IGNORE INTO series (measurement, tags) VALUES (?, ?)", (series[0], tags))
        found = self._database.execute("SELECT id FROM series WHERE measurement = ? AND tags = ?", (series[0], tags))
        number: int = found.fetchone()[0]
        self._ids[series] = number
        return number

    def _put(self, number: int, slot: int, cells: dict[str, Cell]) -> None:
        row = self._database.execute(
            "SELECT fields FROM slots WHERE series = ? AND slot = ?", (number, slot)
        ).fetchone()
        if row is not None:
            cells = merged(long(json.loads(row[0])), cells)
        text = json.dumps(short(cells), separators=(",", ":"))
        self._database.execute(
            "INSERT OR REPLACE INTO slots (series, slot, fields) VALUES (?, ?, ?)", (number, slot, text)
        )

    def _pack(self, now: float) -> None:
        """Packs what ended a while ago, some series at a time, and removes what is older than a day, or too much."""
        execute = self._database.execute
        until = int(now - _LATE_S) // PACK_S * PACK_S
        if until != self._packed_until and not self._to_pack:
            self._packed_until = until
            execute("DELETE FROM slots WHERE slot < ?", (int(now) - KEEP_S,))
            execute("DELETE FROM packs WHERE start < ?", (int(now) - KEEP_S - PACK_S,))
            execute("DELETE FROM marks WHERE at < ?", (int(now) - _MARK_S,))
            while self._bytes() > self._bytes_max:
                first = execute("SELECT min(start) FROM packs").fetchone()[0]
                if first is None:
                    break
                execute("DELETE FROM packs WHERE start = ?", (first,))
            live = "SELECT series FROM packs UNION SELECT series FROM slots"
            execute(f"DELETE FROM series WHERE id NOT IN ({live})")  # noqa: S608 - no words of others
            self._ids.clear()
            self._to_pack = [row[0] for row in execute("SELECT DISTINCT series FROM slots WHERE slot < ?", (until,))]
        for number in self._to_pack[:_PACK_SERIES]:
            self._pack_series(number, self._packed_until)
        del self._to_pack[:_PACK_SERIES]

    def _pack_series(self, number: int, until: int) -> None:
        execute = self._database.execute
        packs: dict[int, dict[int, dict[str, Cell]]] = {}
        rows = execute("SELECT slot, fields FROM slots WHERE series = ? AND slot < ?", (number, until))
        for slot, fields in rows:
            packs.setdefault(slot // PACK_S * PACK_S, {})[slot] = long(json.loads(fields))
        for start, slots in packs.items():
            row = execute("SELECT data FROM packs WHERE series = ? AND start = ?", (number, start)).fetchone()
            for slot, cells in ({} if row is None else unpacked(row[0])).items():
                slots[slot] = merged(cells, slots[slot]) if slot in slots else cells
            together = (number, start, packed(slots))
            execute("INSERT OR REPLACE INTO packs (series, start, data) VALUES (?, ?, ?)", together)
        execute("DELETE FROM slots WHERE series = ? AND slot < ?", (number, until))

    def _bytes(self) -> int:
        pages, free, size = (
            self._database.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_count", "freelist_count", "page_size")
        )
        return int((pages - free) * size)


def add(cells: dict[str, Cell], name: str, content: float | bool | str) -> None:
    """One more value of a field."""
    cell = cells.get(name)
    if isinstance(content, str):
        cells[name] = [1 if cell is None else cell[0] + 1, content]
    elif cell is None:
        number = float(content)
        cells[name] = [1, number, number, number, number]
    else:
        number = float(content)
        cells[name] = [cell[0] + 1, cell[1] + number, min(cell[2], number), max(cell[3], number), number]


def merged(first: dict[str, Cell], second: dict[str, Cell]) -> dict[str, Cell]:
    """Both together; the second is the later one."""
    together = dict(first)
    for name, cell in second.items():
        former = first.get(name)
        if former is None or len(former) != len(cell):
            together[name] = cell
        elif len(cell) == 2:
            together[name] = [former[0] + cell[0], cell[1]]
        else:
            low, high = min(former[2], cell[2]), max(former[3], cell[3])
            together[name] = [former[0] + cell[0], former[1] + cell[1], low, high, cell[4]]
    return together


def short(cells: dict[str, Cell]) -> dict[str, Any]:
    """For JSON: of a field with one value just that."""
    return {name: cell[-1] if cell[0] == 1 else cell for name, cell in cells.items()}


def long(fields: dict[str, Any]) -> dict[str, Cell]:
    """The opposite of ``short``."""
    return {name: cell_of(content) for name, content in fields.items()}


def cell_of(content: Any) -> Cell:
    """A cell from its short form."""
    if isinstance(content, list):
        return content
    return [1, content] if isinstance(content, str) else [1, content, content, content, content]


def packed(slots: dict[int, dict[str, Cell]]) -> bytes:
    """Cells by slot: as columns, which are compressed well and read one by one."""
    rows = [short(slots[slot]) for slot in sorted(slots)]
    names = sorted({name for row in rows for name in row})
    columns = {name: [row.get(name) for row in rows] for name in names}
    return zlib.compress(json.dumps([sorted(slots), columns], separators=(",", ":")).encode())


def unpacked(data: bytes) -> dict[int, dict[str, Cell]]:
    """The opposite of ``packed``."""
    slots, columns = json.loads(zlib.decompress(data))
    return {
        slot: {name: cell_of(column[index]) for name, column in columns.items() if column[index] is not None}
        for index, slot in enumerate(slots)
    }


def column(data: bytes, field: str) -> list[tuple[int, Cell]]:
    """Of what was packed, the cells of one field by slot."""
    slots, columns = json.loads(zlib.decompress(data))
    pairs = zip(slots, columns.get(field, ()), strict=False)
    return [(slot, cell_of(content)) for slot, content in pairs if content is not None]


def _opened(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, check_same_thread=False)
    try:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        form = database.execute("PRAGMA user_version").fetchone()[0]
        if form not in (0, _FORM):
            raise sqlite3.DatabaseError(f"it is of form {form}, not {_FORM}")
        database.executescript(_SCHEMA)
        database.execute(f"PRAGMA user_version = {_FORM}")
    except BaseException:
        database.close()
        raise
    return database


def _remove(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + suffix).unlink()
