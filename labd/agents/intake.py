"""Hands what agents say to the lab: as much at a time as has come together."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from labd.services.attachment import Gone, Hello, Said
from labd.store.errors import StoreError

MOST = 256
"""Pieces that are handed over at a time, with those that have waited for the database."""
OUTAGE_S = 120.0
"""How long labd's database may be away before an agent with news has to attach anew."""
RETRY_S = 0.5
"""How soon it is tried again."""

_Outcome = asyncio.Future[None]
_log = structlog.get_logger()


@dataclass(slots=True, eq=False)
class _Piece:
    said: Said
    outcome: _Outcome
    give_up: float
    """When (loop time) it is waited for the database no longer."""


class Intake:
    """In the order of arrival, by one thread at a time. Belongs to one event loop.

    Streams are read while the disk is busy: what they say meanwhile becomes durable together. How much each of them may
    have under way is for who reads it to bound. While the database is away it all waits; but who attaches then is told
    at once, and who leaves has left.
    """

    def __init__(self, hear: Callable[[Sequence[Said]], Sequence[Exception | None]]) -> None:
        """``hear`` takes it in, and tells what went wrong with each piece."""
        self._hear = hear
        self._waiting: deque[_Piece] = deque()
        self._held: list[_Piece] = []
        """What comes before them, once the database is there again."""
        self._working: asyncio.Task[None] | None = None

    def put(self, said: Said) -> _Outcome:
        """Done once it is durable, with what went wrong."""
        loop = asyncio.get_running_loop()
        waits_s = 0.0 if isinstance(said, Hello | Gone) else OUTAGE_S
        piece = _Piece(said, loop.create_future(), loop.time() + waits_s)
        self._waiting.append(piece)
        if self._working is None:
            self._working = loop.create_task(self._work(), name="agents-intake")
        return piece.outcome

    async def _work(self) -> None:
        try:
            while self._held or self._waiting:
                new = [self._waiting.popleft() for _ in range(min(MOST, len(self._waiting)))]
                together = [*self._held, *new]
                errors: Sequence[Exception | None]
                try:
                    errors = await asyncio.to_thread(self._hear, [one.said for one in together])
                except Exception as failed:
                    errors = [failed] * len(together)
                self._held = [one for one, error in zip(together, errors, strict=True) if not _settled(one, error)]
                if self._held:
                    _log.warning("what agents say waits for the database", pieces=len(self._held))
                    await asyncio.sleep(RETRY_S)
        finally:
            self._working = None


def _settled(piece: _Piece, error: Exception | None) -> bool:
    """Whether it is done with, one way or the other; who put it is told then."""
    if isinstance(error, StoreError) and asyncio.get_running_loop().time() < piece.give_up:
        return False
    if not piece.outcome.done():
        if error is None:
            piece.outcome.set_result(None)
        else:
            piece.outcome.set_exception(error)
    return True
