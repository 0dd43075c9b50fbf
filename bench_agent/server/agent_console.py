"""A serial console of a bench: opened, watched, opened again when it was unplugged; read by many, written by one."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog

from bench_agent.server.config import ConsoleConfig, Traces
from bench_agent.server.console_history import ConsoleHistory
from bench_agent.server.console_log import ConsoleLog
from bench_agent.server.errors import CallError, in_use, unavailable
from ecu_adapters.serial_port import ModemLines, PortError, SerialPort

REMEMBERED = 1 << 20
"""Bytes of output that a reader may lag behind, or come back to."""
_FIRST_RETRY_S = 0.2
_LAST_RETRY_S = 10.0
_STEADY_S = 10.0
"""A port that fails sooner after it was opened is not opened again at once."""

_log = structlog.get_logger()


@dataclass(eq=False, slots=True)
class Writer:
    """Who alone may write now."""

    who: str


class AgentConsole:
    """One console. `run` keeps its port open. Used on one asyncio loop."""

    def __init__(
        self, bench: str, config: ConsoleConfig, port: Callable[[], str], on_change: Callable[[], None]
    ) -> None:
        """``port`` says where the console is now; it raises PortError while it is nowhere."""
        self.name = config.name
        self.config = config
        self.fault: str | None = f"console {config.name} is not open yet"
        """Why the port is not open; None when it is."""
        self.tried = asyncio.Event()
        """Set after the first attempt to open the port."""
        self.since = 0
        """Offset at which the present lease began: what came before is not its business."""
        self._title = f"{bench}/{config.name}"
        self._where = port
        self._on_change = on_change
        self._history = ConsoleHistory(REMEMBERED)
        self._news = asyncio.Event()
        self._announced = False
        self._port: SerialPort | None = None
        self._writer: Writer | None = None
        self._log: ConsoleLog | None = None
        self._lines_changed = False

    # Reading

    @property
    def end(self) -> int:
        """Offset of the next output."""
        return self._history.end

    @property
    def news(self) -> asyncio.Event:
        """Set with the next output or change of state; each has its own event."""
        return self._news

    def read(self, offset: int, limit: int) -> tuple[int, bytes]:
        """Output of this lease from ``offset`` on, and where it begins."""
        return self._history.read(max(offset, self.since), limit)

    # Writing

    @asynccontextmanager
    async def claimed(self, who: str) -> AsyncIterator[Writer]:
        """Nobody else can write within the context; after it, the lines are as at the start.

        Raises CallError naming who does already.
        """
        self.require_free()
        writer = self._writer = Writer(who)
        try:
            yield writer
        finally:
            if self._writer is writer:
                try:
                    await self._reset_lines()
                except PortError as error:
                    _log.warning("lines left as they were", console=self._title, reason=str(error))
                finally:
                    self._writer = None

    def require_free(self) -> None:
        """Raises CallError naming who writes now."""
        if self._writer is not None:
            raise in_use(
                f"console {self.name} is in use: {self._writer.who} has opened it for writing; "
                "open it to watch only, or end that first"
            )

    async def write(self, data: bytes) -> None:
        """Returns when the driver has taken all. Raises CallError or PortError."""
        port = self._require()
        await asyncio.to_thread(port.write, data)
        if self._log is not None:
            self._log.sent(data)

    async def send_break(self, duration_s: float) -> None:
        """Raises CallError or PortError."""
        await asyncio.to_thread(self._require().send_break, duration_s)
        self._note(f"break of {duration_s * 1000:g} ms")

    async def set_lines(self, *, dtr: bool | None, rts: bool | None) -> None:
        """Raises CallError or PortError."""
        # Before: a caller that goes away meanwhile does not stop the thread.
        before, self._lines_changed = self._lines_changed, True
        try:
            await asyncio.to_thread(lambda: self._require().set_lines(dtr=dtr, rts=rts))
        except (CallError, PortError):
            self._lines_changed = before
            raise

    async def lines(self) -> ModemLines:
        """Raises CallError or PortError."""
        return await asyncio.to_thread(self._require().lines)

    # Leases

    def open_lease(self, folder: Path | None, traces: Traces) -> None:
        """From here on, output is the new lease's, and logged. Blocks for the disk. Raises OSError."""
        self.since = self._history.end
        if folder is None:
            return
        path = folder / f"{self.name}.console.txt"
        self._log = ConsoleLog(path, max_bytes=traces.max_file_mb << 20, encoding=self.config.encoding)

    async def close_lease(self) -> None:
        """Nobody writes any more, the lines are as at the start, and the log is complete. Raises PortError."""
        self._writer = None
        await self._reset_lines()
        log, self._log = self._log, None
        if log is not None and not await asyncio.to_thread(log.stop):
            _log.error("the disk is too slow for the log of a console", console=self._title)
        self.since = self._history.end

    async def _reset_lines(self) -> None:
        if self._lines_changed and self._port is not None:
            await asyncio.to_thread(self._port.set_lines, dtr=True, rts=True)
        self._lines_changed = False

    @property
    def log(self) -> ConsoleLog | None:
        """Of the present lease; None when the disk refused it."""
        return self._log

    # The port

    async def run(self) -> None:
        """Keeps the port open until cancelled; retries for ever, with growing pauses."""
        pause = _FIRST_RETRY_S
        loop = asyncio.get_running_loop()
        while True:
            opened = loop.time()
            failed = asyncio.Event()
            try:
                port = await self._open(loop, failed)
            except PortError as error:
                self._down(str(error))
                self.tried.set()
            else:
                try:
                    self._up(port)
                    await failed.wait()
                    self._down(port.error or f"{port.name} was closed")
                finally:
                    self._port = None
                    await asyncio.to_thread(port.close)
                if loop.time() - opened >= _STEADY_S:
                    pause = _FIRST_RETRY_S
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - spreads retries, no secret
            pause = min(pause * 2, _LAST_RETRY_S)

    async def _open(self, loop: asyncio.AbstractEventLoop, failed: asyncio.Event) -> SerialPort:
        def fail(_reason: str) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(failed.set)

        def take(data: bytes) -> None:
            self._take(loop, data)

        opening = asyncio.create_task(
            asyncio.to_thread(lambda: SerialPort(self.config.line, take, fail, port=self._where()))
        )
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_close_late)
            raise

    def _up(self, port: SerialPort) -> None:
        self._port, self.fault = port, None
        self.tried.set()
        self._note(f"{port.name} is open")
        _log.info("console is open", console=self._title, port=port.name)
        self._state_changed()

    def _down(self, reason: str) -> None:
        fault = f"console {self.name}: {reason}"
        if fault == self.fault:
            return
        self._port, self.fault = None, fault
        self._note(reason)
        _log.warning("console is not open", console=self._title, reason=reason)
        self._state_changed()

    def _state_changed(self) -> None:
        self._pulse()
        self._on_change()

    def _take(self, loop: asyncio.AbstractEventLoop, data: bytes) -> None:
        """On the reader's thread."""
        self._history.append(data)
        log = self._log
        if log is not None:
            log.received(data)
        if not self._announced and not loop.is_closed():
            self._announced = True
            loop.call_soon_threadsafe(self._pulse)

    def _pulse(self) -> None:
        self._announced = False
        news, self._news = self._news, asyncio.Event()
        news.set()

    def _note(self, text: str) -> None:
        if self._log is not None:
            self._log.note(text)

    def _require(self) -> SerialPort:
        if self._port is None:
            raise unavailable(self.fault or f"console {self.name} is not open")
        return self._port


def _close_late(opening: "asyncio.Task[SerialPort]") -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()
