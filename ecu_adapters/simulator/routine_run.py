"""A routine of the simulated ECU that was started: what it does to the memory, and when it is over."""

import binascii
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

from ecu_adapters import records
from ecu_adapters.coding import Scalar
from ecu_adapters.records import Fields
from ecu_adapters.routines import Routine
from ecu_adapters.simulator.memory import Memory, Range


@dataclass(slots=True)
class RoutineRun:
    """``ends_at`` is on the ECU's clock, in seconds."""

    ends_at: float
    found: Mapping[str, Scalar]
    """What it found out, by the names of status fields."""
    stopped: bool = False

    def is_running(self, now: float) -> bool:
        """Whether it goes on."""
        return not self.stopped and now < self.ends_at


def perform(routine: Routine, memory: Memory, where: Range | None, options: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """Does what the routine's action says and returns what it found. Raises MemoryFault."""
    if where is None or routine.action == "none":
        return {}
    if routine.action == "erase":
        memory.erase(where)
        return {"result": 0}
    data = memory.read(where)
    crc = zlib.crc32(data) if routine.crc == "crc32" else binascii.crc_hqx(data, 0xFFFF)
    return {"crc": crc, "result": 0 if routine.action == "checksum" or options["crc"] == crc else 1}


def status(fields: Fields, found: Mapping[str, Scalar]) -> bytes:
    """A status record: what was found, and else what the description gives."""
    initial = records.initial(fields)
    return records.encode(fields, {name: found.get(name, value) for name, value in initial.items()})
