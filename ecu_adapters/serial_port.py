"""A serial port with a reader thread: a device, a pty, or any URL that pyserial knows.

What arrives is handed to a callback as it comes. A port that fails ends its reader with a reason that can be read and
is called back; nothing is opened again here.
"""

import io
import os
import selectors
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Literal

import serial
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from ecu_adapters.yaml_file import nearest

SCHEMES = frozenset({"socket", "rfc2217", "loop", "hwgrep", "alt", "spy", "cp2110"})
"""URL handlers that come with pyserial."""

_CHUNK = 65_536
_POLL_S = 0.1
"""How long a closing port without a file descriptor may wait for its reader."""
_CLOSE_S = 5.0
_PARITIES = {
    "none": serial.PARITY_NONE,
    "even": serial.PARITY_EVEN,
    "odd": serial.PARITY_ODD,
    "mark": serial.PARITY_MARK,
    "space": serial.PARITY_SPACE,
}


def _known_scheme(port: str) -> str:
    scheme, separator, _ = port.partition("://")
    if separator and scheme.lower() not in SCHEMES:
        raise ValueError(f"{port!r} has the unknown scheme {scheme!r}; {nearest(scheme, SCHEMES)}")
    return port


def _known_stopbits(value: float) -> float:
    if value not in (1, 1.5, 2):
        raise ValueError("stop bits are 1, 1.5 or 2")
    return value


class SerialConfig(BaseModel):
    """Which port to open, and how its line is set."""

    model_config = ConfigDict(extra="forbid")

    port: Annotated[str, AfterValidator(_known_scheme)] = Field(
        min_length=1, description="/dev/ttyUSB0, a pty, socket://host:port, rfc2217://host:port, loop://"
    )
    baudrate: int = Field(default=115_200, ge=50, le=20_000_000, description="bit/s")
    bytesize: Literal[5, 6, 7, 8] = 8
    parity: Literal["none", "even", "odd", "mark", "space"] = "none"
    stopbits: Annotated[float, AfterValidator(_known_stopbits)] = Field(default=1, description="1, 1.5 or 2")
    rtscts: bool = Field(default=False, description="hardware flow control")
    xonxoff: bool = Field(default=False, description="software flow control")
    write_timeout_s: float = Field(
        default=5.0, gt=0, le=60, description="longest time that flow control may hold a write"
    )


class PortError(Exception):
    """A serial port cannot be opened, has failed, or takes nothing. Names the port and the reason."""


@dataclass(frozen=True, slots=True)
class ModemLines:
    """The lines that the other end drives."""

    cts: bool
    dsr: bool
    ri: bool
    cd: bool


def open_serial(config: SerialConfig, *, port: str | None = None, timeout_s: float = _POLL_S) -> serial.Serial:
    """pyserial's port, open; ``port`` instead of that of the configuration. Raises PortError."""
    name = port or config.port
    try:
        return serial.serial_for_url(
            name,
            baudrate=config.baudrate,
            bytesize=config.bytesize,
            parity=_PARITIES[config.parity],
            stopbits=config.stopbits,
            rtscts=config.rtscts,
            xonxoff=config.xonxoff,
            timeout=timeout_s,
            # RFC 2217 knows none in pyserial, which bounds each write to its socket by 5 s.
            write_timeout=None if name.lower().startswith("rfc2217://") else config.write_timeout_s,
            # Two processes on one device would steal each other's bytes. A URL knows no such lock.
            exclusive=None if "://" in name else True,
        )
    except Exception as error:  # a URL's handler raises what it likes
        raise PortError(f"serial port {name} cannot be opened: {_reason(error)}") from error


def close_serial(port: serial.Serial) -> None:
    """Closes a port, whatever state it is in."""
    # pyserial 3.5 forgets to close the socket of a connection that the other end has ended already.
    connection = getattr(port, "_socket", None)
    with suppress(OSError):
        port.close()
    if isinstance(connection, socket.socket):
        connection.close()


