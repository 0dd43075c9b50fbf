"""ClearDiagnosticInformation (0x14)."""

from udsoncan.services.ClearDiagnosticInformation import ClearDiagnosticInformation

from ecu_adapters.uds.services import arguments
from ecu_adapters.uds.services.base import Call, Outcome, Plain, Service

_ALL = 0xFFFFFF


async def _clear_dtcs(use: Call, group: Plain = _ALL, memory: Plain = None) -> Outcome:
    number = arguments.trouble_code(group, "group")
    selection = None if memory is None else arguments.byte(memory, "memory")
    _, exchange = await use.exchange(ClearDiagnosticInformation.make_request(number, selection))
    return Outcome(None, exchange)


SERVICES = {"clear_dtcs": Service(_clear_dtcs, optional=("group", "memory"))}
