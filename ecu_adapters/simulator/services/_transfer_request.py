"""What RequestDownload (0x34) and RequestUpload (0x35) have in common."""

from collections.abc import Callable

from ecu_adapters.dids import Access
from ecu_adapters.simulator.address import Format, format_of
from ecu_adapters.simulator.memory import Range
from ecu_adapters.simulator.rules import Call, Rule, access_rows
from ecu_adapters.simulator.transfer import MemoryTransfer

_PLAIN = 0x00
"""dataFormatIdentifier: neither compressed nor encrypted."""


def _format(call: Call) -> Format | None:
    return format_of(call.pdu[2], call.state.ecu.memory)


def where(call: Call) -> Range:
    """The range that the request names."""
    layout = _format(call)
    return layout.range_at(call.pdu, 3) if layout is not None else Range(0, 0)


def _wrong_length(call: Call) -> bool:
    layout = _format(call)
    return layout is not None and len(call.pdu) != 3 + layout.length


def rules(source: str, access: Callable[[Call], Access | None]) -> tuple[Rule, ...]:
    """The rows; ``access`` says how the range may be used, None when it cannot be in the active session."""

    def accesses(call: Call) -> list[Access]:
        found = access(call)
        return [found] if found is not None else []

    return (
        Rule(0x13, "the length is below 5", source, lambda call: len(call.pdu) < 5),
        Rule(
            0x31,
            "the ECU does not take the data format, or the format of address and size",
            source,
            lambda call: call.pdu[1] != _PLAIN or _format(call) is None,
        ),
        Rule(0x13, "the length is not that of the format", source, _wrong_length),
        Rule(
            0x31,
            "address and size are not memory that can be transferred in the active session",
            source,
            lambda call: access(call) is None,
        ),
        *access_rows(accesses, "the memory", source),
        Rule(0x22, "a transfer is in work", source, lambda call: call.state.transfer is not None),
    )


def begin(call: Call, *, incoming: bool) -> bytes:
    """Starts the transfer; the answer says how long a block may be."""
    state = call.state
    longest = state.ecu.memory.max_block
    state.transfer = MemoryTransfer(state.memory, where(call), longest, incoming)
    size = max((longest.bit_length() + 7) // 8, 2)
    return bytes((size << 4,)) + longest.to_bytes(size, "big")