class SerialPort:
    """An open port. All methods may be called from any thread."""

    def __init__(
        self, config: SerialConfig, on_data: Callable[[bytes], None], on_error: Callable[[str], None], *, port: str = ""
    ) -> None:
        """Opens ``port``, or else the configuration's, and starts reading. Raises PortError.

        ``on_data`` gets what arrives, ``on_error`` the reason when the port fails; both on the reader's thread.
        """
        self.name = port or config.port
        self.error: str | None = None
        """Why it does not read any more; None while it does."""
        self._port = open_serial(config, port=self.name)
        self._on_data = on_data
        self._on_error = on_error
        self._closing = threading.Event()
        self._writing = threading.Lock()
        self._waker, self._woken = socket.socketpair()
        self._thread = threading.Thread(target=self._read, name=f"serial-{self.name}", daemon=True)
        self._thread.start()

    def write(self, data: bytes) -> None:
        """Returns when the driver has taken all of it. Raises PortError; how much was sent is then unknown."""
        with self._writing:
            try:
                self._port.write(data)
            except serial.SerialTimeoutException:
                raise PortError(f"serial port {self.name} takes nothing: flow control holds it") from None
            except OSError as error:
                raise PortError(f"serial port {self.name}: {_reason(error)}") from error

    def send_break(self, duration_s: float) -> None:
        """Holds the line in the break condition. Raises PortError."""
        with self._writing:
            try:
                self._port.send_break(duration_s)
            except (OSError, AttributeError) as error:
                raise PortError(f"serial port {self.name} cannot send a break: {_reason(error)}") from error

    def set_lines(self, *, dtr: bool | None = None, rts: bool | None = None) -> None:
        """Drives the lines given; None leaves one as it is. Raises PortError."""
        try:
            if dtr is not None:
                self._port.dtr = dtr
            if rts is not None:
                self._port.rts = rts
        except OSError as error:
            raise PortError(f"serial port {self.name} has no modem lines: {_reason(error)}") from error

    def lines(self) -> ModemLines:
        """The lines as they are now. Raises PortError where there are none, as on a pty."""
        port = self._port
        try:
            return ModemLines(cts=port.cts, dsr=port.dsr, ri=port.ri, cd=port.cd)
        except (OSError, AttributeError) as error:
            raise PortError(f"serial port {self.name} has no modem lines: {_reason(error)}") from error

    def close(self) -> None:
        """Ends the reader and closes the port. May be called twice, not from the callbacks."""
        self._closing.set()
        self._waker.close()
        self._thread.join(_CLOSE_S)
        close_serial(self._port)
        self._woken.close()

    def _read(self) -> None:
        try:
            descriptor = self._descriptor()
            if descriptor is None:
                self._poll()
            else:
                self._select(descriptor)
        except OSError as error:
            if not self._closing.is_set():
                self.error = f"serial port {self.name}: {_reason(error)}"
                self._on_error(self.error)

    def _descriptor(self) -> int | None:
        try:
            return self._port.fileno()
        except io.UnsupportedOperation:
            return None

    def _select(self, descriptor: int) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(descriptor, selectors.EVENT_READ)
            selector.register(self._woken, selectors.EVENT_READ)
            while not self._closing.is_set():
                if all(key.fd != descriptor for key, _ in selector.select()):
                    continue
                try:
                    data = os.read(descriptor, _CHUNK)
                except BlockingIOError:
                    continue
                if not data:
                    raise OSError("the other end is gone: unplugged or closed")
                self._on_data(data)

    def _poll(self) -> None:
        while not self._closing.is_set():
            data = self._port.read(1)
            if data:
                self._on_data(data + self._port.read(self._port.in_waiting))


def _reason(error: Exception) -> str:
    """What pyserial or the operating system says, without the text that pyserial puts around it."""
    strerror = getattr(error, "strerror", None)
    text = str(error)
    if strerror and strerror in text and "could not open port" in text:
        return str(strerror).partition(": ")[2] if str(strerror).startswith("could not open") else str(strerror)
    return text or type(error).__name__
