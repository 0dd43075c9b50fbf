"""RequestDownload (0x34): announces data for the memory."""

from ecu_adapters.dids import Access
from ecu_adapters.simulator.rules import Call, Rule, Service
from ecu_adapters.simulator.services import _transfer_request as request

_SOURCE = "ISO 14229-1:2020, 14.2"


def _access(call: Call) -> Access | None:
    region = call.state.memory.region(request.where(call))
    if region is None or region.write is False or not call.state.allows(region.write):
        return None
    return region.write


def _not_erased(call: Call) -> bool:
    return not call.state.memory.is_erased(request.where(call))


SERVICE = Service(
    0x34,
    lambda call: request.begin(call, incoming=True),
    offered=lambda ecu: bool(ecu.memory.regions),
    outside_default=True,
    rules=(
        *request.rules(_SOURCE, _access),
        Rule(0x70, "the flash is not erased", _SOURCE, _not_erased),
    ),
)
