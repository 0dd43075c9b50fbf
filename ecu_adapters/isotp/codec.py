"""Frames of ISO-TP, to bytes and back (ISO 15765-2, 9.6).

``prefix`` is the address byte that extended and mixed addressing put in front, ``at`` its length.
"""

import enum
from dataclasses import dataclass

SINGLE, FIRST, CONSECUTIVE, FLOW_CONTROL = range(4)
"""The upper half of the first byte: the kind of frame."""

LONGEST = 0xFFFF_FFFF
"""Bytes of the longest PDU; above 4,095 its length takes 32 bits."""
_LONGEST_SHORT = 0xFFF
_FD_LENGTHS = (12, 16, 20, 24, 32, 48, 64)
_DEFAULT_PADDING = 0xCC
_LONGEST_STMIN_S = 0.127


class FlowStatus(enum.IntEnum):
    """What a flow control frame tells the sender."""

    CONTINUE = 0
    WAIT = 1
    OVERFLOW = 2


@dataclass(frozen=True, slots=True)
class FlowControl:
    """A flow control frame."""

    status: int
    block_size: int
    """Consecutive frames until the next flow control; 0: all of them."""
    stmin_s: float
    """Least time between two consecutive frames."""


@dataclass(frozen=True, slots=True)
class First:
    """A first frame."""

    length: int
    """Bytes of the whole PDU."""
    data: bytes
    """Its beginning."""


def padded(data: bytes, padding: int | None) -> bytes:
    """As long as a frame must be: 8 bytes if padding is wanted; above 8 bytes, one of the lengths that CAN FD has."""
    length = len(data)
    if length <= 8:
        return data if padding is None or length == 8 else data.ljust(8, bytes((padding,)))
    # Only some lengths exist, so that padding is a must; CC is the standard's default.
    target = next(size for size in _FD_LENGTHS if size >= length)
    return data.ljust(target, bytes((_DEFAULT_PADDING if padding is None else padding,)))


def single_frame(pdu: bytes, frame_length: int, padding: int | None, prefix: bytes = b"") -> bytes | None:
    """The data of a single frame (9.6.2), or None when ``pdu`` does not fit ``frame_length`` bytes."""
    length, taken = len(pdu), len(prefix)
    if length <= 7 - taken:
        return padded(prefix + bytes((length,)) + pdu, padding)
    if length > frame_length - 2 - taken or frame_length <= 8:
        return None
    return padded(prefix + bytes((0, length)) + pdu, padding)


def parse_single_frame(data: bytes, at: int = 0) -> bytes | None:
    """The PDU of a single frame, or None when ``data`` is no valid one. ``at`` is the length of the address byte."""
    size = len(data)
    if size <= at or data[at] > 0x0F:
        return None
    if length := data[at]:
        # The short form is for frames of up to 8 bytes (9.6.2.1).
        return data[at + 1 : at + 1 + length] if length < size - at and size <= 8 else None
    if size <= 8 or not 7 - at < data[at + 1] <= size - 2 - at:
        return None
    return data[at + 2 : at + 2 + data[at + 1]]


def first_frame(pdu: bytes, frame_length: int, prefix: bytes = b"") -> tuple[bytes, int]:
    """The data of a first frame (9.6.3), and how many bytes of ``pdu`` it carries."""
    length = len(pdu)
    if length <= _LONGEST_SHORT:
        head = prefix + bytes((0x10 | length >> 8, length & 0xFF))
    else:
        head = prefix + b"\x10\x00" + length.to_bytes(4, "big")
    room = frame_length - len(head)
    return head + pdu[:room], room


def parse_first_frame(data: bytes, at: int = 0) -> First | None:
    """None when ``data`` is no valid first frame: too short, or its PDU would have fitted a single frame."""
    size = len(data)
    if size < 8:
        return None
    length = (data[at] & 0x0F) << 8 | data[at + 1]
    if length:
        start = at + 2
    else:
        start, length = at + 6, int.from_bytes(data[at + 2 : at + 6], "big")
        if length <= _LONGEST_SHORT:
            return None
    fits_single = 7 - at if size == 8 else size - 2 - at
    return None if length <= fits_single else First(length, data[start:])


def flow_control(status: int, block_size: int, stmin: int, padding: int | None, prefix: bytes = b"") -> bytes:
    """The data of a flow control frame (9.6.5); ``stmin`` as on the wire: 0x00-0x7F in ms, 0xF1-0xF9 in 100 µs."""
    return padded(prefix + bytes((0x30 | status, block_size, stmin)), padding)


def parse_flow_control(data: bytes, at: int = 0) -> FlowControl | None:
    """None when ``data`` is too short for one. A reserved STmin counts as 127 ms (9.6.5.5)."""
    if len(data) < at + 3:
        return None
    coded = data[at + 2]
    if coded <= 0x7F:
        stmin_s = coded / 1000
    elif 0xF1 <= coded <= 0xF9:
        stmin_s = (coded - 0xF0) / 10_000
    else:
        stmin_s = _LONGEST_STMIN_S
    return FlowControl(data[at] & 0x0F, data[at + 1], stmin_s)
