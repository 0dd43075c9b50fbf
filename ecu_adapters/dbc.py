"""CAN databases (DBC, also KCD, ARXML and SYM) through cantools: messages and signals instead of frames and bytes."""

import math
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import can
import cantools
from cantools.database.can import Database as CanDatabase
from cantools.database.can import Message
from cantools.database.can.signal import Signal
from cantools.database.errors import Error as CantoolsError
from cantools.database.errors import UnsupportedDatabaseFormatError
from cantools.database.namedsignalvalue import NamedSignalValue

from ecu_adapters.bus import EXTENDED_FLAG, FD_LENGTHS
from ecu_adapters.yaml_file import nearest

SignalValue = int | float | str
"""A physical value, or a name from the signal's value table."""


class DatabaseError(Exception):
    """A database does not load, or a message cannot be encoded with it."""


class Database:
    """The messages of one bus."""

    def __init__(self, database: CanDatabase, path: str) -> None:
        self.path = path
        self.messages: dict[str, Message] = {message.name: message for message in database.messages}
        """cantools' messages by name."""
        senders = {sender for message in database.messages for sender in message.senders}
        self.nodes = sorted({node.name for node in database.nodes} | senders)
        """Names of the ECUs that it knows."""
        self._by_can_id = {can_id(message): message for message in database.messages}

    @classmethod
    def load(cls, path: str | Path, *, strict: bool = True) -> "Database":
        """Reads a database file; the suffix says which format.

        ``strict`` refuses signals that overlap or do not fit their message, which real-world files have. Raises
        DatabaseError with file and reason.
        """
        try:
            loaded = cantools.database.load_file(str(path), strict=strict)
        except OSError as error:
            raise DatabaseError(f"{path}: cannot be read: {error.strerror}") from error
        except UnsupportedDatabaseFormatError as error:
            raise DatabaseError(f"{path}: does not load: {_first_reason(error, path)}") from error
        except (CantoolsError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            # cantools trips over broken files in as many ways as they are broken.
            raise DatabaseError(f"{path}: does not load: {error}") from error
        if not isinstance(loaded, CanDatabase):
            raise DatabaseError(f"{path}: describes no CAN bus but diagnostics (CDD)")
        return cls(loaded, str(path))

    @classmethod
    def read(cls, content: bytes, name: str) -> "Database":
        """Reads a database from memory; the suffix of its ``name`` says which format. Raises DatabaseError."""
        shown = Path(name).name or "database"
        with tempfile.TemporaryDirectory(prefix="database-") as folder:
            path = Path(folder, shown)
            path.write_bytes(content)
            try:
                return cls.load(path)
            except DatabaseError as error:
                raise DatabaseError(str(error).replace(str(path), shown)) from error

    def message(self, name: str) -> Message:
        """cantools' message. Raises DatabaseError with the nearest names."""
        message = self.messages.get(name)
        if message is None:
            raise DatabaseError(f"unknown message {name!r}; {nearest(name, self.messages)}")
        return message

    def signal(self, message: str, signal: str) -> Signal:
        """cantools' signal. Raises DatabaseError with the nearest names."""
        signals = {found.name: found for found in self.message(message).signals}
        if signal not in signals:
            raise DatabaseError(f"{message} has no signal {signal!r}; {nearest(signal, signals)}")
        return signals[signal]

    def can_id(self, name: str) -> int:
        """The arbitration ID as in SocketCAN: bit 31 set for 29-bit ones. Raises DatabaseError."""
        return can_id(self.message(name))

    def cycle_ms(self, name: str) -> int | None:
        """Cycle time in ms, None for messages sent on events. Raises DatabaseError."""
        return self.message(name).cycle_time or None

    def encode(self, name: str, signals: Mapping[str, SignalValue], *, force: bool = False) -> can.Message:
        """A frame of message ``name``.

        Signals left out take the database's initial value, or else 0 or the bound nearest to it. A signal of a
        multiplexed page selects that page. ``force`` lets values pass that are outside the database's bounds, as long
        as the signal's bits hold them. Raises DatabaseError naming the signal, the value and what is allowed.
        """
        message = self.message(name)
        data = self.payload(name, signals, force=force)
        if len(data) > max(FD_LENGTHS):
            raise DatabaseError(f"{name} has {len(data)} bytes; the longest CAN frame takes {max(FD_LENGTHS)}")
        if is_fd(message):
            # CAN FD has no frames of 9 bytes, but messages may have.
            data = data.ljust(min(length for length in FD_LENGTHS if length >= len(data)), b"\0")
        return can.Message(
            arbitration_id=message.frame_id,
            is_extended_id=message.is_extended_frame,
            data=data,
            is_fd=is_fd(message),
            bitrate_switch=is_fd(message),
        )

    def payload(
        self,
        name: str,
        signals: Mapping[str, SignalValue],
        *,
        force: bool = False,
        unset: Callable[[Signal], int | float] | None = None,
        ones: bool = False,
    ) -> bytes:
        """The data of message ``name``, of any length; otherwise as `encode`.

        ``unset`` gives the raw value of a signal that is left out; ``ones`` sets the bits that belong to no signal.
        """
        message = self.message(name)
        by_name = {signal.name: signal for signal in message.signals}
        raw: dict[str, int | float] = {}
        for signal_name, value in signals.items():
            if signal_name not in by_name:
                raise DatabaseError(f"{name} has no signal {signal_name!r}; {nearest(signal_name, by_name)}")
            raw[signal_name] = _raw(message, by_name[signal_name], value, force=force)
        _select_pages(message, by_name, raw)
        for signal in message.signals:
            if signal.name not in raw:
                raw[signal.name] = (unset or initial_raw)(signal)
        needed = {signal.name: raw[signal.name] for signal in message.signals if _is_on_page(signal, by_name, raw)}
        for signal_name in signals:
            if signal_name not in needed:
                selector = by_name[signal_name].multiplexer_signal or ""
                page = raw.get(selector)
                raise DatabaseError(f"{name}.{signal_name} is not on the page that {selector} = {page} selects")
        try:
            return message.encode(needed, scaling=False, strict=False, padding=ones)
        except (CantoolsError, ValueError, OverflowError) as error:
            raise DatabaseError(f"{name} cannot be encoded: {error}") from error

    def decode(self, frame: can.Message) -> tuple[str, dict[str, SignalValue]] | None:
        """Name and signals of a frame, values with a name by that name; None when no message has its ID.

        A frame that is too short brings the signals that it has; one with an unknown page brings none.
        """
        if frame.is_error_frame or frame.is_remote_frame:
            return None
        flag = EXTENDED_FLAG if frame.is_extended_id else 0
        message = self._by_can_id.get(frame.arbitration_id | flag)
        if message is None:
            return None
        try:
            # Without CAN FD's padding, which is no part of the message.
            values = message.decode(bytes(frame.data[: message.length]), allow_truncated=True)
        except (CantoolsError, ValueError, KeyError):
            return message.name, {}
        if not isinstance(values, dict):
            return message.name, {}
        return message.name, {signal: _plain(value) for signal, value in values.items()}


def can_id(message: Message) -> int:
    """The arbitration ID of a message as in SocketCAN."""
    return message.frame_id | (EXTENDED_FLAG if message.is_extended_frame else 0)


def is_fd(message: Message) -> bool:
    """Whether the message takes a CAN FD frame: the database says so, or its length does."""
    return bool(message.is_fd) or message.length > 8


def _select_pages(message: Message, by_name: Mapping[str, Signal], raw: dict[str, int | float]) -> None:
    """Sets the selectors that were not given to a page that holds the multiplexed signals which were."""
    for given in list(raw):
        name = given
        # A selector may itself be multiplexed (extended multiplexing): follow the chain to the top.
        while (selector := by_name[name].multiplexer_signal) is not None:
            pages = by_name[name].multiplexer_ids or []
            if selector not in raw and pages:
                initial = initial_raw(by_name[selector])
                raw[selector] = initial if initial in pages else pages[0]
            name = selector
    for signal in message.signals:
        if signal.is_multiplexer and signal.name not in raw:
            pages = sorted(
                {
                    page
                    for s in message.signals
                    if s.multiplexer_signal == signal.name
                    for page in s.multiplexer_ids or ()
                }
            )
            initial = initial_raw(signal)
            raw[signal.name] = initial if initial in pages or not pages else pages[0]


def _is_on_page(signal: Signal, by_name: Mapping[str, Signal], raw: Mapping[str, int | float]) -> bool:
    if signal.multiplexer_signal is None:
        return True
    selector = by_name[signal.multiplexer_signal]
    return raw[selector.name] in (signal.multiplexer_ids or ()) and _is_on_page(selector, by_name, raw)


def _raw(message: Message, signal: Signal, value: SignalValue, *, force: bool) -> int | float:
    place = f"{message.name}.{signal.name}"
    if isinstance(value, str):
        names = {str(choice): number for number, choice in (signal.choices or {}).items()}
        if value not in names:
            hint = nearest(value, names) if names else "it has no value table"
            raise DatabaseError(f"{place} has no value {value!r}; {hint}")
        return names[value]
    if not math.isfinite(value):
        raise DatabaseError(f"{place} is {value!r}; expected a number or a name from its value table")
    low, high = _bit_range(signal) if force else _range(signal)
    if not low <= value <= high:
        unit = f" {signal.unit}" if signal.unit else ""
        what = "does not fit into its bits, which hold" if force else "is out of range"
        raise DatabaseError(f"{place} = {value:g} {what} {low:g} .. {high:g}{unit}")
    return signal.scaled_to_raw(int(value) if isinstance(value, bool) else value)


def _range(signal: Signal) -> tuple[float, float]:
    """What physical values the signal takes: the database's bounds, within what its bits can hold."""
    ends = _bit_range(signal)
    low = ends[0] if signal.minimum is None else max(ends[0], float(signal.minimum))
    high = ends[1] if signal.maximum is None else min(ends[1], float(signal.maximum))
    return low, high


def _bit_range(signal: Signal) -> tuple[float, float]:
    """What physical values the signal's bits can hold."""
    if signal.is_float:
        return -math.inf, math.inf
    raw_low, raw_high = _raw_range(signal)
    first, second = raw_low * signal.scale + signal.offset, raw_high * signal.scale + signal.offset
    return min(first, second), max(first, second)


def _raw_range(signal: Signal) -> tuple[int, int]:
    bits = signal.length
    return (-(1 << bits - 1), (1 << bits - 1) - 1) if signal.is_signed else (0, (1 << bits) - 1)


def initial_raw(signal: Signal) -> int | float:
    """The raw value of a signal nobody set: the database's start value, or else 0, or else the bound nearest to 0."""
    if signal.raw_initial is not None:
        low, high = (-math.inf, math.inf) if signal.is_float else _raw_range(signal)
        if low <= signal.raw_initial <= high:
            return signal.raw_initial
    low, high = _range(signal)
    return signal.scaled_to_raw(min(max(0.0, low), high)) if low <= high else 0


def _plain(value: object) -> SignalValue:
    if isinstance(value, NamedSignalValue):
        return value.name
    return value if isinstance(value, int | float | str) else str(value)


def _first_reason(error: UnsupportedDatabaseFormatError, path: str | Path) -> str:
    """Of the reasons of all the formats that were tried, the one of the format that the suffix names."""
    by_suffix = {".dbc": error.e_dbc, ".arxml": error.e_arxml, ".kcd": error.e_kcd, ".sym": error.e_sym}
    reason = by_suffix.get(Path(path).suffix.lower())
    return str(reason if reason is not None else error)
