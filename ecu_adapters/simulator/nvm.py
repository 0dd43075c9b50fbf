"""Non-volatile memory of a simulated ECU on disk: what must outlive the process.

Every file is written whole and then renamed into its place: whoever is killed in between leaves the former one.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ecu_adapters.memory_map import MAX_BYTES

_STATE = "state.json"
_MAX_STATE = 16 << 20
"""Bytes of everything but memory regions."""


class NvmError(Exception):
    """The folder cannot be read or written, or what is in it is not what was written there."""


class NvmFolder:
    """One ECU's folder: a document, and a file for each memory region."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._written: dict[str, bytes] = {}

    def load(self) -> tuple[dict[str, Any] | None, dict[str, bytes]]:
        """The document and the regions by name; None and nothing at first. Blocks. Raises NvmError."""
        try:
            document = self._read(_STATE, _MAX_STATE)
            regions = {path.stem: self._read(path.name, MAX_BYTES) for path in sorted(self._folder.glob("*.bin"))}
        except OSError as error:
            raise NvmError(f"{self._folder}: {error.strerror}") from error
        if document is None:
            return None, {}
        try:
            state = json.loads(document)
        except ValueError as error:
            raise NvmError(f"{self._folder / _STATE}: not JSON: {error}") from error
        if not isinstance(state, dict):
            raise NvmError(f"{self._folder / _STATE}: not a JSON object")
        return state, {name: content for name, content in regions.items() if content is not None}

    def save(self, document: Mapping[str, Any], regions: Mapping[str, bytes]) -> None:
        """Writes what has changed since it was last written. Blocks. Raises NvmError."""
        files = {f"{name}.bin": content for name, content in regions.items()}
        files[_STATE] = json.dumps(document, sort_keys=True).encode()
        if len(files[_STATE]) > _MAX_STATE:
            raise NvmError(f"{self._folder}: {len(files[_STATE])} bytes are more than {_MAX_STATE}")
        for name, content in files.items():
            if self._written.get(name) == content:
                continue
            try:
                self._replace(name, content)
            except OSError as error:
                raise NvmError(f"{self._folder / name}: {error.strerror}") from error
            self._written[name] = content

    def _read(self, name: str, limit: int) -> bytes | None:
        path = self._folder / name
        if not path.exists():
            return None
        with path.open("rb") as file:
            content = file.read(limit + 1)
        if len(content) > limit:
            raise NvmError(f"{path}: larger than {limit} bytes")
        self._written[name] = content
        return content

    def _replace(self, name: str, content: bytes) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        new = self._folder / f"{name}.new"
        with new.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        new.replace(self._folder / name)
