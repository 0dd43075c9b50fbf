"""All messages of one node on their way, as a pure state machine: frames and the time go in, events come out.

Between two nodes there is one connection in each direction at a time, and one broadcast of each node, because data
packets carry no parameter group (J1939-21, 5.10.1); messages beyond that wait for their turn.
"""

from collections import deque
from dataclasses import dataclass

from ecu_adapters.j1939.codec import (
    CONNECTION,
    DATA,
    LONGEST,
    SINGLE,
    Control,
    abort,
    parse_announcement,
    pgn_of_connection,
)
from ecu_adapters.j1939.errors import Abort, Failure, Fault
from ecu_adapters.j1939.identifier import GLOBAL, Identifier, IdentifierError, check_pgn
from ecu_adapters.j1939.receiver import Listener, Responder
from ecu_adapters.j1939.sender import Broadcast, Originator
from ecu_adapters.j1939.session import Frame, Session
from ecu_adapters.j1939.settings import Settings


@dataclass(frozen=True, slots=True)
class Received:
    """A message that took more than one frame has come."""

    pgn: int
    source: int
    destination: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Sent:
    """The message with this number has been sent, or has not."""

    number: int
    destination: int
    failure: Failure | None


@dataclass(frozen=True, slots=True)
class Lost:
    """A message that had begun to come will not."""

    pgn: int
    source: int
    failure: Failure


Event = Frame | Received | Sent | Lost


@dataclass(slots=True)
class _Waiting:
    number: int
    pgn: int
    data: bytes


