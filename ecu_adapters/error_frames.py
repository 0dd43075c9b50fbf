"""What the error frames of a CAN controller say: Linux' (linux/can/error.h), and those of PEAK's drivers.

An error frame is no frame of the bus: the controller, or its driver, tells with it what it has noticed.
"""

import enum
from collections.abc import Iterator
from dataclasses import dataclass

from ecu_adapters.frame_records import ID_MASK

WARNING_AT = 96
"""Error counter from which on a controller is in the warning state."""
PASSIVE_AT = 128
"""Error counter from which on a controller is error passive (ISO 11898-1, fault confinement)."""


class BusState(enum.StrEnum):
    """Of a CAN controller (ISO 11898-1, fault confinement)."""

    ERROR_ACTIVE = "error-active"
    ERROR_WARNING = "error-warning"
    """An error counter has reached 96; the controller behaves as if error-active."""
    ERROR_PASSIVE = "error-passive"
    """An error counter is above 127."""
    BUS_OFF = "bus-off"
    """The transmit error counter went above 255: the controller takes no part in the bus any more."""
    UNKNOWN = "unknown"
    """The bus is not open."""


@dataclass(frozen=True, slots=True)
class ErrorReport:
    """One error frame, decoded."""

    kinds: tuple[str, ...]
    """What was noticed: "no_ack", "stuff_error", "bus_off", ...; at least one."""
    detail: str
    """The same for people."""
    state: BusState | None = None
    """What the controller says to be in now; None when it says nothing of it (its counters may)."""
    tx_errors: int | None = None
    """The controller's transmit error counter; None when the frame does not carry it."""
    rx_errors: int | None = None


_TX_TIMEOUT, _ARBITRATION, _CONTROLLER, _PROTOCOL, _TRANSCEIVER = 0x001, 0x002, 0x004, 0x008, 0x010
_NO_ACK, _BUS_OFF, _BUS_ERROR, _RESTARTED, _COUNTERS = 0x020, 0x040, 0x080, 0x100, 0x200

_CONTROLLER_KINDS = {
    0x01: ("rx_overflow", "the controller's receive buffer overflowed"),
    0x02: ("tx_overflow", "the controller's transmit buffer overflowed"),
    0x04: ("error_warning", "the receive error counter reached the warning level"),
    0x08: ("error_warning", "the transmit error counter reached the warning level"),
    0x10: ("error_passive", "error passive by the receive error counter"),
    0x20: ("error_passive", "error passive by the transmit error counter"),
    0x40: ("error_active", "error active again"),
}
_PROTOCOL_KINDS = {
    0x01: ("bit_error", "bit error"),
    0x02: ("form_error", "frame format error"),
    0x04: ("stuff_error", "bit stuffing error"),
    0x08: ("bit0_error", "a dominant bit could not be sent"),
    0x10: ("bit1_error", "a recessive bit could not be sent"),
    0x20: ("overload", "overload frame"),
    0x40: ("active_error", "active error flag"),
}
_SENDING = 0x80
_PLACES = {
    0x02: "ID bits 28 .. 21",
    0x03: "the start of frame",
    0x04: "the substitute remote request",
    0x05: "the identifier extension bit",
    0x06: "ID bits 20 .. 18",
    0x07: "ID bits 17 .. 13",
    0x08: "the CRC sequence",
    0x09: "reserved bit 0",
    0x0A: "the data",
    0x0B: "the data length code",
    0x0C: "the remote request bit",
    0x0D: "reserved bit 1",
    0x0E: "ID bits 4 .. 0",
    0x0F: "ID bits 12 .. 5",
    0x12: "the intermission",
    0x18: "the CRC delimiter",
    0x19: "the acknowledge slot",
    0x1A: "the end of frame",
    0x1B: "the acknowledge delimiter",
}
_HIGH_WIRE = {0x04: "no wire", 0x05: "short to battery", 0x06: "short to supply", 0x07: "short to ground"}
_LOW_WIRE = {0x40: "no wire", 0x50: "short to battery", 0x60: "short to supply", 0x70: "short to ground"}
_SHORTED = 0x80

_PEAK_KINDS = {
    1: _PROTOCOL_KINDS[0x01],
    2: _PROTOCOL_KINDS[0x02],
    4: _PROTOCOL_KINDS[0x04],
    8: ("other_error", "another error"),
}

_UNSPECIFIED = ("error_frame", "an error frame that its driver does not explain")


def decode(can_id: int, data: bytes, interface: str = "socketcan") -> ErrorReport:
    """``can_id`` as in SocketCAN, with or without flag bits; ``interface`` is python-can's name of the driver.

    Never raises: of a frame that is too short or unknown, what can be said is said.
    """
    if interface == "pcan":
        return _decode_peak(can_id & ID_MASK, data)
    if interface in _FOREIGN:
        return _report([_UNSPECIFIED], None, None, None)
    return _decode_linux(can_id & ID_MASK, data.ljust(8, b"\0"))


