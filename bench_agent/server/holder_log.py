"""Who has used which bench when: one JSON object a line, the agent's own word on it that no bench had two holders.

`begin` is written before anything is done for a lease, `end` once all that it had running has ended and is cleaned up,
`acts` at most once a second for each who calls under it, with the first and the last moment. Times are seconds since
the Unix epoch (``wall``) and since the start of the machine (``boot``), by which lines are to be compared.

Nothing waits for the disk: a killed agent loses no line but the last second's `acts`, a power cut may lose more.
"""

import contextlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import structlog

from bench_agent.protocol import boot_clock
from bench_agent.protocol.claims import LeaseClaims

NAME = "holders.jsonl"
MOST_BYTES = 8 << 20
"""Of one file; the one before is kept beside it, with `.1` behind its name."""
_EVERY_S = 1.0

_log = structlog.get_logger()


@dataclass(slots=True)
class _Acts:
    claims: LeaseClaims
    first: float
    last: float
    calls: int = 0


class HolderLog:
    """Of one agent. Used on one asyncio loop; a disk that fails is told once, and costs no lease anything."""

    def __init__(
        self, path: Path | None, *, most_bytes: int = MOST_BYTES, now: Callable[[], float] = boot_clock.now
    ) -> None:
        """Without a path, nothing is written."""
        self._path = path
        self._most_bytes = most_bytes
        self._now = now
        self._file: int | None = None
        self._size = 0
        self._acts: dict[tuple[str, str], _Acts] = {}
        self.lost = 0
        """Lines that the disk did not take."""

    def start(self) -> None:
        """The agent starts: whatever a former one of this folder did is over."""
        self._write("start", pid=os.getpid())

    def begin(self, claims: LeaseClaims) -> None:
        """The lease is about to get the bench."""
        self._write("begin", bench=claims.bench, lease=claims.lease, epoch=claims.epoch, who=claims.holder)

    def acted(self, claims: LeaseClaims, calls: int = 0) -> None:
        """Somebody acts: so many calls begin now, or (0) one has just ended."""
        key, now = (claims.bench, claims.holder), self._now()
        acts = self._acts.get(key)
        if acts is not None and (acts.claims.epoch != claims.epoch or now - acts.first >= _EVERY_S):
            self._flush(key)
            acts = None
        if acts is None:
            acts = self._acts[key] = _Acts(claims, now, now)
        acts.last = now
        acts.calls += calls

    def end(self, bench: str, lease: str, epoch: int) -> None:
        """Nothing of the lease is left on the bench."""
        for key in [key for key in self._acts if key[0] == bench]:
            self._flush(key)
        self._write("end", bench=bench, lease=lease, epoch=epoch)

    def close(self) -> None:
        """Writes what waits."""
        for key in list(self._acts):
            self._flush(key)
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _flush(self, key: tuple[str, str]) -> None:
        acts = self._acts.pop(key)
        self._write(
            "acts",
            bench=acts.claims.bench,
            lease=acts.claims.lease,
            epoch=acts.claims.epoch,
            who=acts.claims.holder,
            scope=acts.claims.scope.value,
            calls=acts.calls,
            first=round(acts.first, 6),
            last=round(acts.last, 6),
        )

    def _write(self, event: str, **details: object) -> None:
        if self._path is None:
            return
        entry = {"boot": round(self._now(), 6), "wall": round(time.time(), 6), "event": event, **details}
        line = json.dumps(entry).encode() + b"\n"
        try:
            written = os.write(self._open(self._path, len(line)), line)
            self._size += written
            if written != len(line):
                raise OSError(f"{written} of {len(line)} bytes written")
        except OSError as error:
            if self.lost == 0:
                _log.error("the log of holders has gaps", file=str(self._path), reason=error.strerror or str(error))
            self.lost += 1

    def _open(self, path: Path, more: int) -> int:
        if self._file is not None and self._size + more <= self._most_bytes:
            return self._file
        if self._file is not None:
            os.close(self._file)
            self._file = None
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_size + more > self._most_bytes:
                path.replace(path.with_name(path.name + ".1"))
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        self._size = os.fstat(self._file).st_size
        return self._file
