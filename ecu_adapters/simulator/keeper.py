"""Keeps a simulated ECU's lasting memory on disk, soon after each change and off the loop."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import structlog

from ecu_adapters.simulator.nvm import NvmError, NvmFolder
from ecu_adapters.simulator.state import EcuState

_DELAY_S = 0.05
"""Changes within this time are written together."""

_log = structlog.get_logger()


class Keeper:
    """Used on one asyncio loop, `load` apart."""

    def __init__(self, folder: Path, state: EcuState, on_change: Callable[[], None]) -> None:
        """``on_change`` is told when `fault` has changed."""
        self.fault: str | None = None
        """Why the last change is not on the disk; None when it is."""
        self._folder = NvmFolder(folder)
        self._state = state
        self._on_change = on_change
        self._task: asyncio.Task[None] | None = None
        self._commits: set[asyncio.Task[None]] = set()
        self._saving = asyncio.Lock()
        self._dirty = False

    def load(self) -> None:
        """Brings back what was kept. Blocks. Raises NvmError."""
        document, regions = self._folder.load()
        if document is None:
            return
        try:
            self._state.restore(document)
        except ValueError as error:
            raise NvmError(str(error)) from error
        for name, content in regions.items():
            self._state.memory.restore(name, content)

    def note(self) -> None:
        """Something may have changed."""
        self._dirty = True
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._save_soon(), name="simulated-ecu-nvm")

    def commit(self, done: Callable[[bool], None]) -> None:
        """Writes now, and tells whether it could."""

        async def write() -> None:
            done(await self._save())

        task = asyncio.get_running_loop().create_task(write(), name="simulated-ecu-nvm-commit")
        self._commits.add(task)
        task.add_done_callback(self._commits.discard)

    async def close(self) -> None:
        """Writes what waits."""
        await asyncio.gather(*self._commits)
        if self._task is not None:
            await self._task
        self._dirty = True
        await self._save()

    async def _save_soon(self) -> None:
        try:
            while self._dirty:
                await asyncio.sleep(_DELAY_S)
                await self._save()
        finally:
            self._task = None

    async def _save(self) -> bool:
        async with self._saving:
            self._dirty = False
            changed, memory = self._state.memory.changed, self._state.memory
            regions = {name: content for name, content in memory.lasting() if name in changed}
            memory.changed = set()
            try:
                await asyncio.to_thread(self._folder.save, self._state.dump(), regions)
            except NvmError as error:
                memory.changed |= changed
                self._set_fault(str(error))
                return False
            self._set_fault(None)
            return True

    def _set_fault(self, fault: str | None) -> None:
        if fault == self.fault:
            return
        self.fault = fault
        if fault is not None:
            _log.error("lasting memory of a simulated ECU was not written", reason=fault)
        self._on_change()
