"""Whole messages, as a node hands them on."""

from dataclasses import dataclass

from ecu_adapters.j1939.codec import LONGEST, SINGLE
from ecu_adapters.j1939.identifier import GLOBAL, Identifier, IdentifierError, check_address, check_pgn, is_pdu1
from ecu_adapters.j1939.session import Frame


@dataclass(frozen=True, slots=True)
class Message:
    """A message, whether it came in one frame or in many."""

    pgn: int
    source: int
    destination: int
    """The node's address, or the global one (255)."""
    priority: int
    """Of a message in many frames, that of the last one."""
    data: bytes
    timestamp: float
    """Of its last frame (s since the Unix epoch)."""

    @classmethod
    def of(cls, frame: Frame, timestamp: float) -> "Message":
        """A message in one frame."""
        identifier = frame.identifier
        return cls(
            identifier.pgn, identifier.source, identifier.destination, identifier.priority, frame.data, timestamp
        )


def check_message(pgn: int, data: bytes, own: int, destination: int, priority: int) -> None:
    """Whether the node with address ``own`` can send this.

    Raises IdentifierError for the PGN, an address or the priority, ValueError for data that is too long.
    """
    check_pgn(pgn)
    Identifier(pgn, own, GLOBAL, priority)
    if len(data) > LONGEST:
        raise ValueError(f"data has {len(data)} bytes; a message has at most {LONGEST}")
    if destination == GLOBAL:
        return
    check_address(destination, "destination address")
    if destination == own:
        raise IdentifierError(f"destination address is 0x{destination:02X}, the node's own")
    if not is_pdu1(pgn) and len(data) <= SINGLE:
        raise IdentifierError(
            f"destination address is 0x{destination:02X}, but PGN 0x{pgn:04X} (PDU2) goes to all; "
            f"only more than {SINGLE} bytes of it can go to one node"
        )
