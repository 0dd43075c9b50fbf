"""Packed CAN frames: fixed-size records that are Linux' own frame structures with a timestamp in front.

A record is a little-endian int64 (ns since the Unix epoch) followed by ``struct can_frame`` (16 bytes) or
``struct canfd_frame`` (72 bytes) of ``linux/can.h``, so that a raw socket's bytes need no conversion.
"""

import struct
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from bench_agent.protocol import bench_pb2

if TYPE_CHECKING:
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
FD = 0x04
"""Flag: CAN FD frame (CANFD_FDF)."""
OWN = 0x80
"""Flag: put on the bus by the agent itself."""

CLASSIC_SIZE = 24
FD_SIZE = 80
FD_LENGTHS = (0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 20, 24, 32, 48, 64)
"""Data lengths in bytes that a CAN FD frame can have (ISO 11898-1, DLC table)."""

_CLASSIC = struct.Struct("<qIBBxx8s")
_FD = struct.Struct("<qIBBxx64s")
_STRUCTS = {CLASSIC_SIZE: _CLASSIC, FD_SIZE: _FD}
_LENGTH_AT = 12


class Frame(NamedTuple):
    """One CAN frame.

    ``timestamp_ns`` counts from the Unix epoch; ``can_id`` is the arbitration ID with the bits EXTENDED, REMOTE and
    ERROR as in SocketCAN; ``flags`` holds BITRATE_SWITCH, ERROR_STATE, FD and OWN; ``data`` has 0 to 64 bytes.
    """

    timestamp_ns: int
    can_id: int
    flags: int
    data: bytes

    @property
    def arbitration_id(self) -> int:
        """The bare identifier, 11 or 29 bits."""
        return self.can_id & ID_MASK

    def __str__(self) -> str:
        """The frame in candump's notation: ``123#1122``, ``123##1AABB`` for FD, ``123#R`` for a remote request."""
        identifier = f"{self.arbitration_id:08X}" if self.can_id & (EXTENDED | ERROR) else f"{self.arbitration_id:03X}"
        if self.flags & FD:
            return f"{identifier}##{self.flags & 0x0F & ~FD:X}{self.data.hex().upper()}"
        if self.can_id & REMOTE:
            return f"{identifier}#R"
        return f"{identifier}#{self.data.hex().upper()}"


def check(frame: Frame) -> None:
    """Raises ValueError, naming the field, when ``frame`` cannot be put on a CAN bus."""
    identifier, limit = frame.can_id & ID_MASK, ID_MASK if frame.can_id & EXTENDED else STANDARD_ID_MASK
    if frame.can_id < 0 or frame.can_id > 0xFFFF_FFFF or identifier > limit:
        raise ValueError(f"arbitration ID 0x{frame.can_id:X} is above 0x{limit:X}; set bit 31 for a 29-bit ID")
    length = len(frame.data)
    if frame.flags & FD:
        if length not in FD_LENGTHS:
            raise ValueError(f"data has {length} bytes; a CAN FD frame takes one of {FD_LENGTHS}")
    elif length > 8:
        raise ValueError(f"data has {length} bytes; a classic CAN frame takes at most 8")


def pack_classic(timestamp_ns: int, can_id: int, flags: int, data: bytes | bytearray) -> bytes:
    """One 24-byte record; ``data`` has at most 8 bytes."""
    return _CLASSIC.pack(timestamp_ns, can_id, len(data), flags, data)


def pack_fd(timestamp_ns: int, can_id: int, flags: int, data: bytes | bytearray) -> bytes:
    """One 80-byte record; ``data`` has at most 64 bytes."""
    return _FD.pack(timestamp_ns, can_id, len(data), flags, data)


def batch(frames: Iterable[Frame], *, sequence: int = 0, dropped: int = 0) -> bench_pb2.FrameBatch:
    """Packs ``frames`` into one batch: 24-byte records if all are classic, else 80-byte ones."""
    listed = list(frames)
    pack, size = (
        (pack_fd, FD_SIZE) if any(len(f.data) > 8 or f.flags & FD for f in listed) else (pack_classic, CLASSIC_SIZE)
    )
    return bench_pb2.FrameBatch(
        records=b"".join(pack(*frame) for frame in listed), record_size=size, sequence=sequence, dropped=dropped
    )


def unbatch(packed: bench_pb2.FrameBatch) -> Iterator[Frame]:
    """The frames of a batch, in order.

    Raises ValueError, before the first frame, when the record size is neither 24 nor 80, when the records do not fill
    the bytes, or when a length goes beyond its record.
    """
    check_records(packed.records, packed.record_size)
    return iter_records(packed.records, packed.record_size)


def check_records(records: bytes, record_size: int) -> None:
    """Raises ValueError when these are no records of that size, or one claims more data than it holds."""
    if record_size not in _STRUCTS:
        if not records:
            return
        raise ValueError(f"record_size is {record_size}; it must be {CLASSIC_SIZE} or {FD_SIZE}")
    if len(records) % record_size:
        raise ValueError(f"records has {len(records)} bytes, which is no multiple of record_size {record_size}")
    longest = max(records[_LENGTH_AT::record_size], default=0)
    if longest > record_size - 16:
        raise ValueError(f"a record claims {longest} data bytes; record_size {record_size} holds {record_size - 16}")


def array(records: bytes, record_size: int) -> "npt.NDArray[np.void]":
    """The records as a structured array that shares their memory: fields stamp, id, length, flags, data."""
    import numpy as np  # not needed to show a handful of frames, and slow to load

    width = (record_size or CLASSIC_SIZE) - 16
    layout: list[tuple[str, str] | tuple[str, str, tuple[int]]] = [
        ("stamp", "<i8"), ("id", "<u4"), ("length", "u1"), ("flags", "u1"), ("reserved", "u1", (2,)),
        ("data", "u1", (width,)),
    ]  # fmt: skip
    return np.frombuffer(records, np.dtype(layout))


def iter_records(records: bytes, record_size: int) -> Iterator[Frame]:
    """The frames of records that are sound."""
    rows = _STRUCTS[record_size].iter_unpack(records) if records else ()
    return (Frame(stamp, can_id, flags, data[:length]) for stamp, can_id, length, flags, data in rows)
