"""Whole messages, as a node hands them on."""

from dataclasses import dataclass

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
