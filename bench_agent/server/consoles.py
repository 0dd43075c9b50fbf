"""The serial consoles of one bench."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path

import structlog

from bench_agent.protocol import bench_pb2
from bench_agent.server.agent_console import AgentConsole
from bench_agent.server.config import ConsoleConfig, Traces
from bench_agent.server.errors import not_found
from bench_agent.server.pattern_search import PatternSearch
from ecu_adapters.serial_port import PortError
from ecu_adapters.yaml_file import nearest

SIMULATOR = "simulator:"
"""What a port's name begins with that a simulated ECU offers: ``simulator:ECM``."""
CLOSE_S = 15.0
"""Longest time that closing all consoles of a lease may take."""

_FIRST_OPEN_S = 5.0

_log = structlog.get_logger()


class Consoles:
    """Used on one asyncio loop."""

    def __init__(
        self,
        bench: str,
        configs: Sequence[ConsoleConfig],
        simulated: Callable[[str], str | None],
        on_change: Callable[[], None],
    ) -> None:
        """``simulated`` gives the pty of a simulated ECU; None while it has none."""
        self.patterns = PatternSearch()
        """Where the expectations of this bench are matched."""
        self._bench = bench
        self._simulated = simulated
        self._all = {config.name: AgentConsole(bench, config, self._port_of(config), on_change) for config in configs}
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Opens the ports; one that takes long opens when it opens."""
        self._tasks = [
            asyncio.create_task(console.run(), name=f"console-{self._bench}/{name}")
            for name, console in self._all.items()
        ]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FIRST_OPEN_S):
                await asyncio.gather(*(console.tried.wait() for console in self._all.values()))

    async def stop(self) -> None:
        """Closes the ports."""
        for task in self._tasks:
            task.cancel()
        for outcome in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(outcome, Exception):
                _log.error("console did not close cleanly", bench=self._bench, exc_info=outcome)
        await self.patterns.close()

    def get(self, name: str) -> AgentConsole:
        """Raises CallError (NOT_FOUND) with the nearest names."""
        console = self._all.get(name)
        if console is None:
            raise not_found(f"bench {self._bench} has no console {name!r}; {nearest(name, self._all)}")
        return console

    @property
    def faults(self) -> list[str]:
        """Of the consoles that are not open."""
        return [console.fault for console in self._all.values() if console.fault]

    def describe(self) -> list[bench_pb2.ConsoleDescription]:
        """For the wire."""
        return [
            bench_pb2.ConsoleDescription(name=name, port=console.config.port, baudrate=console.config.baudrate)
            for name, console in self._all.items()
        ]

    def open_lease(self, folder: Path | None, traces: Traces) -> None:
        """Logs begin. Blocks for the disk; a log that cannot be written costs the lease nothing else."""
        for console in self._all.values():
            try:
                console.open_lease(folder, traces)
            except OSError as error:
                _log.error("no log of a console", bench=self._bench, console=console.name, reason=str(error))

    async def close_lease(self) -> None:
        """Nobody writes any more, and the logs are complete. Raises PortError when a line could not be restored."""
        outcomes = await asyncio.gather(
            *(console.close_lease() for console in self._all.values()), return_exceptions=True
        )
        faults = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        if faults:
            raise PortError("; ".join(str(fault) or type(fault).__name__ for fault in faults))

    def _port_of(self, config: ConsoleConfig) -> Callable[[], str]:
        if not config.port.startswith(SIMULATOR):
            return lambda: config.port
        ecu = config.port.removeprefix(SIMULATOR)

        def where() -> str:
            port = self._simulated(ecu)
            if port is None:
                raise PortError(f"the simulated ECU {ecu} has no serial port at present")
            return port

        return where
