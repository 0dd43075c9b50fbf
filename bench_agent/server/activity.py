"""Whether the holder of a bench does anything: for labd, which lets go what nobody uses.

Traffic is a call that begins or is in work, and a message that comes in on a stream. A stream that only lies open is
none, nor are frames that the agent sends by itself, nor anything that an observer does.
"""

import contextlib
from collections.abc import Callable, Iterator

from bench_agent.protocol import boot_clock


class Activity:
    """Of one bench."""

    def __init__(self, epoch: int = 0, now: Callable[[], float] = boot_clock.now) -> None:
        """``epoch``: of the lease that a former agent served, and which may still act; 0 for none."""
        self._now = now
        self._last = now()
        self._working = 0
        self.epoch = epoch
        """Of the lease whose holder has had a call accepted; 0 for none."""
        self.on_first: Callable[[], None] | None = None
        """Called when a lease has had its first call accepted."""

    @property
    def working(self) -> bool:
        """Whether a call of the lease is in work."""
        return self._working > 0

    @property
    def idle_ms(self) -> int:
        """How long the holder has had no traffic (ms)."""
        return 0 if self.working else max(0, round((self._now() - self._last) * 1000))

    def touch(self, epoch: int) -> None:
        """The lease of this epoch has traffic."""
        if epoch < self.epoch:
            return  # a last word of a former holder
        first = epoch > self.epoch
        self._last = self._now()
        self.epoch = epoch
        if first:
            self._working = 0
            if self.on_first is not None:
                self.on_first()

    @contextlib.contextmanager
    def work(self, epoch: int) -> Iterator[None]:
        """The lease of this epoch has traffic for as long as the block lasts."""
        self.touch(epoch)
        if epoch != self.epoch:
            yield
            return
        self._working += 1
        try:
            yield
        finally:
            if epoch == self.epoch:
                self._working -= 1
                self._last = self._now()
