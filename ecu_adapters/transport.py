"""What carries UDS: the interface that ISO-TP and DoIP share, and how they fail."""

import enum
from collections.abc import Callable
from typing import Protocol

ABSENCE_S = 0.01
"""A timer that comes later than this tells that the process, or its machine, stood still: nobody heard the peer."""


class Fault(enum.StrEnum):
    """Why a PDU was lost."""

    FC_TIMEOUT = "fc_timeout"
    """No flow control came (ISO 15765-2, N_TIMEOUT_Bs)."""
    CF_TIMEOUT = "cf_timeout"
    """The next consecutive frame did not come (N_TIMEOUT_Cr)."""
    WRONG_SEQUENCE_NUMBER = "wrong_sequence_number"
    """A consecutive frame was lost, doubled or out of order (N_WRONG_SN)."""
    OVERFLOW = "overflow"
    """The PDU is longer than its receiver takes (N_BUFFER_OVFLW)."""
    TOO_MANY_WAIT = "too_many_wait"
    """The receiver asked for more patience than N_WFTmax allows (N_WFT_OVRN)."""
    INVALID_FRAME = "invalid_frame"
    """A frame that no conforming peer sends (N_INVALID_FS)."""
    SEND_TIMEOUT = "send_timeout"
    """The PDU was not sent within the caller's limit."""
    BUS = "bus"
    """The bus driver did not take a frame (N_TIMEOUT_A among other reasons)."""
    CONNECTION = "connection"
    """DoIP: the TCP connection cannot be made, or broke."""
    REFUSED = "refused"
    """DoIP: the entity refused routing activation or the diagnostic message (ISO 13400-2)."""
    CLOSED = "closed"
    """This end was closed."""


class TransportError(Exception):
    """A PDU could not be sent or received.

    ``frame`` is the frame that caused it, as candump writes it: the one that should not have come, or the last one
    before a silence. Empty when there was none.
    """

    def __init__(self, message: str, kind: Fault, frame: str = "") -> None:
        super().__init__(message)
        self.kind = kind
        self.frame = frame


PduListener = Callable[[bytes, bool], None]
"""Takes a whole PDU, and whether it came by the functional address."""


class Transport(Protocol):
    """One tester's or ECU's end of a connection. Made, used and closed on one asyncio loop."""

    @property
    def last_frame(self) -> str:
        """The last frame that went to the peer alone, as candump writes it; empty where there are no frames."""

    async def connect(self, *, timeout_s: float = 30.0) -> None:
        """Makes the connection, where there is one to make; `send` does so by itself. Raises TransportError."""

    @property
    def receiving(self) -> bool:
        """Whether a PDU has begun to come and is not complete; it will be, or fail, within the transport's own time."""

    async def send(self, pdu: bytes, *, timeout_s: float = 30.0) -> None:
        """Returns when the whole PDU is on its way. Raises TransportError."""

    def post(self, pdu: bytes) -> None:
        """Sends without waiting; a failure is counted and logged. PDUs keep their order."""

    def send_functional(self, pdu: bytes) -> None:
        """Sends to all ECUs, once connected. Raises TransportError, also when there is no functional address."""

    def poll(self) -> None:
        """Takes what has arrived already: call it before concluding that nothing came."""

    def close(self) -> None:
        """Forgets what was in work. Closing twice does nothing."""
