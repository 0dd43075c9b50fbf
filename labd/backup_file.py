"""The file of a backup: a zip archive of tables as JSON lines, which any database of labd can take in.

``manifest.json`` has the SHA-256 of every other member, the version of the schema, and the number of rows of each
table. Keys, if there are any, are sealed with a passphrase. Standard library only: ``labctl backup verify`` needs no
labd.
"""

import hashlib
import json
import zipfile
import zlib
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import IO, Any, Self

FORMAT = 1
MANIFEST = "manifest.json"
KEYS = "keys.sealed"
_BINARY = "$base64"
_CHUNK = 1024 * 1024


class BackupDamaged(Exception):
    """The file is no backup, or not what was written; the message names what is wrong."""


class BackupWriter:
    """Writes one backup; `finish` makes it whole."""

    def __init__(self, file: IO[bytes]) -> None:
        self._zip = zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=6)
        self._sums: dict[str, str] = {}
        self._rows: dict[str, int] = {}

    def add_table(self, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Rows of JSON values and bytes."""
        count = 0

        def lines() -> Iterator[bytes]:
            nonlocal count
            for row in rows:
                count += 1
                values = {key: _packed(value) for key, value in row.items()}
                yield json.dumps(values, ensure_ascii=True, separators=(",", ":")).encode("ascii") + b"\n"

        self._add(_member(name), lines())
        self._rows[name] = count

    def add_keys(self, sealed: bytes) -> None:
        """Keys, sealed."""
        self._add(KEYS, [sealed])

    def finish(self, about: Mapping[str, Any]) -> None:
        """Writes the manifest, with what is to be known of the backup."""
        manifest = {"format": FORMAT, **about, "rows": self._rows, "sha256": self._sums}
        self._zip.writestr(MANIFEST, json.dumps(manifest, indent=2).encode("utf-8"))
        self._zip.close()

    def _add(self, name: str, chunks: Iterable[bytes]) -> None:
        digest = hashlib.sha256()
        with self._zip.open(name, "w", force_zip64=True) as member:
            for chunk in chunks:
                digest.update(chunk)
                member.write(chunk)
        self._sums[name] = digest.hexdigest()


class BackupFile:
    """A backup to be read."""

    def __init__(self, path: Path) -> None:
        """Raises BackupDamaged, and OSError when the file cannot be read."""
        self._path = path
        try:
            self._zip = zipfile.ZipFile(path)
        except zipfile.BadZipFile as error:
            raise BackupDamaged(f"{path} is no backup of labd, or was cut off: {error}") from error
        try:
            self.manifest: dict[str, Any] = json.loads(self._zip.read(MANIFEST))
            self._sums: dict[str, str] = dict(self.manifest["sha256"])
            self.rows_of: dict[str, int] = dict(self.manifest["rows"])
            self.schema = str(self.manifest["schema"])
            self.created_at = float(self.manifest["created_at"])
            version = self.manifest["format"]
        except (KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
            self._zip.close()
            raise BackupDamaged(f"{path} is no backup of labd: its {MANIFEST} is missing or damaged") from error
        if version != FORMAT:
            self._zip.close()
            raise BackupDamaged(f"{path} has the format {version!r}; this labd reads {FORMAT}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    def verify(self) -> int:
        """Reads all of it; returns the number of rows. Raises BackupDamaged, naming what is wrong."""
        names = [name for name in self._zip.namelist() if name != MANIFEST]
        strange = sorted(set(names) ^ set(self._sums)) or [name for name in names if names.count(name) > 1]
        if strange:
            raise BackupDamaged(f"{self._path}: {strange[0]} is missing, or there without the manifest")
        for name, expected in self._sums.items():
            digest, lines = hashlib.sha256(), 0
            for chunk in self._chunks(name):
                digest.update(chunk)
                lines += chunk.count(b"\n")
            if digest.hexdigest() != expected:
                raise BackupDamaged(f"{self._path}: {name} was altered: its SHA-256 is not that of the manifest")
            if name != KEYS and lines != self.rows_of.get(Path(name).stem):
                raise BackupDamaged(f"{self._path}: {name} has {lines} rows, not as many as the manifest says")
        return sum(self.rows_of.values())

    def rows(self, table: str) -> Iterator[dict[str, Any]]:
        """The rows of a table."""
        with closing(self._zip.open(_member(table))) as member:
            for line in member:
                yield {key: _unpacked(value) for key, value in json.loads(line).items()}

    @property
    def has_keys(self) -> bool:
        """Whether labd's keys are sealed in it."""
        return KEYS in self._sums

    @property
    def keys(self) -> bytes | None:
        """The sealed keys, if there are any."""
        return self._zip.read(KEYS) if self.has_keys else None

    def _chunks(self, name: str) -> Iterator[bytes]:
        try:
            with self._zip.open(name) as member:
                while chunk := member.read(_CHUNK):
                    yield chunk
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError) as error:
            raise BackupDamaged(f"{self._path}: {name} is damaged: {error}") from error


def _member(table: str) -> str:
    return f"tables/{table}.jsonl"


def _packed(value: Any) -> Any:
    return {_BINARY: b64encode(bytes(value)).decode("ascii")} if isinstance(value, bytes | memoryview) else value


def _unpacked(value: Any) -> Any:
    return b64decode(value[_BINARY]) if isinstance(value, dict) and value.keys() == {_BINARY} else value
