"""AccessTimingParameter (0x83); its records are the transport's and the manufacturer's own (ISO 14229-1:2013, 9.7)."""

from udsoncan.services.AccessTimingParameter import AccessTimingParameter

from ecu_adapters.uds.services import arguments
from ecu_adapters.uds.services.base import Call, Outcome, Plain, Service, UdsInvalid

ACTIONS = {"read_extended": 0x01, "set_default": 0x02, "read": 0x03, "set": 0x04}
"""Access types by name."""


async def _access_timing(use: Call, action: Plain, record: Plain = None) -> Outcome:
    number = arguments.named(action, ACTIONS, "action", 0x7F)
    if (record is not None) != (number == ACTIONS["set"]):
        raise UdsInvalid("record goes with the action set, and only with it")
    data = None if record is None else arguments.octets(record, "record", least=1)
    response, exchange = await use.exchange(AccessTimingParameter.make_request(number, data))
    return Outcome(AccessTimingParameter.interpret_response(response).service_data.timing_param_record, exchange)


SERVICES = {"access_timing": Service(_access_timing, ("action",), ("record",))}
