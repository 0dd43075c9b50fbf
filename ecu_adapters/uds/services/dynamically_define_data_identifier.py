"""DynamicallyDefineDataIdentifier (0x2C): make an identifier out of parts of others or of memory, and forget it."""

from udsoncan.common.DynamicDidDefinition import DynamicDidDefinition
from udsoncan.services.DynamicallyDefineDataIdentifier import DynamicallyDefineDataIdentifier

from ecu_adapters.uds.services import arguments
from ecu_adapters.uds.services.base import Call, Outcome, Plain, Service, UdsInvalid

_SUB = DynamicallyDefineDataIdentifier.Subfunction


async def _define_did(
    use: Call,
    did: Plain,
    sources: Plain = None,
    memory: Plain = None,
    address_bytes: Plain = None,
    size_bytes: Plain = None,
) -> Outcome:
    number, _, _ = arguments.data_identifier(use.ecu, did)
    if (sources is None) == (memory is None):
        raise UdsInvalid("give either sources (parts of data identifiers) or memory (parts of the address space)")
    definition = DynamicDidDefinition()  # type: ignore[no-untyped-call]
    if memory is None:
        sub = _SUB.defineByIdentifier
        for index, source in enumerate(_list(sources, "sources")):
            _add_source(use, definition, source, f"sources[{index}]")
    else:
        sub = _SUB.defineByMemoryAddress
        for index, part in enumerate(_list(memory, "memory")):
            fields = _table(part, f"memory[{index}]", ("address", "size"))
            location = arguments.memory(use.ecu, fields.get("address"), fields.get("size"), address_bytes, size_bytes)
            definition.add(location)
    _, exchange = await use.exchange(DynamicallyDefineDataIdentifier.make_request(sub, number, definition))
    return Outcome(None, exchange)


def _add_source(use: Call, definition: DynamicDidDefinition, source: Plain, argument: str) -> None:
    fields = _table(source, argument, ("did", "position", "size"))
    number, name, model = arguments.data_identifier(use.ecu, fields.get("did"), f"{argument}.did")
    position = arguments.integer(fields.get("position", 1), f"{argument}.position", 0xFF, least=1)
    size = fields.get("size")
    if size is None:
        if model is None:
            raise UdsInvalid(f"{argument}.size is missing: {use.ecu.name} does not describe {name}")
        size = model.length - position + 1
    definition.add(number, position=position, memorysize=arguments.integer(size, f"{argument}.size", 0xFF, least=1))


async def _clear_dynamic_did(use: Call, did: Plain = None) -> Outcome:
    number = None if did is None else arguments.data_identifier(use.ecu, did)[0]
    request = DynamicallyDefineDataIdentifier.make_request(_SUB.clearDynamicallyDefinedDataIdentifier, number)
    _, exchange = await use.exchange(request)
    return Outcome(None, exchange)


def _list(value: Plain, argument: str) -> list[Plain]:
    if not isinstance(value, list) or not value:
        raise UdsInvalid(f"{argument} must be a list of at least one table, not {value!r}")
    return value


def _table(value: Plain, argument: str, known: tuple[str, ...]) -> dict[str, Plain]:
    if isinstance(value, str | int) and "did" in known:
        return {"did": value}  # the whole of it
    if not isinstance(value, dict) or not set(value) <= set(known):
        raise UdsInvalid(f"{argument} must be a table with {', '.join(known)}, not {value!r}")
    return value


SERVICES = {
    "define_did": Service(_define_did, ("did",), ("sources", "memory", "address_bytes", "size_bytes")),
    "clear_dynamic_did": Service(_clear_dynamic_did, optional=("did",)),
}
