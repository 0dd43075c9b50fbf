"""WriteDataByIdentifier (0x2E)."""

from ecu_adapters.uds.services import arguments
from ecu_adapters.uds.services.base import Call, Outcome, Plain, Service, UdsInvalid


async def _write(use: Call, did: Plain, value: Plain) -> Outcome:
    number, name, model = arguments.data_identifier(use.ecu, did)
    if model is None:
        data = arguments.octets(value, f"value of {name}, which {use.ecu.name} does not describe,", least=1)
    else:
        try:
            data = model.encode(value)
        except ValueError as error:
            raise UdsInvalid(f"value of {name}: {error}") from error
    _, exchange = await use.raw(bytes((0x2E, number >> 8, number & 0xFF)) + data)
    return Outcome(None, exchange)


SERVICES = {"write": Service(_write, ("did", "value"))}
