"""Brings a run's log lines to labd: numbered without gaps, in order, each at least once (labd ignores what it has).

The script is not made to wait for labd, except for a moment when it writes faster than lines can be sent. While labd
is away lines are kept, up to a bound; what does not fit is counted, and the log says so where it is missing.
"""

import random
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from labd.client import LabError, LabUnreachable, ProblemError
from labd.client.types import LogLevel

BUFFER_LINES = 20_000
BUFFER_BYTES = 8 * 2**20
BATCH_LINES = 500
BATCH_BYTES = 256 * 1024
LINE_BYTES = 8 * 1024
"""Longer lines are cut."""
INTERVAL_S = 0.05
"""Time between two batches, so that a request carries more than a line."""
ROOM_S = 0.5
"""How long a writer waits for room in a full buffer while labd answers."""
FIRST_RETRY_S = 0.1
LAST_RETRY_S = 2.0


class LogTarget(Protocol):
    """The part of LabClient that takes log lines."""

    def append_log(self, run_id: str, first_seq: int, lines: Sequence[Mapping[str, str]]) -> int:
        """Returns the highest sequence number that labd has stored."""
        ...


@dataclass(frozen=True, slots=True)
class _Line:
    time: str
    level: LogLevel
    text: str

    @property
    def size(self) -> int:
        return len(self.text) + 64


def is_passing(error: LabError) -> bool:
    """Whether the same request may well succeed later: labd is away, restarting, or overloaded."""
    return isinstance(error, LabUnreachable) or (
        isinstance(error, ProblemError) and (error.status >= 500 or error.status in (408, 425, 429))
    )


def retry_delays(first_s: float = FIRST_RETRY_S, last_s: float = LAST_RETRY_S) -> "_Delays":
    """Pauses between attempts: doubling, with jitter so that many runners do not knock at once."""
    return _Delays(first_s, last_s)


class _Delays:
    def __init__(self, first_s: float, last_s: float) -> None:
        self._next_s = first_s
        self._last_s = last_s

    def __next__(self) -> float:
        delay = self._next_s
        self._next_s = min(delay * 2, self._last_s)
        return delay * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, guards nothing


class LogShipper:
    """Sends lines from its own thread. Thread-safe.

    ``refused`` is called, once, from that thread, with the reason, when labd will never take another line of this run.
    """

    def __init__(
        self,
        lab: LogTarget,
        run_id: str,
        *,
        refused: Callable[[str], None],
        stored: int = 0,
        buffer_lines: int = BUFFER_LINES,
    ) -> None:
        """``stored`` are the lines that labd has already, of former attempts at the run."""
        self._lab = lab
        self._run_id = run_id
        self._refused = refused
        self._buffer_lines = buffer_lines
        self._changed = threading.Condition()
        self._lines: deque[_Line] = deque()
        self._bytes = 0
        self._first_seq = stored + 1
        self._gap = 0
        self._dropped = 0
        self._reachable = True
        self._refusal = ""
        self._give_up_at: float | None = None
        self._thread = threading.Thread(target=self._work, name="log-shipper", daemon=True)

    def start(self) -> None:
        """Starts sending."""
        self._thread.start()

    @property
    def accepted(self) -> int:
        """Lines that have a number: sent, or still to be sent."""
        with self._changed:
            return self._first_seq - 1 + len(self._lines)

    @property
    def dropped(self) -> int:
        """Lines that found no room, or that labd would not take."""
        with self._changed:
            return self._dropped

    def write(self, level: LogLevel, text: str) -> None:
        """Takes one line, or several separated by newlines."""
        now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        lines = [_Line(now, level, _cut(line)) for line in text.split("\n")]
        with self._changed:
            for line in lines:
                self._add(line)
            self._changed.notify_all()

    def close(self, within_s: float) -> bool:
        """Sends what is left. True if labd has everything after at most ``within_s``; else the rest is dropped."""
        with self._changed:
            self._note_gap()
            self._give_up_at = time.monotonic() + within_s
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(within_s + 0.1)
        with self._changed:
            missing = len(self._lines)
            self._dropped += missing
            self._lines.clear()
            self._bytes = 0
            return not missing and not self._refusal

    def hurry(self, within_s: float) -> None:
        """Shortens a `close` that is under way."""
        # Called from a signal handler, on the thread that may hold the lock: only sets what the sender looks at.
        if self._give_up_at is not None:
            self._give_up_at = min(self._give_up_at, time.monotonic() + within_s)

    def _add(self, line: _Line) -> None:
        if self._give_up_at is not None or self._refusal:
            self._dropped += 1
            return
        if self._is_full() and self._reachable:
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._is_full() or not self._reachable, ROOM_S)
        if self._is_full():
            self._dropped += 1
            self._gap += 1
            return
        self._note_gap()
        self._lines.append(line)
        self._bytes += line.size

    def _note_gap(self) -> None:
        if self._gap:
            text = f"({self._gap} log lines are missing here: labd did not take them fast enough)"
            note = _Line(datetime.now(UTC).isoformat().replace("+00:00", "Z"), "warning", text)
            self._lines.append(note)
            self._bytes += note.size
            self._gap = 0

    def _is_full(self) -> bool:
        return len(self._lines) >= self._buffer_lines or self._bytes >= BUFFER_BYTES

    def _work(self) -> None:
        delays = retry_delays()
        while batch := self._next_batch():
            try:
                stored = self._lab.append_log(
                    self._run_id,
                    batch[0],
                    [{"time": line.time, "level": line.level, "text": line.text} for line in batch[1]],
                )
            except LabError as error:
                if not is_passing(error):
                    self._refuse(str(error))
                    return
                if not self._pause(next(delays), reachable=False):
                    return
                continue
            if stored < batch[0]:
                self._refuse(f"labd acknowledged line {stored}, although {batch[0] - 1} was stored before")
                return
            delays = retry_delays()
            self._acknowledge(stored)
            if not self._pause(INTERVAL_S, reachable=True):
                return

    def _next_batch(self) -> tuple[int, list[_Line]] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._lines or self._give_up_at is not None)
            if not self._lines:
                return None
            batch: list[_Line] = []
            size = 0
            for line in self._lines:
                if batch and (len(batch) >= BATCH_LINES or size + line.size > BATCH_BYTES):
                    break
                batch.append(line)
                size += line.size
            return self._first_seq, batch

    def _acknowledge(self, stored: int) -> None:
        with self._changed:
            while self._lines and self._first_seq <= stored:
                self._bytes -= self._lines.popleft().size
                self._first_seq += 1
            self._changed.notify_all()

    def _pause(self, seconds: float, *, reachable: bool) -> bool:
        """False if it is time to give up."""
        with self._changed:
            self._reachable = reachable
            self._changed.notify_all()
            until = time.monotonic() + seconds
            # When closing, what is left goes out at once; only a labd that is away is waited for.
            while (left := until - time.monotonic()) > 0 and not (reachable and self._give_up_at is not None):
                self._changed.wait(min(left, 0.25))
            return self._give_up_at is None or time.monotonic() < self._give_up_at

    def _refuse(self, reason: str) -> None:
        with self._changed:
            self._refusal = reason
            self._reachable = False
            self._dropped += len(self._lines)
            self._lines.clear()
            self._bytes = 0
            self._changed.notify_all()
        self._refused(reason)


def _cut(line: str) -> str:
    return line if len(line) <= LINE_BYTES else f"{line[:LINE_BYTES]} … ({len(line) - LINE_BYTES} more characters)"
