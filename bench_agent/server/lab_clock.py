"""labd's time, kept on this machine's boot clock.

A bench computer may have no battery-backed clock, get its time set, be suspended, or have its agent stopped while a
lease runs. The expiry of tokens is judged by labd's clock as the attach stream reports it; between reports, and across
restarts of the agent, the clock that counts from the start of the machine carries it on.

A report may be late, by the time that it was under way, but never early: the truth is the reports' upper envelope.
Where labd's clock is found to have been set (restored elsewhere, or started with a wrong date), a new *timeline*
begins: new tokens are judged by it, and a lease that runs keeps the end that it had, neither sooner nor later.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path

import structlog

from bench_agent.protocol import boot_clock
from bench_agent.server import files

_DRIFT = 500e-6
"""By how much the clocks of two machines may run differently."""
_ROUNDING_S = 2.0
"""What is no step yet."""
_WORTH_KEEPING_S = 0.5

_log = structlog.get_logger()


class LabClock:
    """``now`` is labd's time in seconds since the Unix epoch. Until labd has reported, it is this machine's."""

    def __init__(
        self,
        path: Path | None = None,
        *,
        boot: Callable[[], float] = boot_clock.now,
        wall: Callable[[], float] = time.time,
        boot_id: Callable[[], str] = boot_clock.boot_id,
    ) -> None:
        """``path`` keeps what labd has reported for the next agent on this machine, until it is started anew."""
        self._path = path
        self._boot = boot
        self._boot_id = boot_id()
        self._kept = self._read()
        self._reported = self._kept is not None
        self._offset = self._kept if self._kept is not None else wall() - boot()
        self._at = boot()
        self._late = 0.0
        self.timeline = 0
        """Grows with each step of labd's clock."""

    def now(self) -> float:
        """Seconds since the Unix epoch, by labd's clock."""
        return self._boot() + self._offset

    def local(self) -> float:
        """Seconds on a clock that nothing steps."""
        return self._boot()

    def to_local(self, lab_time: float) -> float:
        """When it is ``lab_time``, on the clock of `local`, as far as is known now."""
        return lab_time - self._offset

    def report(self, lab_time_ms: int, way_s: float | None = None) -> None:
        """labd's clock as just received (ms). It was under way for no more than ``way_s``; None where nothing says."""
        now = self._boot()
        reported = lab_time_ms / 1000 - now
        drift = _DRIFT * max(0.0, now - self._at)
        first, self._reported, self._at = not self._reported, True, now
        ahead = reported > self._offset + self._late + drift + _ROUNDING_S
        behind = way_s is not None and reported + way_s < self._offset - drift - _ROUNDING_S
        if first or ahead or behind:
            if not first:
                by_s = round(reported - self._offset, 1)
                _log.warning("labd's clock was set; leases that run keep their end", by_s=by_s)
                self.timeline += 1
            self._offset, self._late = reported, way_s or 0.0
        else:
            latest = self._offset - drift if way_s is None else min(self._offset, reported + way_s)
            believed = max(reported, latest)
            self._late = max(0.0, self._late + self._offset - believed)
            self._offset = believed
        self._keep()

    def _read(self) -> float | None:
        if self._path is None or not self._boot_id:
            return None
        try:
            document = json.loads(self._path.read_bytes())
            return float(document["offset_s"]) if document["boot_id"] == self._boot_id else None
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError) as error:
            _log.warning("labd's time is not known from before", file=str(self._path), reason=str(error))
            return None

    def _keep(self) -> None:
        if self._path is None or not self._boot_id:
            return
        if self._kept is not None and abs(self._offset - self._kept) < _WORTH_KEEPING_S:
            return
        self._kept = self._offset
        try:
            files.replace(self._path, json.dumps({"boot_id": self._boot_id, "offset_s": self._offset}).encode())
        except OSError as error:
            _log.warning("labd's time is not kept for the next agent", file=str(self._path), reason=str(error))
