"""What the DoIP tests have in common: a simulated ECU behind an entity on loopback."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from ecu_adapters.bus import BusNode
from ecu_adapters.description import EcuDescription
from ecu_adapters.doip.settings import DoIp
from ecu_adapters.simulator import SimulatedEcu
from ecu_adapters.simulator.clock import Clock
from ecu_adapters.simulator.doip_entity import DoIpEntity

WAIT_S = 30.0
HOST = "127.0.0.1"
ECM, TCM, ALL = 0x1001, 0x1002, 0xE400


def over_doip(ecu: EcuDescription, port: int = 13400, **settings: Any) -> EcuDescription:
    """The same ECU, reached by DoIP."""
    given = {"host": HOST, "port": port, "logical_address": ECM, "functional_address": ALL, **settings}
    return ecu.model_copy(update={"doip": DoIp.model_validate(given)})


@asynccontextmanager
async def entity_with(
    *ecus: EcuDescription, clock: Clock | None = None
) -> AsyncIterator[tuple[DoIpEntity, list[EcuDescription], list[SimulatedEcu]]]:
    """An entity on a free port with these ECUs behind it, and their descriptions with that port."""
    first = ecus[0].doip
    assert first is not None
    entity = DoIpEntity(HOST, 0, first, vin="WVWZZZ1KZ6W000001", clock=clock)
    await entity.start()
    placed = [
        ecu.model_copy(update={"doip": ecu.doip.model_copy(update={"port": entity.port})})
        for ecu in ecus
        if ecu.doip is not None
    ]
    simulated = [SimulatedEcu(ecu, BusNode.alone(ecu.name), doip=entity, clock=clock) for ecu in placed]
    try:
        for one in simulated:
            await one.start()
        yield entity, placed, simulated
    finally:
        for one in simulated:
            await one.stop()
        await entity.stop()


async def eventually(condition: Any, what: str) -> None:
    """Waits for something that the other end of a socket brings about."""
    async with asyncio.timeout(WAIT_S):
        while not condition():  # noqa: ASYNC110 - the other end of a socket has no event of ours
            await asyncio.sleep(0.005)
    assert condition(), what
