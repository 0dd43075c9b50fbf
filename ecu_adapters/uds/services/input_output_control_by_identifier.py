"""InputOutputControlByIdentifier (0x2F): take an input or output over, and give it back."""

from ecu_adapters.uds.services import arguments, results
from ecu_adapters.uds.services.base import Call, Outcome, Plain, Service, UdsInvalid

ACTIONS = {"return": 0x00, "reset": 0x01, "freeze": 0x02, "adjust": 0x03}
"""Control parameters by name (ISO 14229-1:2020, annex E.1)."""


async def _io_control(use: Call, did: Plain, action: Plain, value: Plain = None, mask: Plain = b"") -> Outcome:
    number, name, model = arguments.data_identifier(use.ecu, did)
    control = arguments.named(action, ACTIONS, "action")
    if (value is not None) != (control == ACTIONS["adjust"]):
        raise UdsInvalid("value goes with the action adjust, and only with it")
    state = b""
    if value is not None:
        if model is None:
            state = arguments.octets(value, f"value of {name}, which {use.ecu.name} does not describe,", least=1)
        else:
            try:
                state = model.encode(value)
            except ValueError as error:
                raise UdsInvalid(f"value of {name}: {error}") from error
    head = bytes((0x2F, number >> 8, number & 0xFF, control))
    response, exchange = await use.raw(head + state + arguments.octets(mask, "mask"))
    if response[1:4] != head[1:]:
        raise use.malformed(f"is none for {name}", exchange)
    result: dict[str, Plain] = {"action": arguments.name_of(control, ACTIONS)}
    if response[4:]:
        result["value"] = results.value_of(use, name, model, response[4:], exchange)
        result["unit"] = results.units_of(model)
    return Outcome(result, exchange)


SERVICES = {"io_control": Service(_io_control, ("did", "action"), ("value", "mask"))}
