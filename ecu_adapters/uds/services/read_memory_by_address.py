"""ReadMemoryByAddress (0x23)."""

from udsoncan.services.ReadMemoryByAddress import ReadMemoryByAddress

from ecu_adapters.uds.services import arguments
from ecu_adapters.uds.services.base import Call, Outcome, Plain, Service


async def _read_memory(
    use: Call, address: Plain, size: Plain, address_bytes: Plain = None, size_bytes: Plain = None
) -> Outcome:
    location = arguments.memory(use.ecu, address, size, address_bytes, size_bytes)
    response, exchange = await use.exchange(ReadMemoryByAddress.make_request(location))
    data = ReadMemoryByAddress.interpret_response(response).service_data.memory_block
    if len(data) != location.memorysize:
        raise use.malformed(f"has {len(data)} bytes of memory, {location.memorysize} were asked for", exchange)
    return Outcome(data, exchange)


SERVICES = {"read_memory": Service(_read_memory, ("address", "size"), ("address_bytes", "size_bytes"))}
