"""The trace of one bus during one lease: a candump log that any CAN tool reads.

Its own thread writes; the bus' thread only appends to a bounded queue. What does not fit, in the queue or in the file,
is counted, and the counts stand beside the log.
"""

import json
import re
import shutil
import threading
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import can
import structlog

QUEUE = 131_072
"""Frames that wait for the disk."""
_FLUSH_S = 0.2
_STOP_S = 5.0
_SIZE_CHECK = 512
"""Frames written between two looks at the file's size."""

_log = structlog.get_logger()


@dataclass(slots=True)
class TraceCounts:
    """What became of the frames."""

    written: int = 0
    dropped: int = 0
    """Came faster than the disk took them."""
    beyond_limit: int = 0
    """Came after the file had reached its size."""


class Recorder:
    """Writes the frames given to `put` until `stop`."""

    def __init__(self, path: Path, *, max_bytes: int, queue: int = QUEUE) -> None:
        """Opens the file, in a folder that is made if need be. Raises OSError."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.counts = TraceCounts()
        self._max_bytes = max_bytes
        self._bound = queue
        self._queue: deque[can.Message] = deque()
        self._lock = threading.Lock()
        self._unflushed = 0
        self._stopping = threading.Event()
        # Opened for appending: an agent that was restarted goes on with the trace of the same lease.
        self._file = path.open("a", encoding="ascii", errors="backslashreplace")
        self._writer = can.CanutilsLogWriter(self._file, channel=path.stem, append=True)
        self._thread = threading.Thread(target=self._write, name=f"trace-{path.stem}", daemon=True)
        self._thread.start()

    def put(self, messages: Sequence[can.Message]) -> None:
        """A tap of a bus hub; any thread."""
        # The reader's and the senders' threads: without the lock, two of them could count as one.
        with self._lock:
            room = max(self._bound - len(self._queue), 0)
            self._queue.extend(messages[:room])
            self.counts.dropped += max(len(messages) - room, 0)

    def stop(self) -> bool:
        """Writes what waits, closes the file and puts the counts beside it. False when the disk takes too long."""
        self._stopping.set()
        self._thread.join(_STOP_S)
        if self._thread.is_alive():
            return False
        try:
            self.path.with_suffix(".json").write_text(json.dumps(asdict(self.counts)))
        except OSError as error:
            _log.warning("counts of a trace are lost", trace=str(self.path), counts=self.counts, reason=str(error))
        return True

    def _write(self) -> None:
        try:
            full = self._file.tell() >= self._max_bytes
            while True:
                ending = self._stopping.wait(_FLUSH_S)
                full = self._drain(full)
                self._flush()
                if ending and not self._queue:
                    return
        except OSError as error:
            # The disk is full or gone: the bench goes on, and the count says what is missing.
            _log.error("trace ended", trace=str(self.path), reason=str(error))
            self._count_lost()
        finally:
            try:
                self._writer.stop()
            except OSError as error:
                _log.error("trace is incomplete", trace=str(self.path), reason=str(error))

    def _drain(self, full: bool) -> bool:
        for number in range(1, len(self._queue) + 1):
            message = self._queue.popleft()
            if full:
                self.counts.beyond_limit += 1
                continue
            self._unflushed += 1
            self._writer.on_message_received(message)
            if number % _SIZE_CHECK == 0:
                full = self._reached_limit()
        return full or self._reached_limit()

    def _flush(self) -> None:
        """Only what has left our buffers counts as written."""
        self._file.flush()
        self.counts.written += self._unflushed
        self._unflushed = 0

    def _reached_limit(self) -> bool:
        if self._file.tell() < self._max_bytes:
            return False
        _log.warning("trace has reached its size; further frames are only counted", trace=str(self.path))
        return True

    def _count_lost(self) -> None:
        self.counts.dropped += self._unflushed
        self._unflushed = 0
        while not self._stopping.wait(_FLUSH_S):
            self.counts.dropped += len(self._queue)
            self._queue.clear()
        self.counts.dropped += len(self._queue)


def folder(traces: Path, lease: str) -> Path:
    """Where a lease's traces are. A lease's name is labd's choice, not ours: it cannot leave ``traces``."""
    safe = re.sub(r"[^A-Za-z0-9_-]", "_", lease)[:100] or "_"
    return traces / safe


def prune(traces: Path, max_bytes: int, keep: Iterable[Path]) -> None:
    """Deletes the traces of the oldest leases until the rest fits in ``max_bytes``. Raises OSError."""
    if not traces.is_dir():
        return
    kept = set(keep)
    folders = sorted((path for path in traces.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime)
    sizes = {path: sum(file.stat().st_size for file in path.iterdir() if file.is_file()) for path in folders}
    total = sum(sizes.values())
    for path in folders:
        if total <= max_bytes:
            return
        if path not in kept:
            shutil.rmtree(path)
            total -= sizes[path]
            _log.info("oldest traces deleted", folder=str(path), bytes=sizes[path])
