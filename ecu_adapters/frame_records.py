"""CAN frames as packed records: Linux' own frame structures with a timestamp in front, many of them in one array.

A record is a little-endian int64 (ns since the Unix epoch, in whole µs) followed by ``struct can_frame`` (16 bytes) or
``struct canfd_frame`` (72 bytes) of ``linux/can.h``. An array holds records of one size: `CLASSIC` while all its
frames are classic, else `FD`. Thousands of frames are filtered, stamped and copied in a few calls of numpy.
"""

import struct
from collections.abc import Sequence
from typing import cast

import can
import numpy as np
import numpy.typing as npt

EXTENDED = 0x8000_0000
"""Bit of a SocketCAN arbitration ID: 29-bit identifier (CAN_EFF_FLAG)."""
REMOTE = 0x4000_0000
"""Bit of a SocketCAN arbitration ID: remote transmission request (CAN_RTR_FLAG)."""
ERROR = 0x2000_0000
"""Bit of a SocketCAN arbitration ID: error message frame (CAN_ERR_FLAG)."""
ID_MASK = 0x1FFF_FFFF
STANDARD_ID_MASK = 0x7FF

BITRATE_SWITCH = 0x01
"""Flag: the data phase ran at the higher bit rate (CANFD_BRS)."""
ERROR_STATE = 0x02
"""Flag: the sender was error passive (CANFD_ESI)."""
FD_FRAME = 0x04
"""Flag: CAN FD frame (CANFD_FDF)."""
OWN = 0x80
"""Flag: put on the bus by ourselves."""

FD_LENGTHS = frozenset((0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 20, 24, 32, 48, 64))
"""Data lengths in bytes that a CAN FD frame can have (ISO 11898-1, DLC table)."""

Records = npt.NDArray[np.void]
_Fields = tuple[int, int, int, int, object, npt.NDArray[np.uint8]]


def _layout(data_bytes: int) -> np.dtype[np.void]:
    return np.dtype(
        [
            ("stamp", "<i8"),
            ("id", "<u4"),
            ("length", "u1"),
            ("flags", "u1"),
            ("reserved", "u1", (2,)),
            ("data", "u1", (data_bytes,)),
        ]
    )


CLASSIC = _layout(8)
FD = _layout(64)

NONE: Records = np.zeros(0, CLASSIC)

_CLASSIC_ROW = struct.Struct("<qIBBxx8s")
_FD_ROW = struct.Struct("<qIBBxx64s")
_IS_LENGTH = np.zeros(256, np.bool_)
_IS_LENGTH[list(FD_LENGTHS)] = True


def to_ns(seconds: float) -> int:
    """A time of day in s as ns, in whole µs: a float carries no more, and so the way back and forth is exact."""
    return round(seconds * 1e6) * 1000


def pack(messages: Sequence[can.Message]) -> Records:
    """The records of python-can's messages."""
    fd = any(message.is_fd for message in messages)
    row = _FD_ROW.pack if fd else _CLASSIC_ROW.pack
    # Rows of struct are several times faster here than filling an array field by field.
    rows = [row(to_ns(m.timestamp), can_id(m), m.dlc, flags(m), bytes(m.data or b"")) for m in messages]
    return np.frombuffer(b"".join(rows), FD if fd else CLASSIC)


def row(arbitration_id: int, bits: int, payloads: Sequence[bytes]) -> Records:
    """Frames that have ID (as in SocketCAN) and flags in common, not stamped yet."""
    layout = _FD_ROW if bits & FD_FRAME else _CLASSIC_ROW
    rows = [layout.pack(0, arbitration_id, len(data), bits, data) for data in payloads]
    return np.frombuffer(b"".join(rows), FD if bits & FD_FRAME else CLASSIC)


