"""What a test does to a simulated ECU from outside: faults, voltage, values, trouble codes, memory, time.

It is to the simulated ECU what screwdriver, power supply and debugger are to a real one. Whatever cannot be done raises
ControlError, and nothing is changed then.
"""

import asyncio
import math
from collections.abc import Mapping
from typing import get_args

from pydantic import ValidationError

from ecu_adapters import yaml_file
from ecu_adapters.dbc import DatabaseError
from ecu_adapters.dids import Did
from ecu_adapters.simulation import ANSWER_FAULTS, Fault
from ecu_adapters.simulator.clock import VirtualClock
from ecu_adapters.simulator.cyclic import CyclicSender
from ecu_adapters.simulator.dtc_engine import FAILED_AT, PASSED_AT
from ecu_adapters.simulator.ecu import SimulatedEcu
from ecu_adapters.simulator.faults import TooManyFaults
from ecu_adapters.simulator.memory import MemoryFault, Range
from ecu_adapters.simulator.power_input import Channel
from ecu_adapters.uds import dtc as dtc_code
from ecu_adapters.yaml_file import nearest

HIGHEST_V = 60.0
LONGEST_ADVANCE_S = 3600.0
MOST_MEMORY = 1 << 20
"""Bytes that are read or written at once."""
_SLICE_S = 0.5
"""Virtual seconds after which others on the loop have their turn."""


class ControlError(ValueError):
    """The ECU cannot do what is asked; says what is wrong, and what would be right."""