_FOREIGN = frozenset({
    "canalystii", "cantact", "etas", "ics_neovi", "iscan", "ixxat", "kvaser", "neousys", "neovi", "nican", "nixnet",
    "robotell", "seeedstudio", "slcan", "socketcand", "systec", "usb2can", "vector",
})  # fmt: skip
"""Drivers whose error frames tell no more than that there was an error."""


def state_of_counters(tx_errors: int, rx_errors: int) -> BusState:
    """The state that goes with error counters; bus-off cannot be seen from them."""
    highest = max(tx_errors, rx_errors)
    if highest >= PASSIVE_AT:
        return BusState.ERROR_PASSIVE
    return BusState.ERROR_WARNING if highest >= WARNING_AT else BusState.ERROR_ACTIVE


def _decode_linux(classes: int, data: bytes) -> ErrorReport:
    controller, tx_errors, rx_errors = data[1], data[6], data[7]
    # Older drivers fill the counters in without saying so (CAN_ERR_CNT is of Linux 6.0), with the controller's state.
    counted = bool(classes & _COUNTERS) or bool(classes & _CONTROLLER and (tx_errors or rx_errors))
    counters = (tx_errors, rx_errors) if counted else (None, None)
    return _report(list(_linux_kinds(classes, data)), _linux_state(classes, controller), *counters)


def _linux_kinds(classes: int, data: bytes) -> Iterator[tuple[str, str]]:
    if classes & _BUS_OFF:
        yield "bus_off", "bus off"
    if classes & _RESTARTED:
        yield "restarted", "the controller was restarted"
    if classes & _TX_TIMEOUT:
        yield "tx_timeout", "a frame was not sent in time"
    if classes & _ARBITRATION:
        at = f" in bit {data[0]}" if data[0] else ""
        yield "arbitration_lost", f"arbitration lost{at}"
    if classes & _NO_ACK:
        yield "no_ack", "no other node acknowledged a frame"
    if classes & _CONTROLLER:
        named = [kind for bit, kind in _CONTROLLER_KINDS.items() if data[1] & bit]
        yield from named or [("controller", "a controller problem")]
    if classes & _PROTOCOL:
        yield from _protocol_kinds(data[2], data[3])
    if classes & _TRANSCEIVER:
        yield "transceiver", f"transceiver: {_wires(data[4])}"
    if classes & _BUS_ERROR and not classes & (_PROTOCOL | _NO_ACK):
        yield "bus_error", "a bus error"


def _protocol_kinds(what: int, where: int) -> Iterator[tuple[str, str]]:
    place = f" in {_PLACES[where]}" if where in _PLACES else ""
    way = " while sending" if what & _SENDING else ""
    named = [kind for bit, kind in _PROTOCOL_KINDS.items() if what & bit] or [("protocol_error", "protocol error")]
    for kind, text in named:
        yield kind, f"{text}{place}{way}"


def _wires(status: int) -> str:
    if status & _SHORTED:
        return "CAN_L is shorted to CAN_H"
    high, low = _HIGH_WIRE.get(status & 0x0F), _LOW_WIRE.get(status & 0x70)
    faults = [f"{wire}: {fault}" for wire, fault in (("CAN_H", high), ("CAN_L", low)) if fault is not None]
    return ", ".join(faults) or "unspecified fault"


def _linux_state(classes: int, controller: int) -> BusState | None:
    if classes & _BUS_OFF:
        return BusState.BUS_OFF
    if classes & _CONTROLLER:
        # A controller that becomes better tells its new state, too; the worst that it names is the one it is in.
        if controller & 0x30:
            return BusState.ERROR_PASSIVE
        if controller & 0x0C:
            return BusState.ERROR_WARNING
        if controller & 0x40:
            return BusState.ERROR_ACTIVE
    return BusState.ERROR_ACTIVE if classes & _RESTARTED else None


def _decode_peak(what: int, data: bytes) -> ErrorReport:
    """PCAN-Basic's PCAN_MESSAGE_ERRFRAME: the ID is the kind, the data are direction, place, rx and tx counter."""
    kind, text = _PEAK_KINDS.get(what, _UNSPECIFIED)
    if len(data) < 4:
        return _report([(kind, text)], None, None, None)
    receiving, place, rx_errors, tx_errors = data[:4]
    text += (f" in {_PLACES[place]}" if place in _PLACES else "") + ("" if receiving else " while sending")
    return _report([(kind, text)], None, tx_errors, rx_errors)


def _report(
    named: list[tuple[str, str]], state: BusState | None, tx_errors: int | None, rx_errors: int | None
) -> ErrorReport:
    named = named or [_UNSPECIFIED]
    detail = "; ".join(dict.fromkeys(text for _, text in named))
    if tx_errors is not None:
        detail += f" (tx errors {tx_errors}, rx errors {rx_errors})"
    return ErrorReport(tuple(dict.fromkeys(kind for kind, _ in named)), detail, state, tx_errors, rx_errors)
