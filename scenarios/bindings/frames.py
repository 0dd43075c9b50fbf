"""Frames as scripts write them: an arbitration ID, hexadecimal data, and switches."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from scenarios.values import from_hex

if TYPE_CHECKING:
    from bench_agent.protocol.frames import Frame


def frame_of(can_id: int, data: object, switches: Mapping[str, bool]) -> "Frame":
    """A frame to be sent. Raises ValueError that names what is wrong."""
    from bench_agent.protocol.frames import BITRATE_SWITCH, FD, Frame

    payload = from_hex(str(data), "data")
    # A bit-rate switch, and more than eight bytes, exist on CAN FD only.
    fd = switches.get("fd", switches.get("brs", False) or len(payload) > 8)
    flags = (FD if fd else 0) | (BITRATE_SWITCH if switches.get("brs", False) else 0)
    return Frame(0, socketcan_id(can_id, switches), flags, payload)


def socketcan_id(can_id: int, switches: Mapping[str, bool]) -> int:
    """The ID as in SocketCAN: bit 31 marks a 29-bit one. Raises ValueError for an ID that does not exist."""
    extended = switches.get("extended", can_id > 0x7FF)
    limit = 0x1FFF_FFFF if extended else 0x7FF
    if not 0 <= can_id <= limit:
        raise ValueError(f"arbitration ID is 0x{can_id:X}; it must be between 0 and 0x{limit:X}")
    return can_id | 0x8000_0000 if extended else can_id
