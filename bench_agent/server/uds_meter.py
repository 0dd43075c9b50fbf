"""How the diagnostic exchanges with one ECU went, interval by interval."""

from collections import Counter
from dataclasses import dataclass, field

from bench_agent.protocol.samples import Samples, Summary
from ecu_adapters.uds.tester import Exchange, UdsError, UdsTester, UdsTimeout


@dataclass(slots=True)
class UdsInterval:
    """What came since the last look; times in s."""

    requests: int = 0
    timeouts: int = 0
    failed: int = 0
    pending: int = 0
    """0x78 received."""
    nrcs: Counter[int] = field(default_factory=Counter)
    """Negative responses by code."""
    latency: Summary | None = None
    """From the request sent in full to the final response."""
    p2_s: float = 0.0
    p2_star_s: float = 0.0
    """The limits in force."""
    p2_used_s: float | None = None
    """The longest time to a first answer."""
    p2_star_used_s: float | None = None
    """The longest time from a 0x78 to what followed."""


class UdsMeter:
    """Used on one asyncio loop."""

    def __init__(self) -> None:
        self._latency = Samples()
        self._seen = UdsInterval()

    def note(self, tester: UdsTester, exchange: Exchange | None, error: UdsError | None) -> None:
        """An exchange is over; without ``error`` it went well."""
        seen = self._seen
        seen.p2_s, seen.p2_star_s = tester.limits_s
        seen.requests += 1
        if isinstance(error, UdsTimeout):
            seen.timeouts += 1
        elif error is not None:
            seen.failed += 1
        if exchange is None:
            return
        pending = exchange.pending
        seen.pending += pending.count
        if pending.count:
            seen.p2_star_used_s = max(seen.p2_star_used_s or 0.0, pending.longest_gap_s)
        answered = error is None and exchange.response is not None
        if pending.count or answered:
            first = pending.times[0] if pending.times else exchange.elapsed_s
            seen.p2_used_s = max(seen.p2_used_s or 0.0, first)
        if answered:
            self._latency.add(exchange.elapsed_s)
            if exchange.nrc is not None:
                seen.nrcs[exchange.nrc] += 1

    def take(self) -> UdsInterval | None:
        """Since the last call; None when there was nothing."""
        if not self._seen.requests:
            return None
        seen, self._seen = self._seen, UdsInterval()
        seen.latency = self._latency.take()
        return seen