class Control:
    """Over one ECU, which is started. Used on the ECU's loop."""

    def __init__(self, ecu: SimulatedEcu) -> None:
        self._ecu = ecu

    def inject(self, fault: Mapping[str, object]) -> int:
        """Puts a fault in force, given as in a description; returns its number."""
        try:
            checked = Fault.model_validate(fault)
            if checked.kind not in ANSWER_FAULTS and not self._ecu.sends_frames:
                kinds = ", ".join(sorted(ANSWER_FAULTS))
                message = f"fault.kind: {checked.kind} is of CAN frames, but {self._ecu.ecu.name} is reached by DoIP"
                raise ControlError(f"{message}; there are {kinds}")
            return self._ecu.faults.inject(checked)
        except ValidationError as error:
            raise ControlError("; ".join(f"fault.{problem}" for problem in yaml_file.problems(error, Fault))) from None
        except TooManyFaults as error:
            raise ControlError(str(error)) from None

    def clear_faults(self, number: int | None = None) -> int:
        """Ends one fault, or all; returns how many. An answer that a fault held back for ever comes now."""
        cleared = self._ecu.faults.clear(number)
        if cleared:
            self._ecu.server.relent()
        return cleared

    def set_voltage(self, terminal: str, volts: float) -> None:
        """V at a power terminal."""
        if not 0 <= volts <= HIGHEST_V:
            raise ControlError(f"volts is {volts:g}; it must be 0 .. {HIGHEST_V:g}")
        self._ecu.power.set_voltage(power_terminal(terminal), volts)

    def set_value(self, did: str, value: object) -> None:
        """A data identifier, by name or number; bytes are taken as they are."""
        model = self._did(did)
        if isinstance(value, bytes):
            if len(value) != model.length:
                raise ControlError(f"{did} has {model.length} bytes, not {len(value)}")
            data = value
        else:
            try:
                data = model.encode(value)
            except ValueError as error:
                raise ControlError(f"{did}: {error}") from None
        self._ecu.server.state.data.write(model.did, data)
        self._ecu.changed()

    def set_signal(self, message: str, signal: str, value: object) -> None:
        """A signal of a message that the ECU sends by itself."""
        sender = self._sender(message)
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise ControlError(f"{message}.{signal} is {value!r}; it must be a number or a name")
        try:
            sender.set(signal, value)
        except DatabaseError as error:
            raise ControlError(str(error)) from None

    def switch_message(self, message: str, on: bool) -> None:
        """Stops a message that the ECU sends by itself, or lets it go on."""
        self._sender(message).stopped = not on

    def report(self, code: str, counter: int) -> None:
        """The test of a trouble code reports its fault detection counter: 127 has failed, -128 passed."""
        try:
            number = dtc_code.parse(code)
        except ValueError as error:
            raise ControlError(str(error)) from None
        dtcs = self._ecu.server.state.dtcs
        if number not in dtcs.entries:
            known = nearest(code, map(dtc_code.text, dtcs.entries))
            raise ControlError(f"{self._ecu.ecu.name} has no trouble code {code!r}; {known}")
        if not PASSED_AT <= counter <= FAILED_AT:
            raise ControlError(f"counter is {counter}; it must be {PASSED_AT} (passed) .. {FAILED_AT} (failed)")
        dtcs.detected(number, counter)
        self._ecu.changed()

    def new_cycle(self) -> None:
        """The operation cycle ends, and another one begins."""
        self._ecu.server.state.dtcs.new_cycle()
        self._ecu.changed()

    def read_memory(self, address: int, size: int) -> bytes:
        """Bytes as they are."""
        try:
            return self._ecu.server.state.memory.read(self._range(address, size))
        except MemoryFault as error:
            raise ControlError(str(error)) from None

    def write_memory(self, address: int, data: bytes) -> None:
        """Flash need not be erased."""
        where = self._range(address, len(data))
        try:
            self._ecu.server.state.memory.poke(where, data)
        except MemoryFault as error:
            raise ControlError(str(error)) from None
        self._ecu.changed()

    async def advance(self, seconds: float) -> None:
        """Lets the ECU's virtual clock run; everything that falls due is done, in its order."""
        clock = self._ecu.clock
        if not isinstance(clock, VirtualClock):
            name = self._ecu.ecu.name
            raise ControlError(f"the clock of {name} is real; its description makes it so: simulation.clock: virtual")
        if not 0 < seconds <= LONGEST_ADVANCE_S:
            raise ControlError(f"seconds is {seconds:g}; it must be above 0 and at most {LONGEST_ADVANCE_S:g}")
        end = clock.now() + seconds
        for _ in range(math.ceil(seconds / _SLICE_S)):
            clock.advance(max(min(_SLICE_S, end - clock.now()), 0.0))
            await asyncio.sleep(0)

    def reset(self) -> None:
        """As a watchdog does."""
        if not self._ecu.power.powered:
            raise ControlError(f"{self._ecu.ecu.name} has no power")
        self._ecu.server.reset()

    def _sender(self, message: str) -> CyclicSender:
        sender = self._ecu.cyclic.get(message)
        if sender is None:
            raise ControlError(f"{self._ecu.ecu.name} does not send {message!r}; {nearest(message, self._ecu.cyclic)}")
        return sender

    def _did(self, did: str) -> Did:
        ecu = self._ecu.ecu
        found = ecu.dids.get(did)
        if found is None and did[:1].isdigit():
            try:
                by_number = ecu.did_by_number(int(did, 0))
            except ValueError:
                by_number = None
            found = by_number[1] if by_number is not None else None
        if found is None:
            raise ControlError(f"{ecu.name} has no data identifier {did!r}; {nearest(did, ecu.dids)}")
        return found

    @staticmethod
    def _range(address: int, size: int) -> Range:
        if not 1 <= size <= MOST_MEMORY:
            raise ControlError(f"size is {size}; it must be 1 .. {MOST_MEMORY} bytes")
        return Range(address, size)


def power_terminal(name: str) -> Channel:
    """Raises ControlError for what is none."""
    for terminal in get_args(Channel):
        if name.lower() == terminal:
            return terminal  # type: ignore[no-any-return]  # get_args gives Any
    raise ControlError(f"terminal is {name!r}; it must be {' or '.join(get_args(Channel))}")
