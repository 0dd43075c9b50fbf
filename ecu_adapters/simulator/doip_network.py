"""The DoIP entities of the simulated ECUs of one bench: one for each host and port."""

import asyncio

from ecu_adapters.description import EcuDescription
from ecu_adapters.doip.settings import DoIp
from ecu_adapters.simulator.doip_entity import DoIpEntity

_VIN = 0xF190


class DoIpNetwork:
    """Starts an entity when its first ECU is powered up. Used on one asyncio loop."""

    def __init__(self) -> None:
        self._settings: dict[str, DoIp] = {}
        self._vins: dict[str, str] = {}
        self._entities: dict[str, DoIpEntity] = {}
        self._starting = asyncio.Lock()

    def add(self, ecu: EcuDescription) -> None:
        """An ECU that will be simulated. Raises ValueError when it describes its entity otherwise than another one.

        The first VIN (data identifier 0xF190) that an ECU of the entity has is the entity's.
        """
        if ecu.doip is None:
            return
        place = ecu.doip.place
        known = self._settings.setdefault(place, ecu.doip)
        if "entity" in ecu.doip.model_fields_set and ecu.doip.entity != known.entity:
            if "entity" in known.model_fields_set:
                raise ValueError(f"ECU {ecu.name}: another ECU describes the doip.entity at {place} otherwise")
            self._settings[place] = ecu.doip
        found = ecu.did_by_number(_VIN)
        if found is not None and isinstance(value := found[1].value, str):
            self._vins.setdefault(place, value)

    async def entity(self, settings: DoIp) -> DoIpEntity:
        """The entity of an ECU that was added, started. Raises OSError when it cannot listen there."""
        place = settings.place
        async with self._starting:
            entity = self._entities.get(place)
            if entity is None:
                entity = DoIpEntity(settings.host, settings.port, self._settings[place], vin=self._vins.get(place, ""))
                await entity.start()
                self._entities[place] = entity
            return entity

    async def stop(self) -> None:
        """Closes all of them."""
        entities, self._entities = list(self._entities.values()), {}
        for entity in entities:
            await entity.stop()
