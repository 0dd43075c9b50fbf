"""labd's clock."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import structlog

from bench_agent.protocol import boot_clock

CLOCK_NAME = "clock.json"
WRONG_S = 5.0
"""By how much the wall clock may differ from labd's before that is logged."""

_log = structlog.get_logger()


class Clock(Protocol):
    """Tells the time in seconds since the Unix epoch."""

    def now(self) -> float:
        """Never less than what it said before."""

    def keep(self) -> None:
        """Has the clock survive labd; called about once a second."""

    def agree(self, now: float) -> None:
        """Goes on from ``now``, the time of the other labds: when this one joins them, or later, never back."""


class LabClock:
    """The wall clock as labd first saw it, carried on by the machine's time since boot.

    A step of the wall clock frees and prolongs no lease, also not one that labd finds when it starts again: as long as
    the machine is not booted anew, labd's time goes on from where it was. After a boot it is the wall clock's, but no
    earlier than it was last.
    """

    def __init__(
        self,
        path: Path,
        *,
        wall: Callable[[], float] = time.time,
        since_boot: Callable[[], float] = boot_clock.now,
        boot: str | None = None,
        settle: Callable[[], None] = lambda: None,
    ) -> None:
        """``path`` keeps the clock. ``boot`` identifies the boot that ``since_boot`` (s) counts from.

        ``settle()`` is called after a boot, before the wall clock is asked for how long the machine was off.
        """
        self._path = path
        self._wall = wall
        self._since_boot = since_boot
        self._settle = settle
        # Where the kernel does not tell, every start counts as a boot.
        self._boot = boot or boot_clock.boot_id() or str(time.time_ns())
        self._offset = self._resumed()
        self._told = False
        self.keep()

    def now(self) -> float:
        """Seconds since the Unix epoch."""
        return self._since_boot() + self._offset

    def take_wall_clock(self) -> None:
        """Says what the wall clock says. Only while no lease is live: its end would move, against all that was said."""
        self._offset = self._wall() - self._since_boot()
        self.keep()

    def keep(self) -> None:
        """Writes down how labd's time relates to the machine's."""
        now = self.now()
        part = self._path.with_suffix(".part")
        try:
            part.write_text(json.dumps({"boot": self._boot, "offset": self._offset, "last": now}))
            part.replace(self._path)
        except OSError as error:  # a full disk: the file is then a little older
            _log.debug("clock not written down", path=str(self._path), reason=str(error))
        off = self._wall() - now
        if (abs(off) > WRONG_S) is not self._told:
            self._told = not self._told
            if self._told:
                _log.warning("the wall clock was set: labd's time goes on as before", wall_ahead_s=round(off, 1))

    def agree(self, now: float) -> None:
        """See `Clock.agree`."""
        self._offset = now - self._since_boot()
        self.keep()

    def _resumed(self) -> float:
        fresh = self._wall() - self._since_boot()
        try:
            kept = json.loads(self._path.read_text())
            boot, offset, last = str(kept["boot"]), float(kept["offset"]), float(kept["last"])
        except FileNotFoundError:
            return fresh
        except (OSError, ValueError, KeyError, TypeError) as error:
            _log.warning(
                "clock starts anew: what was written down cannot be read", path=str(self._path), why=str(error)
            )
            return fresh
        if boot == self._boot:
            return offset
        self._settle()
        return max(self._wall(), last) - self._since_boot()
