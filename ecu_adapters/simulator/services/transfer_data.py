"""TransferData (0x36): the next block of a download or upload; the last one may be repeated."""

from ecu_adapters.simulator.memory import MemoryFault
from ecu_adapters.simulator.rules import Call, Refused, Rule, Service
from ecu_adapters.simulator.transfer import MemoryTransfer, Transfer

_SOURCE = "ISO 14229-1:2020, 14.5"


def _transfer(call: Call) -> Transfer:
    transfer = call.state.transfer
    assert transfer is not None, "the second row refuses without one"  # noqa: S101 - holds by the table's order
    return transfer


def _repeats(call: Call) -> bool:
    """Whether the tester has missed the answer to the last block and sends it again."""
    transfer = _transfer(call)
    return transfer.begun and call.pdu[1] == transfer.counter


def _out_of_sequence(call: Call) -> bool:
    return not _repeats(call) and call.pdu[1] != (_transfer(call).counter + 1) & 0xFF


def _wrong_length(call: Call) -> bool:
    transfer, length = _transfer(call), len(call.pdu)
    if not transfer.incoming:
        return length != 2
    return not 2 < length <= transfer.max_block


def _beyond_the_end(call: Call) -> bool:
    transfer = _transfer(call)
    if _repeats(call):
        return False
    return len(call.pdu) - 2 > transfer.left if transfer.incoming else transfer.left == 0


def _supply(call: Call) -> tuple[float, float, float] | None:
    """Supply voltage, least and greatest for writing; None when it does not matter."""
    limits, supply, transfer = call.state.ecu.memory.programming_v, call.state.supply_v, _transfer(call)
    flash = isinstance(transfer, MemoryTransfer) and transfer.incoming
    return (supply, *limits) if flash and limits is not None and supply is not None else None


def _too_high(call: Call) -> bool:
    supply = _supply(call)
    return supply is not None and supply[0] > supply[2]


def _too_low(call: Call) -> bool:
    supply = _supply(call)
    return supply is not None and supply[0] < supply[1]


def _act(call: Call) -> bytes:
    transfer = _transfer(call)
    if _repeats(call):
        return call.pdu[1:2] + transfer.repeated()
    try:
        return call.pdu[1:2] + transfer.accept(call.pdu[2:])
    except MemoryFault:
        raise Refused(0x72) from None


SERVICE = Service(
    0x36,
    _act,
    offered=lambda ecu: bool(ecu.memory.regions) or ecu.files is not None,
    outside_default=True,
    rules=(
        Rule(0x13, "there is no block counter", _SOURCE, lambda call: len(call.pdu) < 2),
        Rule(0x24, "no transfer is in work", _SOURCE, lambda call: call.state.transfer is None),
        Rule(0x73, "the block is neither the next nor the last one again", _SOURCE, _out_of_sequence),
        Rule(0x13, "the block is empty, or longer than was granted", _SOURCE, _wrong_length),
        Rule(0x71, "the block goes beyond what was announced", _SOURCE, _beyond_the_end),
        Rule(0x92, "the supply voltage is too high for writing", _SOURCE, _too_high),
        Rule(0x93, "the supply voltage is too low for writing", _SOURCE, _too_low),
    ),
)
