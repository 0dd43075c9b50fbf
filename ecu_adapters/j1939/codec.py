"""Frames of the transport protocol, to bytes and back (J1939-21, 5.10.2 and 5.10.3)."""

import enum
from dataclasses import dataclass

from ecu_adapters.j1939.identifier import LAST_PGN

CONNECTION = 0xEC00
"""PGN of connection management, TP.CM."""
DATA = 0xEB00
"""PGN of data packets, TP.DT."""
REQUEST = 0xEA00
ACKNOWLEDGEMENT = 0xE800
ADDRESS_CLAIMED = 0xEE00

SINGLE = 8
"""Bytes that one frame carries; longer messages take the transport protocol."""
LONGEST = 1785
PACKET = 7
"""Bytes of a data packet."""
_FILL = 0xFF


class Control(enum.IntEnum):
    """Control bytes of connection management."""

    RTS = 16
    CTS = 17
    END = 19
    BAM = 32
    ABORT = 255


@dataclass(frozen=True, slots=True)
class Announcement:
    """Request To Send (RTS) or Broadcast Announce (BAM)."""

    size: int
    packets: int
    most: int
    """Packets that the sender takes in one CTS; 255: no limit."""

    @property
    def valid(self) -> bool:
        """Whether the number of packets is that of a message of this size, 9 .. 1785 bytes."""
        return SINGLE < self.size <= LONGEST and self.packets == packets_of(self.size)


def packets_of(size: int) -> int:
    """Data packets of a message of ``size`` bytes."""
    return -(-size // PACKET)


def announcement(control: int, size: int, pgn: int, most: int = 0xFF) -> bytes:
    """RTS or BAM."""
    return bytes((control, size & 0xFF, size >> 8, packets_of(size), most)) + _pgn(pgn)


def clear_to_send(packets: int, first: int, pgn: int) -> bytes:
    """CTS for so many packets from number ``first`` on; for none, it holds the connection open."""
    return bytes((Control.CTS, packets, first if packets else _FILL, _FILL, _FILL)) + _pgn(pgn)


def end_of_message(size: int, pgn: int) -> bytes:
    """End of Message Acknowledgement."""
    return bytes((Control.END, size & 0xFF, size >> 8, packets_of(size), _FILL)) + _pgn(pgn)


def abort(reason: int, pgn: int) -> bytes:
    """Connection Abort."""
    return bytes((Control.ABORT, reason, _FILL, _FILL, _FILL)) + _pgn(pgn)


def data_packet(number: int, data: bytes) -> bytes:
    """Packet ``number`` (from 1) of a message."""
    start = (number - 1) * PACKET
    return bytes((number,)) + data[start : start + PACKET].ljust(PACKET, bytes((_FILL,)))


def parse_announcement(data: bytes) -> Announcement:
    """Of a whole frame of connection management."""
    return Announcement(data[1] | data[2] << 8, data[3], data[4])


def pgn_of_connection(data: bytes) -> int:
    """The group whose message a frame of connection management is about."""
    return int.from_bytes(data[5:8], "little") & LAST_PGN


def request(pgn: int) -> bytes:
    """Request for a parameter group (5.4.2)."""
    return _pgn(pgn)


def acknowledgement(control: int, pgn: int, address: int, function: int = _FILL) -> bytes:
    """Acknowledgement (5.4.4); ``address`` is that of the node whose request is answered."""
    return bytes((control, function, _FILL, _FILL, address)) + _pgn(pgn)


def _pgn(pgn: int) -> bytes:
    return pgn.to_bytes(3, "little")
