"""A power supply that speaks SCPI (IEEE 488.2, SCPI-1999) over TCP or a serial line."""

import math
import re

import serial

from ecu_adapters.power.config import ScpiConfig
from ecu_adapters.power.supply import NonsenseError, PowerError, Reading, Supply, UnsupportedError
from ecu_adapters.serial_port import PortError, close_serial, open_serial

_LONGEST_ANSWER = 4096
_MOST_ERRORS = 32
"""More than any error queue holds; a device that never runs out of errors is broken."""
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
"""NR1, NR2 and NR3 of IEEE 488.2, 8.7."""
_IMPLAUSIBLE = 1e6
"""Also SCPI's stand-ins for infinity and "not a number", 9.9E37 and 9.91E37 (SCPI-1999 volume 1, 7.2.1)."""
_ERROR = re.compile(r'\s*([+-]?\d+)\s*,\s*"(.*)"\s*')
_STATES = {"1": True, "0": False, "ON": True, "OFF": False}


class ScpiSupply(Supply):
    """Every command is followed by a look at the device's error queue."""

    settable = True
    step_s = 0.02

    def __init__(self, config: ScpiConfig) -> None:
        self._config = config
        self._commands = config.spoken
        self._title = f"supply {config.name} at {config.port}"
        self._port: serial.Serial | None = None

    def switch(self, channel: str, on: bool) -> None:
        """OUTPut:STATe."""
        self._command(channel, self._commands.on if on else self._commands.off)

    def set(self, channel: str, *, voltage: float | None = None, current: float | None = None) -> None:
        """SOURce:VOLTage and SOURce:CURRent."""
        for template, value, what in (
            (self._commands.voltage, voltage, "voltage"),
            (self._commands.current, current, "current limit"),
        ):
            if value is None:
                continue
            if template is None:
                raise UnsupportedError(f"{self._title} has no command for the {what}")
            self._command(channel, template, value)

    def measure(self, channel: str) -> Reading:
        """MEASure:VOLTage and MEASure:CURRent."""
        voltage, current = self._commands.measure_voltage, self._commands.measure_current
        if voltage is None and current is None:
            raise UnsupportedError(f"{self._title} does not measure")
        return Reading(
            None if voltage is None else self._number(channel, voltage),
            None if current is None else self._number(channel, current),
        )

    def is_on(self, channel: str) -> bool | None:
        """OUTPut:STATe?"""
        if self._commands.state is None:
            return None
        answer = self._ask(channel, self._commands.state)
        state = _STATES.get(answer.strip().upper())
        if state is None:
            raise self._nonsense(self._commands.state, answer, "0, 1, ON or OFF")
        return state

    def close(self) -> None:
        """Ends the connection."""
        port, self._port = self._port, None
        if port is not None:
            close_serial(port)

    def _command(self, channel: str, template: str, value: float = 0.0) -> None:
        text = self._filled(channel, template, value)
        self._write(text)
        errors = self._errors()
        if errors:
            raise PowerError(f"{self._title} refuses {text!r}: {'; '.join(errors)}")

    def _errors(self) -> list[str]:
        """The device's error queue, emptied."""
        errors: list[str] = []
        asked = self._commands.error
        while asked is not None:
            answer = self._query(asked)
            found = _ERROR.fullmatch(answer)
            if found is None:
                raise self._nonsense(asked, answer, "a number and a text in quotes")
            if int(found[1]) == 0:
                break
            errors.append(f"{found[2]} ({found[1]})")
            if len(errors) > _MOST_ERRORS:
                raise self._nonsense(asked, answer, "an end of the errors")
        return errors

    def _number(self, channel: str, template: str) -> float:
        answer = self._ask(channel, template)
        if not _NUMBER.fullmatch(answer.strip()):
            raise self._nonsense(template, answer, "a number")
        value = float(answer)
        if not math.isfinite(value) or abs(value) >= _IMPLAUSIBLE:
            raise self._nonsense(template, answer, "a plausible number")
        return value

    def _ask(self, channel: str, template: str) -> str:
        return self._query(self._filled(channel, template))

    def _filled(self, channel: str, template: str, value: float = 0.0) -> str:
        output = self._config.channels[channel].output
        text = template.format(output=output, value=value)
        if self._commands.select is not None:
            self._write(self._commands.select.format(output=output))
        return text

    def _query(self, text: str) -> str:
        self._write(text)
        port = self._opened()
        try:
            answer = port.read_until(b"\n", _LONGEST_ANSWER)
        except OSError as error:
            self.close()
            raise PowerError(f"{self._title} failed: {error}") from error
        if not answer.endswith(b"\n"):
            # Whatever comes late would be taken for the answer to the next question.
            self.close()
            if len(answer) >= _LONGEST_ANSWER:
                raise NonsenseError(f"{self._title} answered {text!r} with more than {_LONGEST_ANSWER} bytes")
            said = f" but {answer!r}" if answer else ""
            raise PowerError(f"{self._title} did not answer {text!r} within {self._config.timeout_s:g} s{said}")
        try:
            return answer.decode("ascii").rstrip("\r\n")
        except UnicodeDecodeError:
            self.close()
            raise self._nonsense(text, repr(answer), "ASCII text") from None

    def _write(self, text: str) -> None:
        port = self._opened()
        try:
            port.write(text.encode("ascii") + b"\n")
        except OSError as error:
            self.close()
            raise PowerError(f"{self._title} failed: {error}") from error

    def _opened(self) -> serial.Serial:
        if self._port is not None:
            return self._port
        try:
            self._port = open_serial(self._config.line, timeout_s=self._config.timeout_s)
        except PortError as error:
            raise PowerError(f"{self._title} cannot be reached: {error}") from error
        # Old errors are somebody else's; and is it a supply at all? Four fields: IEEE 488.2, 10.14.
        self._write("*CLS")
        identity = self._query("*IDN?")
        if identity.count(",") < 3:
            self.close()
            raise self._nonsense("*IDN?", identity, "maker, model, serial number and version")
        return self._port

    def _nonsense(self, asked: str, answer: str, expected: str) -> NonsenseError:
        return NonsenseError(f"{self._title} answered {asked!r} with {answer[:80]!r}; expected {expected}")
