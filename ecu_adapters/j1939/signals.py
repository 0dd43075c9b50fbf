"""Parameter groups of a CAN database: found by PGN, with the source address apart.

A database for J1939 names messages by whole 29-bit IDs, whose source address is one example of many, often 254.
Parameters that are not available are coded with all bits set (J1939-71, 5.1.4), and so are the bits of none.
"""

from collections.abc import Mapping

from cantools.database.can import Message
from cantools.database.can.signal import Signal
from cantools.database.errors import Error as CantoolsError

from ecu_adapters.dbc import Database, DatabaseError, SignalValue, initial_raw
from ecu_adapters.j1939.identifier import NULL, pgn_of


class ParameterGroups:
    """The messages of a database with a 29-bit ID."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._by_pgn: dict[int, list[Message]] = {}
        for message in database.messages.values():
            if message.is_extended_frame:
                self._by_pgn.setdefault(pgn_of(message.frame_id), []).append(message)

    def find(self, pgn: int, source: int | None = None) -> Message | None:
        """The database's message: that of the same source address, else that of none (254), else any."""
        found = self._by_pgn.get(pgn, [])
        return max(found, key=lambda message: _closeness(message.frame_id & 0xFF, source), default=None)

    def pgn(self, name: str) -> int:
        """The parameter group of a message. Raises DatabaseError with the nearest names."""
        message = self._database.message(name)
        if not message.is_extended_frame:
            raise DatabaseError(f"{name} has the 11-bit ID 0x{message.frame_id:X}; parameter groups have 29 bits")
        return pgn_of(message.frame_id)

    def priority(self, name: str) -> int:
        """The priority that the database gives a message. Raises DatabaseError."""
        return self._database.message(name).frame_id >> 26

    def encode(self, name: str, signals: Mapping[str, SignalValue], *, force: bool = False) -> bytes:
        """The data of a message. What is left out takes the database's initial value, or else is not available.

        Raises DatabaseError naming the signal, the value and what is allowed.
        """
        self.pgn(name)
        return self._database.payload(name, signals, force=force, unset=_unset, ones=True)

    def decode(self, pgn: int, source: int, data: bytes) -> tuple[str, dict[str, SignalValue | None]] | None:
        """Name and signals, None for those that are not available; None when the database does not know the group.

        Data that is too short brings the signals that it has.
        """
        message = self.find(pgn, source)
        if message is None:
            return None
        try:
            raw = message.decode(data[: message.length], decode_choices=False, scaling=False, allow_truncated=True)
            values = raw if isinstance(raw, dict) else {}
        except (CantoolsError, ValueError, KeyError):
            return message.name, {}
        signals = {signal.name: signal for signal in message.signals}
        return message.name, {name: _value(signals[name], value) for name, value in values.items()}


def _closeness(known: int, source: int | None) -> int:
    return 2 if known == source else 1 if known == NULL else 0


def _unset(signal: Signal) -> int | float:
    ones = _not_available(signal)
    return ones if ones is not None and signal.raw_initial is None else initial_raw(signal)


def _not_available(signal: Signal) -> int | None:
    """The raw value that says so. One bit has no room for it, and to signed numbers and floats it means nothing."""
    if signal.length < 2 or signal.is_signed or signal.is_float:
        return None
    return (1 << signal.length) - 1


def _value(signal: Signal, raw: object) -> SignalValue | None:
    if not isinstance(raw, int | float):
        return str(raw)
    name = signal.choices.get(int(raw)) if signal.choices else None
    if name is not None:
        return str(name)
    if raw == _not_available(signal):
        return None
    scaled = signal.raw_to_scaled(raw, decode_choices=False)
    return scaled if isinstance(scaled, int | float) else str(scaled)
