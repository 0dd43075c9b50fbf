"""What an ECU sends that answers no request: periodic values, events, late answers. Kept until somebody takes it."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

KEPT = 1000
"""PDUs of a kind that are kept; then the oldest go, and are counted."""
_PERIODIC = 0x6A


@dataclass(frozen=True, slots=True)
class Pdu:
    """A PDU that nobody asked for."""

    data: bytes
    at: float
    """Seconds since the Unix epoch."""
    padded: bool = False
    """Whether there may be fill bytes at the end: it came in a frame without ISO-TP."""


class Kept:
    """A bounded queue of PDUs. Used on one asyncio loop."""

    def __init__(self) -> None:
        self.lost_before: Callable[[], int] = lambda: 0
        """Counts PDUs that were lost on their way here."""
        self._outdated = 0
        self._pdus: deque[Pdu] = deque()
        self._arrived = asyncio.Event()

    @property
    def dropped(self) -> int:
        """PDUs that nobody can take any more: the oldest made room for newer ones, or the loop was too slow."""
        return self._outdated + self.lost_before()

    def put(self, pdu: Pdu) -> None:
        """Keeps it."""
        if len(self._pdus) == KEPT:
            self._pdus.popleft()
            self._outdated += 1
        self._pdus.append(pdu)
        self._arrived.set()

    async def take(self, count: int, timeout_s: float) -> list[Pdu]:
        """Removes and returns all, oldest first, once there are ``count``, or when time is up."""
        found: list[Pdu] = []
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    found += self._pdus
                    self._pdus.clear()
                    if len(found) >= count:
                        return found
                    self._arrived.clear()
                    await self._arrived.wait()
        except TimeoutError:
            return found


class Unsolicited:
    """Periodic values apart from the rest, so that a fast one drives out no event."""

    def __init__(self) -> None:
        self.periodic = Kept()
        """Responses to ReadDataByPeriodicIdentifier, each as 6A, identifier, data."""
        self.events = Kept()

    def put(self, data: bytes) -> None:
        """Keeps a PDU of at least one byte."""
        kept = self.periodic if data[0] == _PERIODIC and len(data) > 1 else self.events
        kept.put(Pdu(data, time.time()))

    def put_frame(self, data: bytes) -> None:
        """Keeps a periodic value that came in a frame of its own: identifier and data (ISO 14229-1:2020, 11.5)."""
        self.periodic.put(Pdu(bytes((_PERIODIC,)) + data, time.time(), padded=True))
