"""The 29-bit identifier of SAE J1939-21 (5.2): priority, parameter group, destination and source address."""

from dataclasses import dataclass
from typing import Self

GLOBAL = 0xFF
"""Destination address of what is meant for all."""
NULL = 0xFE
"""Source address of a node without one (J1939-81, 4.2.1)."""
LAST_ADDRESS = 0xFD
"""The highest address that a node can have."""
LAST_PGN = 0x3FFFF
_FIRST_PDU2 = 0xF0


class IdentifierError(ValueError):
    """A part of an identifier is not valid; the message names it, the value and what is allowed."""


@dataclass(frozen=True, slots=True)
class Identifier:
    """What an arbitration ID says. Raises IdentifierError for parts that no identifier has."""

    pgn: int
    """18 bits: extended data page, data page, PDU format and, of PDU2, the group extension."""
    source: int
    destination: int = GLOBAL
    """Of a PDU1 group, 255: all. A PDU2 group is always for all."""
    priority: int = 6
    """0, the most urgent, to 7."""

    def __post_init__(self) -> None:
        check_pgn(self.pgn)
        _within("source address", self.source, 0, NULL)
        _within("destination address", self.destination, 0, GLOBAL)
        _within("priority", self.priority, 0, 7)
        if self.destination != GLOBAL and not is_pdu1(self.pgn):
            raise IdentifierError(
                f"destination address is 0x{self.destination:02X}, but PGN 0x{self.pgn:04X} (PDU2) is always for all"
            )

    @classmethod
    def of(cls, can_id: int) -> Self | None:
        """The parts of a 29-bit arbitration ID (without flag bits); None for source address 255, which nobody has."""
        pgn, specific, source = can_id >> 8 & LAST_PGN, can_id >> 8 & 0xFF, can_id & 0xFF
        if source > NULL:
            return None
        if is_pdu1(pgn):
            return cls(pgn & ~0xFF, source, specific, can_id >> 26 & 7)
        return cls(pgn, source, GLOBAL, can_id >> 26 & 7)

    @property
    def can_id(self) -> int:
        """The arbitration ID, without SocketCAN's flag bits."""
        specific = self.destination if is_pdu1(self.pgn) else 0
        return self.priority << 26 | self.pgn << 8 | specific << 8 | self.source


def is_pdu1(pgn: int) -> bool:
    """Whether messages of the group have a destination address: PDU format below 240."""
    return (pgn >> 8 & 0xFF) < _FIRST_PDU2


def pgn_of(can_id: int) -> int:
    """The parameter group of a 29-bit arbitration ID."""
    pgn = can_id >> 8 & LAST_PGN
    return pgn & ~0xFF if is_pdu1(pgn) else pgn


def check_pgn(pgn: int) -> None:
    """Raises IdentifierError for a number that no parameter group has."""
    _within("PGN", pgn, 0, LAST_PGN)
    if is_pdu1(pgn) and pgn & 0xFF:
        raise IdentifierError(
            f"PGN is 0x{pgn:04X}; of a PDU1 group (PDU format below 0xF0) the last byte must be 00, "
            f"because it holds the destination address: 0x{pgn & ~0xFF:04X}"
        )


def check_address(address: int, what: str = "address") -> None:
    """Raises IdentifierError for an address that no node can have."""
    _within(what, address, 0, LAST_ADDRESS)


def _within(what: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        shown = f"0x{value:X}" if value >= 0 else str(value)
        raise IdentifierError(f"{what} is {shown}; it must be 0x{low:X} .. 0x{high:X}")
