"""What an ECU sends that answers no request: periodic values, events, late answers. Kept until somebody takes it."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

KEPT = 1000
"""PDUs kept; then the oldest go, and are counted."""


@dataclass(frozen=True, slots=True)
class Pdu:
    """A PDU that nobody asked for."""

    data: bytes
    at: float
    """Seconds since the Unix epoch."""


class Unsolicited:
    """A bounded queue of PDUs. Used on one asyncio loop."""

    def __init__(self) -> None:
        self.dropped = 0
        """Oldest PDUs that made room for newer ones."""
        self._kept: deque[Pdu] = deque()
        self._arrived = asyncio.Event()

    def put(self, data: bytes) -> None:
        """Keeps a PDU of at least one byte."""
        if len(self._kept) == KEPT:
            self._kept.popleft()
            self.dropped += 1
        self._kept.append(Pdu(data, time.time()))
        self._arrived.set()

    async def take(self, wanted: Callable[[Pdu], bool], count: int, timeout_s: float) -> list[Pdu]:
        """Removes and returns all ``wanted`` PDUs, oldest first, once there are ``count``, or when time is up."""
        found: list[Pdu] = []
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    found += [pdu for pdu in self._kept if wanted(pdu)]
                    self._kept = deque(pdu for pdu in self._kept if not wanted(pdu))
                    if len(found) >= count:
                        return found
                    self._arrived.clear()
                    await self._arrived.wait()
        except TimeoutError:
            return found
