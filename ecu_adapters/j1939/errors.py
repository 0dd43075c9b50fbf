"""How J1939 fails: what the state machines report, and what callers get."""

import enum
from dataclasses import dataclass


class Fault(enum.StrEnum):
    """Why a message was lost, or a request had no answer."""

    ABORTED = "aborted"
    """The peer sent Connection Abort; the reason tells why."""
    TIMEOUT = "timeout"
    """The peer fell silent (J1939-21, 5.10.3: T1 to T4)."""
    SEQUENCE = "sequence"
    """Data packets were lost or out of order, and could not be had again."""
    UNEXPECTED = "unexpected"
    """A frame that no conforming peer sends."""
    NO_ROOM = "no_room"
    """More messages, or sessions, at once than this node carries."""
    SEND_TIMEOUT = "send_timeout"
    """The message was not sent within the caller's limit."""
    NO_ANSWER = "no_answer"
    """Nobody answered a request."""
    REFUSED = "refused"
    """The answer to a request was a negative acknowledgement; the reason tells which."""
    ADDRESS = "address"
    """Another node has the address, by a NAME that wins."""
    BUS = "bus"
    """The bus driver did not take a frame."""
    CLOSED = "closed"
    """The node was closed."""


class Abort(enum.IntEnum):
    """Reasons of Connection Abort (J1939-21, table 7)."""

    BUSY = 1
    NO_RESOURCES = 2
    TIMEOUT = 3
    CTS_DURING_TRANSFER = 4
    RETRANSMISSIONS = 5
    UNEXPECTED_DATA = 6
    BAD_SEQUENCE = 7
    DUPLICATE_SEQUENCE = 8
    TOO_LONG = 9
    OTHER = 250


_ABORT_TEXTS: dict[int, str] = {
    Abort.BUSY: "it is in a session already and cannot take another",
    Abort.NO_RESOURCES: "it needs its resources for another task",
    Abort.TIMEOUT: "it has waited too long",
    Abort.CTS_DURING_TRANSFER: "a CTS came while data was being transferred",
    Abort.RETRANSMISSIONS: "too many retransmissions were asked for",
    Abort.UNEXPECTED_DATA: "a data packet came that it did not expect",
    Abort.BAD_SEQUENCE: "a data packet had a wrong sequence number",
    Abort.DUPLICATE_SEQUENCE: "a data packet came twice",
    Abort.TOO_LONG: "the message has more than 1785 bytes",
    Abort.OTHER: "another reason",
}
_ACKNOWLEDGEMENT_TEXTS = {1: "negative acknowledgement", 2: "access denied", 3: "cannot respond now"}


def abort_text(reason: int) -> str:
    """What a reason of Connection Abort means, with its number."""
    return (
        f"{_ABORT_TEXTS.get(Abort(reason), '') if reason in set(Abort) else 'not in J1939-21'} (abort reason {reason})"
    )


def acknowledgement_text(control: int) -> str:
    """What the control byte of an acknowledgement means, with its number (J1939-21, 5.4.4)."""
    return f"{_ACKNOWLEDGEMENT_TEXTS.get(control, 'not in J1939-21')} (control byte {control})"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a state machine gave a message up."""

    kind: Fault
    reason: str
    frame: str = ""
    """The frame that caused it, as candump writes it; the last one before a silence. Empty if there was none."""
    code: int = 0
    """The peer's abort reason, or the control byte of its acknowledgement; 0: neither."""


class J1939Error(Exception):
    """A message could not be sent, or a request was not answered."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.reason)
        self.kind = failure.kind
        self.frame = failure.frame
        self.code = failure.code


def frame_text(can_id: int, data: bytes) -> str:
    """A frame as candump logs it: ``18FECA00#00FF00000000FFFF``."""
    return f"{can_id:08X}#{data.hex().upper()}"
