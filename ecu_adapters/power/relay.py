"""A relay board on a serial line: a byte string closes a relay, another opens it."""

import serial

from ecu_adapters.power.config import RelayConfig
from ecu_adapters.power.supply import NonsenseError, PowerError, Supply
from ecu_adapters.serial_port import PortError, close_serial, open_serial


class RelaySupply(Supply):
    """It switches, no more."""

    def __init__(self, config: RelayConfig) -> None:
        self._config = config
        self._title = f"relay board {config.name} at {config.port}"
        self._port: serial.Serial | None = None

    def switch(self, channel: str, on: bool) -> None:
        """Sends the channel's bytes, and awaits the answer if one is configured."""
        relay = self._config.channels[channel]
        expected = relay.answer.encode("latin-1")
        try:
            if self._port is None:
                self._port = open_serial(self._config.line, timeout_s=self._config.timeout_s)
            self._port.reset_input_buffer()
            self._port.write((relay.on if on else relay.off).encode("latin-1"))
            answer = self._port.read(len(expected)) if expected else b""
        except PortError as error:
            raise PowerError(f"{self._title} cannot be reached: {error}") from error
        except OSError as error:
            self.close()
            raise PowerError(f"{self._title} failed: {error}") from error
        if answer != expected:
            self.close()
            if not answer:
                raise PowerError(f"{self._title} did not answer within {self._config.timeout_s:g} s")
            raise NonsenseError(f"{self._title} answered {answer!r}; expected {expected!r}")

    def close(self) -> None:
        """Ends the connection; relays stay as they are."""
        port, self._port = self._port, None
        if port is not None:
            close_serial(port)
