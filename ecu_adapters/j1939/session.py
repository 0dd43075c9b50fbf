"""What the sending and the receiving state machines share: one message on its way. Time is handed in (s, monotonic)."""

from dataclasses import dataclass

from ecu_adapters.j1939.codec import CONNECTION, DATA, abort
from ecu_adapters.j1939.errors import Abort, Failure, Fault, frame_text
from ecu_adapters.j1939.identifier import Identifier
from ecu_adapters.j1939.settings import Settings

_PRIORITY = 7
"""Of all frames of the transport protocol (J1939-21, 5.10.3)."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame that is to be sent, or was received."""

    identifier: Identifier
    data: bytes

    def __str__(self) -> str:
        return frame_text(self.identifier.can_id, self.data)


class Session:
    """One message between two nodes, or from one to all."""

    def __init__(self, pgn: int, own: int, peer: int, settings: Settings) -> None:
        self.pgn = pgn
        self.own = own
        self.peer = peer
        """The other node's address, or the global one of a broadcast that we send."""
        self.settings = settings
        self.out: list[Frame] = []
        """Frames that are to be sent, in this order."""
        self.due: float | None = None
        """When there is something to do without a frame coming in."""
        self._excused: float | None = None
        self.over = False
        self.failure: Failure | None = None
        """Why it is over; None when all went well."""
        self.last = ""
        """The latest frame of the session, as candump writes it."""

    @property
    def awaits_peer(self) -> bool:
        """Whether what is due is the end of patience with the peer."""
        return False

    def excuse(self, until: float) -> None:
        """Nobody could hear the peer for a while: what is waited for may come until then. Once per wait."""
        if self.awaits_peer and self.due is not None and self.due != self._excused:
            self._excused = self.due = max(self.due, until)

    def connection(self, data: bytes) -> None:
        """Sends a frame of connection management."""
        self._put(CONNECTION, data)

    def packet(self, data: bytes) -> None:
        """Sends a data packet."""
        self._put(DATA, data)

    def end(self) -> None:
        """All went well."""
        self.over, self.due = True, None

    def fail(self, kind: Fault, reason: str, *, tell: Abort | None = None, code: int = 0) -> None:
        """Gives the message up; ``tell`` is the reason that the peer is told."""
        self.over, self.due = True, None
        self.failure = Failure(kind, reason, self.last, code)
        if tell is not None:
            self.connection(abort(tell, self.pgn))

    def _put(self, pgn: int, data: bytes) -> None:
        frame = Frame(Identifier(pgn, self.own, self.peer, _PRIORITY), data)
        self.last = str(frame)
        self.out.append(frame)
