"""How ISO-TP fails: what the state machines report, and what callers get."""

from dataclasses import dataclass

from ecu_adapters.transport import Fault, TransportError


class IsoTpError(TransportError):
    """A PDU could not be sent or received: flow control, sequence number, overflow, time-out, or the bus."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a state machine gave a PDU up. It knows the frame's data, but not the IDs of the connection."""

    kind: Fault
    reason: str
    data: bytes = b""
    """Of the frame that caused it."""
    received: bool = True
    """Whether that frame was received; else it was sent."""


def frame_text(can_id: int, extended: bool, data: bytes, fd: bool) -> str:
    """A frame as candump logs it: ``7E8#0462F19041``, with 29 bits ``18DAF110#...``, on CAN FD ``7E8##1...``."""
    identifier = f"{can_id:08X}" if extended else f"{can_id:03X}"
    return f"{identifier}{'##1' if fd else '#'}{data.hex().upper()}"


def closed() -> IsoTpError:
    """What everybody gets from an endpoint that is closed."""
    return IsoTpError("the ISO-TP endpoint is closed", Fault.CLOSED)
