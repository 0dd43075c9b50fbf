"""ReadMemoryByAddress (0x23)."""

from ecu_adapters.dids import Access
from ecu_adapters.simulator.address import Format, format_of
from ecu_adapters.simulator.memory import Range
from ecu_adapters.simulator.rules import Call, Rule, Service, access_rows

_SOURCE = "ISO 14229-1:2020, 11.3; order chosen as for RequestDownload"


def _format(call: Call) -> Format | None:
    return format_of(call.pdu[1], call.state.ecu.memory)


def _where(call: Call) -> Range:
    layout = _format(call)
    return layout.range_at(call.pdu, 2) if layout is not None else Range(0, 0)


def _wrong_length(call: Call) -> bool:
    layout = _format(call)
    return layout is not None and len(call.pdu) != 2 + layout.length


def _access(call: Call) -> list[Access]:
    region = call.state.memory.region(_where(call))
    if region is None or region.read is False or not call.state.allows(region.read):
        return []
    return [region.read]


SERVICE = Service(
    0x23,
    lambda call: call.state.memory.read(_where(call)),
    offered=lambda ecu: bool(ecu.memory.regions),
    rules=(
        Rule(0x13, "the length is below 4", _SOURCE, lambda call: len(call.pdu) < 4),
        Rule(
            0x31,
            "the ECU does not take the format of address and size",
            _SOURCE,
            lambda call: _format(call) is None,
        ),
        Rule(0x13, "the length is not that of the format", _SOURCE, _wrong_length),
        Rule(
            0x31,
            "address and size are not memory that can be read in the active session",
            _SOURCE,
            lambda call: not _access(call),
        ),
        *access_rows(_access, "the memory", _SOURCE),
        Rule(
            0x14,
            "the response exceeds the transport's limit",
            _SOURCE,
            lambda call: 1 + _where(call).size > call.state.ecu.max_pdu,
        ),
    ),
)
