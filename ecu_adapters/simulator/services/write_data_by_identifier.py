"""WriteDataByIdentifier (0x2E)."""

from ecu_adapters.dids import Access, Did
from ecu_adapters.simulator.rules import Call, Rule, Service, access_rows


def _number(call: Call) -> int:
    return int.from_bytes(call.pdu[1:3], "big")


def _did(call: Call) -> Did:
    return call.state.data.models[_number(call)]


def _access(call: Call) -> Access | None:
    """How the identifier may be written, None when it cannot be in the active session."""
    did = call.state.data.models.get(_number(call))
    if did is None or did.write is False or not call.state.allows(did.write):
        return None
    return did.write


def _accesses(call: Call) -> list[Access]:
    access = _access(call)
    return [access] if access is not None else []


def _act(call: Call) -> bytes:
    call.state.data.write(_number(call), call.pdu[3:])
    return call.pdu[1:3]


SERVICE = Service(
    0x2E,
    _act,
    rules=(
        Rule(0x13, "there is no data", "ISO 14229-1:2020, 11.7", lambda call: len(call.pdu) < 4),
        Rule(
            0x31,
            "the identifier cannot be written in the active session",
            "ISO 14229-1:2020, 11.7",
            lambda call: _access(call) is None,
        ),
        *access_rows(_accesses, "the identifier", "ISO 14229-1:2020, 11.7"),
        Rule(
            0x13,
            "the length is not that of the identifier",
            "ISO 14229-1:2020, 11.7",
            lambda call: len(call.pdu) != 3 + _did(call).length,
        ),
        Rule(
            0x31,
            "the value is not allowed",
            "ISO 14229-1:2020, 11.7",
            lambda call: not _did(call).accepts(call.pdu[3:]),
        ),
    ),
    commits=True,
)
