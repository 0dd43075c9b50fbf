"""WriteMemoryByAddress (0x3D)."""

from udsoncan.services.WriteMemoryByAddress import WriteMemoryByAddress

from ecu_adapters.uds.services import arguments
from ecu_adapters.uds.services.base import Call, Outcome, Plain, Service


async def _write_memory(
    use: Call, address: Plain, data: Plain, address_bytes: Plain = None, size_bytes: Plain = None
) -> Outcome:
    content = arguments.octets(data, "data", least=1)
    location = arguments.memory(use.ecu, address, len(content), address_bytes, size_bytes)
    _, exchange = await use.exchange(WriteMemoryByAddress.make_request(location, content))
    return Outcome(None, exchange)


SERVICES = {"write_memory": Service(_write_memory, ("address", "data"), ("address_bytes", "size_bytes"))}
