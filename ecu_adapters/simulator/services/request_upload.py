"""RequestUpload (0x35): asks for a range of the memory."""

from ecu_adapters.dids import Access
from ecu_adapters.simulator.rules import Call, Service
from ecu_adapters.simulator.services import _transfer_request as request


def _access(call: Call) -> Access | None:
    region = call.state.memory.region(request.where(call))
    if region is None or region.read is False or not call.state.allows(region.read):
        return None
    return region.read


SERVICE = Service(
    0x35,
    lambda call: request.begin(call, incoming=False),
    offered=lambda ecu: bool(ecu.memory.regions),
    outside_default=True,
    rules=request.rules("ISO 14229-1:2020, 14.3", _access),
)