def unpack(record: np.void, channel: str | int | None = None) -> can.Message:
    """python-can's message of one record."""
    stamp, identifier, length, bits, _, data = cast("_Fields", record.item())
    fd, remote = bool(bits & FD_FRAME), bool(identifier & REMOTE)
    return can.Message(
        timestamp=stamp / 1e9,
        arbitration_id=identifier & ID_MASK,
        is_extended_id=bool(identifier & EXTENDED),
        is_remote_frame=remote,
        is_error_frame=bool(identifier & ERROR),
        is_fd=fd,
        is_rx=not bits & OWN,
        bitrate_switch=fd and bool(bits & BITRATE_SWITCH),
        error_state_indicator=fd and bool(bits & ERROR_STATE),
        dlc=length,
        data=b"" if remote else bytes(data[:length]),
        channel=channel,
    )


def can_id(message: can.Message) -> int:
    """The arbitration ID as in SocketCAN, with its flag bits."""
    value = message.arbitration_id
    if message.is_extended_id:
        value |= EXTENDED
    if message.is_remote_frame or message.is_error_frame:
        value |= (REMOTE if message.is_remote_frame else 0) | (ERROR if message.is_error_frame else 0)
    return value


def flags(message: can.Message) -> int:
    """The frame's flags byte."""
    value = 0 if message.is_rx else OWN
    if message.is_fd:
        value |= FD_FRAME
        if message.bitrate_switch:
            value |= BITRATE_SWITCH
        if message.error_state_indicator:
            value |= ERROR_STATE
    return value


def widen(records: Records) -> Records:
    """The same frames as records of the larger size."""
    if records.dtype == FD:
        return records
    wide = np.zeros(len(records), FD)
    for field in ("stamp", "id", "length", "flags", "reserved"):
        wide[field] = records[field]
    wide["data"][:, :8] = records["data"]
    return wide


def join(parts: Sequence[Records]) -> Records:
    """All frames of ``parts`` (one or more), in order."""
    if len(parts) == 1:
        return parts[0]
    if len({part.dtype for part in parts}) > 1:
        parts = [widen(part) for part in parts]
    # np.concatenate looks at structured types field by field, in Python.
    return np.frombuffer(b"".join([part.tobytes() for part in parts]), parts[0].dtype)


def fault(records: Records, *, fd: bool) -> tuple[int, str] | None:
    """The first frame that cannot be sent on a bus, which speaks ``fd`` or not, and why; None when all can."""
    ids, lengths = records["id"], records["length"]
    is_fd = (records["flags"] & FD_FRAME) != 0
    limits = np.where(ids & EXTENDED, ID_MASK, STANDARD_ID_MASK)
    wrong_length = np.where(is_fd, ~_IS_LENGTH[lengths], lengths > 8)
    wrong = ((ids & ID_MASK) > limits) | wrong_length | ((ids & ERROR) != 0) | (is_fd & ((ids & REMOTE) != 0))
    if not fd:
        wrong |= is_fd
    if not wrong.any():
        return None
    index = int(wrong.argmax())
    identifier, length = int(ids[index]), int(lengths[index])
    if identifier & ERROR:
        return index, "an error frame cannot be sent"
    if identifier & ID_MASK > int(limits[index]):
        return index, f"arbitration ID 0x{identifier & ID_MASK:X} is above 0x{int(limits[index]):X}"
    if not is_fd[index]:
        return index, f"data has {length} bytes; a classic CAN frame takes at most 8"
    if identifier & REMOTE:
        return index, "CAN FD knows no remote frames"
    if not fd:
        return index, "the bus is classic CAN; the frame is CAN FD"
    return index, f"data has {length} bytes; CAN FD takes one of {sorted(FD_LENGTHS)}"


def matches(records: Records, filters: Sequence[tuple[int, int]]) -> npt.NDArray[np.bool_]:
    """Which frames pass: those whose ID equals that of any (ID, mask) pair in the bits of its mask."""
    ids = records["id"]
    passed = np.zeros(len(records), np.bool_)
    for wanted, mask in filters:
        passed |= (ids & np.uint32(mask)) == np.uint32(wanted & mask)
    return passed
