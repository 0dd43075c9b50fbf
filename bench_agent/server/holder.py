"""Who holds a bench, and until when."""

import asyncio

import structlog

from bench_agent.protocol.claims import LeaseClaims
from bench_agent.server.calls import Calls
from bench_agent.server.lab_clock import LabClock

_REMEMBERED = 1024
"""Tokens of one lease whose end is remembered as it was first judged."""

_log = structlog.get_logger()


class Holder:
    """The lease that may act now, and when the right of each ends who has come with a token of it."""

    def __init__(self, lease: str, epoch: int, clock: LabClock) -> None:
        self.lease = lease
        self.epoch = epoch
        self.timer: asyncio.TimerHandle | None = None
        self.calls = Calls()
        self._clock = clock
        self._ends: dict[int, tuple[int, float]] = {}
        self._rights: dict[str, int] = {}

    def take(self, claims: LeaseClaims) -> bool:
        """Somebody has come with a token of the lease; whether it gives them more than they had."""
        more = claims.expires_at > self._rights.get(claims.holder, 0)
        if more:
            if claims.holder not in self._rights:
                _log.info("uses the bench", bench=claims.bench, lease=self.lease, who=claims.holder, scope=claims.scope)
            self._rights[claims.holder] = claims.expires_at
        return more

    def prolong(self, expires_at: int) -> None:
        """Everybody's right lasts until then."""
        self._rights = {who: max(expires_at, known) for who, known in self._rights.items()}

    def left_s(self, expires_at: int) -> float:
        """How long a token is good for, as it was first judged, whatever became of labd's clock; negative: over."""
        if expires_at not in self._ends:
            self._ends[expires_at] = (self._clock.timeline, self._clock.to_local(expires_at))
            if len(self._ends) > _REMEMBERED:
                del self._ends[next(iter(self._ends))]
        return self._ends[expires_at][1] - self._clock.local()

    def cut_outlived(self) -> None:
        """Ends the calls of those whose tokens are over."""
        for who, expires_at in self._rights.items():
            if self.left_s(expires_at) <= 0:
                self.calls.cut(f"the token of {who} for lease {self.lease} has expired", who)

    @property
    def rights_left_s(self) -> list[float]:
        """How long each one's right lasts; the lease is over when none does any more."""
        return [self.left_s(expires_at) for expires_at in self._rights.values()]

    def refine(self) -> None:
        """labd's time is known better."""
        for expires_at, (timeline, _) in self._ends.items():
            if timeline == self._clock.timeline:
                self._ends[expires_at] = (timeline, self._clock.to_local(expires_at))
