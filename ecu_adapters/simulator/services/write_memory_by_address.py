"""WriteMemoryByAddress (0x3D)."""

from ecu_adapters.dids import Access
from ecu_adapters.simulator.address import Format, format_of
from ecu_adapters.simulator.memory import Range
from ecu_adapters.simulator.rules import Call, Rule, Service, access_rows

_SOURCE = "ISO 14229-1:2020, 11.8; order chosen as for RequestDownload"


def _format(call: Call) -> Format | None:
    return format_of(call.pdu[1], call.state.ecu.memory)


def _head(call: Call) -> int:
    """Bytes before the data."""
    layout = _format(call)
    return 2 + layout.length if layout is not None else 2


def _where(call: Call) -> Range:
    layout = _format(call)
    return layout.range_at(call.pdu, 2) if layout is not None else Range(0, 0)


def _wrong_length(call: Call) -> bool:
    head = _head(call)
    return len(call.pdu) <= head or len(call.pdu) != head + _where(call).size


def _access(call: Call) -> list[Access]:
    region = call.state.memory.region(_where(call))
    if region is None or region.write is False or not call.state.allows(region.write):
        return []
    return [region.write]


def _act(call: Call) -> bytes:
    head = _head(call)
    call.state.memory.write(_where(call).address, call.pdu[head:])
    return call.pdu[1:head]


SERVICE = Service(
    0x3D,
    _act,
    offered=lambda ecu: bool(ecu.memory.regions),
    rules=(
        Rule(0x13, "the length is below 5", _SOURCE, lambda call: len(call.pdu) < 5),
        Rule(
            0x31,
            "the ECU does not take the format of address and size",
            _SOURCE,
            lambda call: _format(call) is None,
        ),
        Rule(0x13, "the length is not that of format and size", _SOURCE, _wrong_length),
        Rule(
            0x31,
            "address and size are not memory that can be written in the active session",
            _SOURCE,
            lambda call: not _access(call),
        ),
        *access_rows(_access, "the memory", _SOURCE),
        Rule(0x72, "the flash is not erased", _SOURCE, lambda call: not call.state.memory.is_erased(_where(call))),
    ),
    commits=True,
)
