"""Frames of log files: BLF, ASC and candump. What is damaged is told with file and place."""

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TextIO

from bench_agent.client.errors import BenchError
from bench_agent.protocol import candump, frames
from bench_agent.protocol.candump import LoggedFrame
from bench_agent.protocol.frames import Frame

if TYPE_CHECKING:
    import can

_OBJECT_HEADER = 16
_PADDING = 3


class LogError(BenchError):
    """A log cannot be read; names the file and the line or byte."""


def read_log(path: Path) -> Iterator[LoggedFrame]:
    """The frames of a .blf, .asc or .log file in its order, error frames left out.

    Raises LogError where the file is damaged or is none of these, and OSError.
    """
    readers = {".blf": _blf, ".asc": _asc, ".log": _candump}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise LogError(f"{path}: its suffix means no log that can be replayed; it must be one of {', '.join(readers)}")
    empty = True
    for logged in reader(path):
        empty = False
        if not logged.frame.can_id & frames.ERROR:
            yield logged
    if empty:
        raise LogError(f"{path}: there is no frame in it")


def _candump(path: Path) -> Iterator[LoggedFrame]:
    with path.open(encoding="utf-8", errors="backslashreplace") as file:
        for number, text in enumerate(file, 1):
            if text.strip():
                try:
                    yield candump.parse(text.rstrip("\n"))
                except ValueError as error:
                    raise LogError(f"{path}:{number}: {error}") from None


def _asc(path: Path) -> Iterator[LoggedFrame]:
    import can

    with path.open(encoding="utf-8", errors="backslashreplace") as file:
        counted = _CountedLines(file)
        try:
            for message in can.ASCReader(counted):  # type: ignore[arg-type]  # it only iterates and closes
                yield _logged(message)
        except (ValueError, IndexError, KeyError) as error:
            raise LogError(f"{path}:{counted.number}: no line of an ASC log: {error}") from error


def _blf(path: Path) -> Iterator[LoggedFrame]:
    import can
    from can.io.blf import BLFParseError

    with path.open("rb") as file:
        whole = _WholeReads(file, path)
        try:
            reader = can.BLFReader(whole)  # type: ignore[arg-type]  # it only reads and closes
            if reader.file_size > path.stat().st_size:
                whole.cut(f"its header tells of {reader.file_size} bytes")
            for message in reader:
                yield _logged(message)
        except (BLFParseError, ValueError, struct.error, zlib.error) as error:
            raise LogError(f"{path}: damaged at byte {whole.at}: {str(error) or 'no BLF object'}") from error


def _logged(message: "can.Message") -> LoggedFrame:
    can_id, flags = message.arbitration_id, 0
    if message.is_extended_id:
        can_id |= frames.EXTENDED
    if message.is_remote_frame:
        can_id |= frames.REMOTE
    if message.is_error_frame:
        can_id |= frames.ERROR
    if message.is_fd:
        flags |= frames.FD
        flags |= frames.BITRATE_SWITCH if message.bitrate_switch else 0
        flags |= frames.ERROR_STATE if message.error_state_indicator else 0
    data = b"" if message.is_remote_frame else bytes(message.data or b"")
    # python-can counts channels from 0, the logs from 1.
    channel = str(message.channel + 1) if isinstance(message.channel, int) else str(message.channel or "")
    frame = Frame(round(message.timestamp * 1e9), can_id, flags, data)
    if not message.is_error_frame:
        frames.check(frame)
    return LoggedFrame(channel, frame)


class _CountedLines:
    """A text file's lines, with the number of the last."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self.number = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        text = next(self._file)
        self.number += 1
        return text

    def close(self) -> None:
        self._file.close()


class _WholeReads:
    """A binary file that ends between two objects, or the log is cut off."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file = file
        self._path = path
        self.at = 0

    def read(self, size: int = -1) -> bytes:
        self.at = self._file.tell()
        if size < 0:
            raise ValueError("an object's size is less than its header's")
        data = self._file.read(size)
        ends = size == _OBJECT_HEADER and not data
        if len(data) < size and size > _PADDING and not ends:
            self.cut(f"an object needs {size} bytes, and {len(data)} are there")
        return data

    def cut(self, why: str) -> None:
        raise LogError(f"{self._path}: cut off at byte {self._path.stat().st_size}: {why}")

    def close(self) -> None:
        self._file.close()
