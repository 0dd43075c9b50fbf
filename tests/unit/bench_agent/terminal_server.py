"""A terminal server: a device that says what it hears, behind a TCP port, raw or with RFC 2217 (pyserial's own)."""

import contextlib
import socket
import threading
from typing import Any, cast

import serial
import serial.rfc2217

_TICK_S = 0.05


class TerminalServer:
    """Serves one connection after the other, until it is closed."""

    def __init__(self, scheme: str) -> None:
        self.device = serial.serial_for_url("loop://", timeout=_TICK_S)
        self._with_options = scheme == "rfc2217"
        self._closing = threading.Event()
        self._connection: socket.socket | None = None
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"{scheme}://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def hang_up(self, last_words: bytes = b"") -> None:
        if self._connection is not None:
            self._connection.sendall(last_words)
            self._connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """May be called twice."""
        self._closing.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(OSError):
            self.hang_up()
        self._thread.join(10)
        self._listener.close()

    def _serve(self) -> None:
        while not self._closing.is_set():
            with contextlib.suppress(OSError):
                connection, _ = self._listener.accept()
                with connection:
                    self._connection = connection
                    _Session(self.device, connection, self._with_options).run()


class _Session:
    def __init__(self, device: serial.Serial, connection: socket.socket, with_options: bool) -> None:
        self._device = device
        self._connection = connection
        self._sending = threading.Lock()
        self._over = threading.Event()
        # Any port and whatever has `write` will do; the stubs know better.
        self._manager = serial.rfc2217.PortManager(cast(Any, device), cast(Any, self)) if with_options else None

    def write(self, data: bytes) -> None:
        with self._sending:
            self._connection.sendall(data)

    def run(self) -> None:
        sender = threading.Thread(target=self._send, daemon=True)
        sender.start()
        try:
            while data := self._connection.recv(1024):
                self._device.write(b"".join(self._manager.filter(data)) if self._manager else data)
        finally:
            self._over.set()
            sender.join(10)

    def _send(self) -> None:
        with contextlib.suppress(OSError):
            while not self._over.is_set():
                if data := self._device.read(1):
                    self.write(b"".join(self._manager.escape(data)) if self._manager else data)
