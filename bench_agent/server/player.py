"""Puts the frames of a log on a bus at their times.

Every frame has an absolute time, counted from the first: a late frame makes no later one late.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import can

from ecu_adapters.bus import BusError

BOUND = 32_768
"""Frames that wait for their time; more are not taken from the caller meanwhile."""
_AHEAD_S = 0.5
"""How much of a log is at hand before it starts, so that the network's pauses are not heard on the bus."""
_SEND_S = 0.5


class _Port(Protocol):
    def send(self, message: can.Message, timeout_s: float = 1.0) -> float: ...


@dataclass(slots=True)
class Played:
    """How far a replay has come."""

    sent: int = 0
    failed: int = 0
    error: str = ""
    """Why the last failed frame failed."""
    position_ns: int = 0
    """Of the last frame that was sent, since the log's first."""
    late_ns: int = 0
    """The most that a frame was sent after its time."""
    starved: int = 0
    """Times that no frame was at hand when the next one may have been due."""


class Player:
    """Plays from a thread of its own until the last frame or `stop`."""

    def __init__(
        self, port: _Port, speed: float, on_room: Callable[[], None], on_end: Callable[[], None], bound: int = BOUND
    ) -> None:
        """``speed`` 2 plays twice as fast, 0 as fast as the bus takes the frames.

        ``on_room`` is called when a full buffer is half empty, ``on_end`` at the end; both on the player's thread.
        """
        self._port = port
        self._speed = speed
        self._on_room = on_room
        self._on_end = on_end
        self._bound = bound
        self._waiting: deque[can.Message] = deque()
        self._changed = threading.Condition()
        self._complete = False
        self._stopped = False
        self._played = Played()
        self._thread = threading.Thread(target=self._run, name="replay", daemon=True)
        self._thread.start()

    @property
    def played(self) -> Played:
        """Up to now."""
        with self._changed:
            return replace(self._played)

    def offer(self, messages: Sequence[can.Message]) -> bool:
        """Adds frames, their timestamps in seconds of the log. False: now it is full, wait for ``on_room``."""
        with self._changed:
            self._waiting.extend(messages)
            self._changed.notify()
            return len(self._waiting) < self._bound

    def complete(self) -> None:
        """There are no more frames than those that wait."""
        with self._changed:
            self._complete = True
            self._changed.notify()

    async def stop(self) -> None:
        """No further frame is sent once this returns. Raises TimeoutError when the driver keeps hold of the last."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        await asyncio.to_thread(self._thread.join, 2 * _SEND_S)
        if self._thread.is_alive():
            raise TimeoutError("the replay's last frame is still in the driver's hands")

    def _run(self) -> None:
        try:
            self._play()
        finally:
            self._on_end()

    def _play(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or self._complete or self._enough())
            if not self._waiting:
                return
            first = self._waiting[0].timestamp
        began = time.monotonic()
        while (message := self._next()) is not None:
            position = message.timestamp - first
            due = began + position / self._speed if self._speed else began
            with self._changed:
                while not self._stopped and self._speed and (left := due - time.monotonic()) > 0:
                    self._changed.wait(left)
                if self._stopped:
                    return
            self._send(message, position, due)

    def _enough(self) -> bool:
        if len(self._waiting) >= self._bound // 2:
            return True
        if not self._waiting:
            return False
        return not self._speed or self._waiting[-1].timestamp - self._waiting[0].timestamp >= _AHEAD_S * self._speed

    def _next(self) -> can.Message | None:
        with self._changed:
            if not self._waiting and not self._complete and not self._stopped:
                self._played.starved += 1
                self._changed.wait_for(lambda: self._waiting or self._complete or self._stopped)
            if self._stopped or not self._waiting:
                return None
            message = self._waiting.popleft()
            half_empty = len(self._waiting) == self._bound // 2
        if half_empty:
            self._on_room()
        return message

    def _send(self, message: can.Message, position: float, due: float) -> None:
        late_ns = round((time.monotonic() - due) * 1e9) if self._speed else 0
        error = ""
        try:
            self._port.send(message, _SEND_S)
        except BusError as fault:
            error = str(fault)
        with self._changed:
            played = self._played
            played.late_ns = max(played.late_ns, late_ns)
            played.position_ns = round(position * 1e9)
            if error:
                played.failed, played.error = played.failed + 1, error
            else:
                played.sent += 1
