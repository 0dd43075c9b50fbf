"""The log of one console during one lease: a text file, one line for each line in either direction, with its time.

``<`` came from the console, ``>`` was sent to it, ``-`` is what happened to the port. Its own thread writes; what does
not fit, in the queue or in the file, is counted, and the count ends the log.
"""

import threading
import time
from collections import deque
from datetime import UTC, datetime
from pathlib import Path

import structlog

QUEUE_BYTES = 4 << 20
"""Output that waits for the disk."""
_FLUSH_S = 0.2
_STOP_S = 5.0
_LONGEST_LINE = 4096
"""Bytes after which a line is broken."""

_log = structlog.get_logger()


class ConsoleLog:
    """Writes what it is given until `stop`. Any thread may give it."""

    def __init__(self, path: Path, *, max_bytes: int, encoding: str) -> None:
        """Opens the file, in a folder that is made if need be. Raises OSError."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.dropped = 0
        """Bytes that are not in the log."""
        self._encoding = encoding
        self._file = path.open("ab")
        self._room = max(max_bytes - path.stat().st_size, 0)
        self._lock = threading.Lock()
        self._queue: deque[tuple[float, str, bytes]] = deque()
        self._waiting = 0
        self._partial: dict[str, tuple[float, bytes]] = {}
        self._flushed = threading.Condition(self._lock)
        self._stopping = threading.Event()
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._write, name=f"log-{path.stem}", daemon=True)
        self._thread.start()

    def received(self, data: bytes) -> None:
        """Output of the console."""
        self._put("<", data)

    def sent(self, data: bytes) -> None:
        """Input that the port has taken."""
        self._put(">", data)

    def note(self, text: str) -> None:
        """Something that happened to the port."""
        self._put("-", text.encode() + b"\n")

    def flush(self, timeout_s: float) -> bool:
        """Waits until all given so far is in the file, unfinished lines apart. False when the disk takes too long."""
        self._wake.set()
        with self._lock:
            return self._flushed.wait_for(lambda: not self._waiting, timeout_s)

    def stop(self) -> bool:
        """Writes what waits, and closes the file. False when the disk takes too long."""
        self._stopping.set()
        self._wake.set()
        self._thread.join(_STOP_S)
        return not self._thread.is_alive()

    def _put(self, direction: str, data: bytes) -> None:
        with self._lock:
            if self._waiting + len(data) > QUEUE_BYTES:
                self.dropped += len(data)
                return
            self._queue.append((time.time(), direction, data))
            self._waiting += len(data)

    def _write(self) -> None:
        ending = False
        while not ending:
            ending = self._stopping.is_set() or (self._wake.wait(_FLUSH_S) and self._stopping.is_set())
            self._wake.clear()
            with self._lock:
                given = list(self._queue)
                self._queue.clear()
            text = b"".join(self._lines(*entry) for entry in given)
            if ending:
                text += b"".join(
                    self._line(direction, *self._partial[direction]) for direction in sorted(self._partial)
                )
                text += self._epitaph()
            self._append(text)
            with self._lock:
                self._waiting = sum(len(data) for _, _, data in self._queue)
                self._flushed.notify_all()
        try:
            self._file.close()
        except OSError as error:
            _log.error("console log is incomplete", log=str(self.path), reason=str(error))

    def _lines(self, at: float, direction: str, data: bytes) -> bytes:
        """What ``data`` completes; a line has the time of its first byte."""
        began, rest = self._partial.pop(direction, (at, b""))
        *whole, rest = (rest + data).split(b"\n")
        while len(rest) > _LONGEST_LINE:
            whole.append(rest[:_LONGEST_LINE])
            rest = rest[_LONGEST_LINE:]
        times = [began] + [at] * len(whole)
        if rest:
            self._partial[direction] = (times[len(whole)], rest)
        return b"".join(self._line(direction, moment, line) for moment, line in zip(times, whole, strict=False))

    def _line(self, direction: str, at: float, line: bytes) -> bytes:
        moment = datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")
        text = line.rstrip(b"\r").decode(self._encoding, "backslashreplace")
        return f"{moment}Z {direction} {text}\n".encode("utf-8", "backslashreplace")

    def _epitaph(self) -> bytes:
        return self._line("-", time.time(), b"%d bytes are missing" % self.dropped) if self.dropped else b""

    def _append(self, text: bytes) -> None:
        if len(text) > self._room:
            whole = text.rfind(b"\n", 0, self._room) + 1
            self._lose(len(text) - whole)
            text, self._room = text[:whole], 0
        if not text:
            return
        self._room = max(self._room - len(text), 0)
        try:
            self._file.write(text)
            self._file.flush()
        except OSError as error:
            # The disk is full or gone: the console goes on, and the count says what is missing.
            _log.error("console log is incomplete", log=str(self.path), reason=str(error))
            self._lose(len(text))

    def _lose(self, count: int) -> None:
        with self._lock:
            self.dropped += count
