"""Requests for parameter groups that wait for their answers (J1939-21, 5.4.2 and 5.4.4). Used on one asyncio loop."""

import asyncio
from dataclasses import dataclass

from ecu_adapters.j1939.codec import SINGLE, pgn_of_connection
from ecu_adapters.j1939.errors import Failure, Fault, J1939Error, acknowledgement_text
from ecu_adapters.j1939.identifier import GLOBAL
from ecu_adapters.j1939.message import Message
from ecu_adapters.j1939.session import Frame
from ecu_adapters.j1939.transport import Lost

POSITIVE, NEGATIVE = 0, 1
"""Control bytes of an acknowledgement."""


@dataclass(eq=False, slots=True)
class Asked:
    """One request."""

    pgn: int
    destination: int
    answer: "asyncio.Future[Message]"

    def concerns(self, pgn: int, source: int) -> bool:
        """Whether a message of this group from there ends the waiting."""
        return self.pgn == pgn and self.destination in (source, GLOBAL) and not self.answer.done()


class Requests:
    """All requests of a node that are open."""

    def __init__(self) -> None:
        self._open: list[Asked] = []

    def add(self, pgn: int, destination: int) -> Asked:
        """Waits from now on; to be ended with `remove`."""
        asked = Asked(pgn, destination, asyncio.get_running_loop().create_future())
        self._open.append(asked)
        return asked

    def remove(self, asked: Asked) -> None:
        """Waits no longer."""
        self._open.remove(asked)

    def take(self, message: Message) -> None:
        """A message came: it answers those who asked for it."""
        for asked in self._open:
            if asked.concerns(message.pgn, message.source):
                asked.answer.set_result(message)

    def acknowledged(self, frame: Frame, timestamp: float, own: int) -> None:
        """An acknowledgement came; only the node that was asked can give one."""
        data, source = frame.data, frame.identifier.source
        # Nodes of before 2006 leave the address of who is meant at 255.
        if len(data) != SINGLE or data[4] not in (own, GLOBAL):
            return
        for asked in self._open:
            if asked.destination != source or not asked.concerns(pgn_of_connection(data), source):
                continue
            if data[0] == POSITIVE:
                asked.answer.set_result(Message.of(frame, timestamp))
            else:
                why = acknowledgement_text(data[0])
                reason = f"0x{source:02X} refused the request for PGN 0x{asked.pgn:04X}: {why}"
                asked.answer.set_exception(J1939Error(Failure(Fault.REFUSED, reason, str(frame), data[0])))

    def lost(self, lost: Lost) -> None:
        """An answer had begun to come."""
        for asked in self._open:
            if asked.concerns(lost.pgn, lost.source):
                asked.answer.set_exception(J1939Error(lost.failure))

    def close(self) -> None:
        """Ends all waiting."""
        for asked in self._open:
            if not asked.answer.done():
                asked.answer.set_exception(J1939Error(Failure(Fault.CLOSED, "the J1939 node is closed")))
