"""Frames of one bus put on another, each at its time, with faults on the way."""

import asyncio
import heapq
import itertools
import threading
import time
from collections.abc import Callable, Sequence

import can

from ecu_adapters.bus import BusError, BusNode
from ecu_adapters.faults import Fault, FaultyWay

BOUND = 65_536
"""Frames on the way in one direction."""
_SEND_S = 0.2


class Way:
    """One direction, on a thread of its own.

    ``source`` and ``target`` are nodes of this gateway alone: what one has put on its bus is an own frame to it, and is
    not taken back.
    """

    def __init__(
        self,
        source: BusNode,
        target: BusNode,
        faults: Sequence[Fault],
        bound: int = BOUND,
        on_drop: Callable[[int], None] = lambda _count: None,
    ) -> None:
        """``on_drop`` is called on the source's reader thread with the number of frames beyond ``bound``."""
        self.forwarded = 0
        self.refused = 0
        self.error = ""
        """Why the last frame was refused."""
        self.overflowed = 0
        self._faulty = FaultyWay(faults)
        self._target = target
        self._bound = bound
        self._on_drop = on_drop
        self._changed = threading.Condition()
        self._due: list[tuple[float, int, can.Message]] = []
        self._numbers = itertools.count()  # frames that are due at once keep their order
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name=f"gateway-{source.name}", daemon=True)
        self._thread.start()
        self._subscription = source.tap(self._take)

    @property
    def struck(self) -> list[int]:
        """How many frames each fault has struck."""
        return list(self._faulty.struck)

    async def stop(self) -> None:
        """No further frame is forwarded once this returns. Raises TimeoutError."""
        self._subscription.close()
        with self._changed:
            self._stopped = True
            self._changed.notify()
        await asyncio.to_thread(self._thread.join, 5 * _SEND_S)
        if self._thread.is_alive():
            raise TimeoutError("a forwarded frame is still in the driver's hands")

    def _take(self, burst: Sequence[can.Message]) -> None:
        now = time.monotonic()
        with self._changed:
            for message in burst:
                if not message.is_rx or message.is_error_frame:
                    continue
                for delay_s, onward in self._faulty.pass_on(message):
                    if len(self._due) >= self._bound:
                        self.overflowed += 1
                        self._on_drop(1)
                    else:
                        heapq.heappush(self._due, (now + delay_s, next(self._numbers), onward))
            self._changed.notify()

    def _run(self) -> None:
        while (message := self._next()) is not None:
            try:
                self._target.send(message, _SEND_S)
                self.forwarded += 1
            except BusError as error:
                self.refused, self.error = self.refused + 1, str(error)

    def _next(self) -> can.Message | None:
        with self._changed:
            while not self._stopped:
                left = self._due[0][0] - time.monotonic() if self._due else None
                if left is not None and left <= 0:
                    return heapq.heappop(self._due)[2]
                self._changed.wait(left)
            return None
