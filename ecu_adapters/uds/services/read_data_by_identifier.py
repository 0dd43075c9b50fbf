"""ReadDataByIdentifier (0x22): one identifier or several in one request."""

from udsoncan.services.ReadDataByIdentifier import ReadDataByIdentifier

from ecu_adapters.uds.services import arguments, results
from ecu_adapters.uds.services.base import Call, Outcome, Plain, Service, UdsInvalid
from ecu_adapters.uds.tester import UdsUnexpected


async def _read(use: Call, did: Plain, details: Plain = False) -> Outcome:
    if isinstance(did, list):
        return await _read_many(use, did, bool(details))
    number, name, model = arguments.data_identifier(use.ecu, did)
    asked = bytes((0x22, number >> 8, number & 0xFF))
    response, exchange = await use.raw(asked)
    if response[1:3] != asked[1:]:
        raise UdsUnexpected(f"response to data identifier 0x{number:04X} is {response.hex()}", exchange)
    data = response[3:]
    value = results.value_of(use, name, model, data, exchange)
    if details:
        value = {"name": name, "did": number, "value": value, "unit": results.units_of(model), "raw": data}
    return Outcome(value, exchange)


async def _read_many(use: Call, dids: list[Plain], details: bool) -> Outcome:
    found = [arguments.data_identifier(use.ecu, did) for did in dids]
    if not found:
        raise UdsInvalid("did is an empty list; give at least one data identifier")
    models = {number: (name, model) for number, name, model in found}
    for number, (_, model) in models.items():
        if model is None:
            # Without its length, what follows it in the response cannot be told apart.
            raise UdsInvalid(f"did 0x{number:04X} is not in the description of {use.ecu.name}; read it alone")
    response, exchange = await use.exchange(ReadDataByIdentifier.make_request(list(models), None))
    data = response.data or b""
    values: dict[str, Plain] = {}
    at = 0
    while at < len(data):
        number = int.from_bytes(data[at : at + 2], "big")
        name, model = models.get(number, ("", None))
        if model is None or at + 2 + model.length > len(data):
            raise use.malformed("does not add up", exchange)
        raw = data[at + 2 : at + 2 + model.length]
        value = results.value_of(use, name, model, raw, exchange)
        if details:
            value = {"name": name, "did": number, "value": value, "unit": results.units_of(model), "raw": raw}
        values[name] = value
        at += 2 + model.length
    return Outcome(values, exchange)


SERVICES = {"read": Service(_read, ("did",), ("details",))}
