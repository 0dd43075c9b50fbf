"""ReadDataByIdentifier (0x22): one data identifier or several; those that the ECU does not know are left out."""

from ecu_adapters.dids import Access
from ecu_adapters.simulator.rules import Call, Rule, Service, access_rows

_SOURCE = "ISO 14229-1:2020, 11.2"


def _readable(call: Call) -> list[int]:
    """The requested identifiers that can be read in the active session."""
    asked = (int.from_bytes(call.pdu[at : at + 2], "big") for at in range(1, len(call.pdu) - 1, 2))
    return [number for number in asked if call.state.reading(number) is not None]


def _accesses(call: Call) -> list[Access]:
    return [access for number in _readable(call) for access in call.state.reading(number) or ()]


def _too_long(call: Call) -> bool:
    length = 1 + sum(2 + call.state.data.length(number) for number in _readable(call))
    return length > call.state.ecu.max_pdu


def _act(call: Call) -> bytes:
    return b"".join(number.to_bytes(2, "big") + call.state.data.read(number) for number in _readable(call))


SERVICE = Service(
    0x22,
    _act,
    rules=(
        Rule(
            0x13,
            "there is no identifier, or half of one",
            _SOURCE,
            lambda call: len(call.pdu) < 3 or len(call.pdu) % 2 == 0,
        ),
        Rule(0x31, "no identifier can be read in the active session", _SOURCE, lambda call: not _readable(call)),
        *access_rows(_accesses, "an identifier", _SOURCE),
        Rule(0x14, "the response exceeds the transport's limit", _SOURCE, _too_long),
    ),
)
