"""ReadDataByIdentifier (0x22): one data identifier or several; those that the ECU does not know are left out."""

from ecu_adapters.dids import Access
from ecu_adapters.simulator.rules import Call, Rule, Service, access_rows


def _readable(call: Call) -> list[tuple[int, Access]]:
    """The requested identifiers that can be read in the active session."""
    found = []
    for at in range(1, len(call.pdu) - 1, 2):
        number = int.from_bytes(call.pdu[at : at + 2], "big")
        did = call.state.dids.get(number)
        if did is not None and did.read is not False and call.state.allows(did.read):
            found.append((number, did.read))
    return found


def _accesses(call: Call) -> list[Access]:
    return [access for _, access in _readable(call)]


def _too_long(call: Call) -> bool:
    length = 1 + sum(2 + len(call.state.data[number]) for number, _ in _readable(call))
    return length > call.state.ecu.isotp.max_pdu


def _act(call: Call) -> bytes:
    return b"".join(number.to_bytes(2, "big") + call.state.data[number] for number, _ in _readable(call))


SERVICE = Service(
    0x22,
    _act,
    rules=(
        Rule(
            0x13,
            "there is no identifier, or half of one",
            "ISO 14229-1:2020, 11.2",
            lambda call: len(call.pdu) < 3 or len(call.pdu) % 2 == 0,
        ),
        Rule(
            0x31,
            "no identifier can be read in the active session",
            "ISO 14229-1:2020, 11.2",
            lambda call: not _readable(call),
        ),
        *access_rows(_accesses, "an identifier", "ISO 14229-1:2020, 11.2"),
        Rule(0x14, "the response exceeds the transport's limit", "ISO 14229-1:2020, 11.2", _too_long),
    ),
)