class TransportProtocol:
    """The transport protocol of the node with address ``own``. Frames that it hands out are to be sent in order."""

    def __init__(self, own: int, settings: Settings) -> None:
        self.ignored = 0
        """Frames of the transport protocol that belong to no session."""
        self._own = own
        self._settings = settings
        self._numbers = 0
        self._queues: dict[int, deque[_Waiting]] = {}
        self._sending: dict[int, tuple[int, Originator | Broadcast]] = {}
        """By destination: the message's number and its session."""
        self._receiving: dict[tuple[int, bool], Responder | Listener] = {}
        """By source, and whether it is a broadcast."""
        self._events: list[Event] = []

    @property
    def due(self) -> float | None:
        """When `advance` has something to do if no frame comes before."""
        times = [session.due for session in self._sessions() if session.due is not None]
        return min(times) if times else None

    @property
    def busy(self) -> bool:
        """Whether any message is on its way."""
        return bool(self._sending or self._receiving)

    def send(self, pgn: int, data: bytes, destination: int, now: float) -> int:
        """Takes a message of 9 .. 1785 bytes and returns its number, which `Sent` names. Its first frame comes out of
        `advance`.

        Raises IdentifierError, ValueError for a bad length, and OverflowError when too many messages wait already.
        """
        check_pgn(pgn)
        if not SINGLE < len(data) <= LONGEST:
            raise ValueError(f"data has {len(data)} bytes; the transport protocol carries {SINGLE + 1} .. {LONGEST}")
        if destination == self._own:
            raise IdentifierError(f"destination address is 0x{destination:02X}, the node's own")
        queue = self._queues.setdefault(destination, deque())
        if len(queue) >= self._settings.queue:
            raise OverflowError(f"{len(queue)} messages to 0x{destination:02X} wait to be sent already")
        self._numbers += 1
        queue.append(_Waiting(self._numbers, pgn, data))
        self._begin(destination, now)
        return self._numbers

    def withdraw(self, number: int, now: float) -> list[Event]:
        """Gives up sending a message; a connection is aborted. Its `Sent` does not come."""
        for destination, queue in self._queues.items():
            for waiting in queue:
                if waiting.number == number:
                    queue.remove(waiting)
                    return self._taken()
            current = self._sending.get(destination)
            if current is not None and current[0] == number:
                if isinstance(current[1], Originator):
                    current[1].connection(abort(Abort.OTHER, current[1].pgn))
                self._flush(current[1])
                del self._sending[destination]
                self._begin(destination, now)
                break
        return self._taken()

    def take(self, frame: Frame, now: float) -> list[Event]:
        """A frame came that is meant for this node or for all."""
        pgn, data = frame.identifier.pgn, frame.data
        if pgn not in (CONNECTION, DATA):
            return []
        if len(data) != SINGLE:
            self.ignored += 1
        elif pgn == DATA:
            self._data(frame, now)
        else:
            self._connection(frame, now)
        return self._taken()

    def excuse(self, until: float) -> None:
        """Nobody could hear the other nodes for a while: what they owe may come until then. Once per wait."""
        for session in self._sessions():
            session.excuse(until)

    def advance(self, now: float) -> list[Event]:
        """Does what is due."""
        for _, session in list(self._sending.values()):
            session.advance(now)
        for receiving in list(self._receiving.values()):
            receiving.advance(now)
        self._settle(now)
        return self._taken()

    def break_off(self, destination: int, failure: Failure, now: float) -> list[Event]:
        """A frame to ``destination`` was not sent: gives up all messages to and from there."""
        _, sending = self._sending.get(destination, (0, None))
        for session in (sending, self._receiving.get((destination, False))):
            if session is not None:
                session.out.clear()
                session.over, session.failure = True, failure
        self._settle(now)
        return self._taken()

    def is_receiving(self, pgn: int, source: int | None) -> bool:
        """Whether a message of this group is on its way here, from ``source`` or, for None, from anybody."""
        return any(
            session.pgn == pgn and source in (None, peer) and not session.over
            for (peer, _), session in self._receiving.items()
        )

    def _sessions(self) -> list[Session]:
        return [*(session for _, session in self._sending.values()), *self._receiving.values()]

    def _begin(self, destination: int, now: float) -> None:
        queue = self._queues[destination]
        if destination in self._sending or not queue:
            return
        waiting = queue.popleft()
        session: Originator | Broadcast
        if destination == GLOBAL:
            session = Broadcast(waiting.pgn, waiting.data, self._own, self._settings, now)
        else:
            session = Originator(waiting.pgn, waiting.data, self._own, destination, self._settings, now)
        self._sending[destination] = waiting.number, session
        self._flush(session)

    def _data(self, frame: Frame, now: float) -> None:
        key = frame.identifier.source, frame.identifier.destination == GLOBAL
        session = self._receiving.get(key)
        if session is None:
            self.ignored += 1
            return
        session.take(frame, now)
        self._settle(now)

    def _connection(self, frame: Frame, now: float) -> None:
        control, pgn = frame.data[0], pgn_of_connection(frame.data)
        source, to_all = frame.identifier.source, frame.identifier.destination == GLOBAL
        if control == (Control.BAM if to_all else Control.RTS):
            self._announced(frame, pgn, now)
        elif to_all:
            self.ignored += 1
        elif control in (Control.CTS, Control.END, Control.ABORT):
            _, originator = self._sending.get(source, (0, None))
            responder = self._receiving.get((source, False))
            matched = False
            if isinstance(originator, Originator) and originator.pgn == pgn:
                originator.take(frame, now)
                matched = True
            if control == Control.ABORT and responder is not None and responder.pgn == pgn:
                responder.take(frame, now)
                matched = True
            self.ignored += not matched
        else:
            self.ignored += 1
        self._settle(now)

    def _announced(self, frame: Frame, pgn: int, now: float) -> None:
        announced = parse_announcement(frame.data)
        source, to_all = frame.identifier.source, frame.identifier.destination == GLOBAL
        key = source, to_all
        reply: Abort | None = None
        current = self._receiving.get(key)
        if not announced.valid:
            reply, reason = Abort.TOO_LONG, f"{announced.size} bytes in {announced.packets} packets are announced"
            if announced.size <= LONGEST:
                reply = Abort.OTHER
        elif current is not None and current.pgn != pgn and not to_all:
            reply, reason = Abort.BUSY, f"a message of PGN 0x{current.pgn:04X} is on its way from the same node"
        elif current is None and len(self._receiving) >= self._settings.sessions:
            reply, reason = Abort.NO_RESOURCES, f"{len(self._receiving)} messages are on their way to this node already"
        if reply is not None:
            if not to_all:
                self._events.append(_abort(frame, reply, pgn))
            kind = Fault.NO_ROOM if reply in (Abort.BUSY, Abort.NO_RESOURCES) else Fault.UNEXPECTED
            self._events.append(Lost(pgn, source, Failure(kind, reason, str(frame))))
            return
        if current is not None:
            # The sender has begun anew, and will not go on with the message before (J1939-21, 5.10.3.2).
            reason = f"0x{source:02X} began another message before this one was complete"
            self._events.append(Lost(current.pgn, source, Failure(Fault.UNEXPECTED, reason, str(frame))))
        kind_of = Listener if to_all else Responder
        session = kind_of(pgn, announced, self._own, source, self._settings, now)
        session.last = session.last or str(frame)
        self._receiving[key] = session

    def _settle(self, now: float) -> None:
        """Hands out what the sessions have to say, and forgets those that are over."""
        for destination, (number, session) in list(self._sending.items()):
            self._flush(session)
            if session.over:
                del self._sending[destination]
                self._events.append(Sent(number, destination, session.failure))
                self._begin(destination, now)
        for key, receiving in list(self._receiving.items()):
            self._flush(receiving)
            if not receiving.over:
                continue
            del self._receiving[key]
            if receiving.failure is not None:
                self._events.append(Lost(receiving.pgn, key[0], receiving.failure))
            else:
                destination = GLOBAL if key[1] else self._own
                self._events.append(Received(receiving.pgn, key[0], destination, receiving.data))

    def _flush(self, session: Session) -> None:
        self._events += session.out
        session.out.clear()

    def _taken(self) -> list[Event]:
        events, self._events = self._events, []
        return events


def _abort(frame: Frame, reason: Abort, pgn: int) -> Frame:
    """The answer to an RTS that is not taken."""
    asked = frame.identifier
    return Frame(Identifier(CONNECTION, asked.destination, asked.source, asked.priority), abort(reason, pgn))
