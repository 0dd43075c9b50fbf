"""The devices of a bench that drivers of the lab's own operate."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import structlog
from pydantic import ValidationError

from bench_agent.protocol import bench_pb2
from bench_agent.server.config import AdapterConfig
from bench_agent.server.errors import CleanUpError, device_fault, invalid, not_found
from ecu_adapters.adapter import Adapter, AdapterError, CallRefused, Method, load_driver, methods
from ecu_adapters.yaml_file import nearest

CALL_S = 30.0
"""How long a device may take, unless its caller says otherwise."""
RESET_S = 60.0
"""Longest time that resetting all adapters of a bench may take."""
_CLOSE_S = 10.0

_log = structlog.get_logger()


class AgentAdapter:
    """One device. Used on one asyncio loop; the driver runs in a thread of its own, one call after the other."""

    def __init__(self, bench: str, config: AdapterConfig, on_change: Callable[[], None]) -> None:
        self.name = config.name
        self.config = config
        self.fault: str | None = None
        """Why it cannot be used; None when it can."""
        self.methods: Mapping[str, Method] = {}
        self._title = f"{bench}/{config.name}"
        self._on_change = on_change
        self._driver: Adapter | None = None
        self._opened = False
        self._used = False
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"adapter-{self._title}")

    def load(self) -> None:
        """Imports the driver and reads its settings. What fails is in `fault`."""
        try:
            driver = load_driver(self.config.driver)
            self.methods = methods(driver)
            self._driver = driver(driver.Config.model_validate(self.config.settings))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            field = ".".join(map(str, first["loc"]))
            self.fault = f"adapter {self.name}: settings.{field}: {first['msg']}"
        except (AdapterError, TypeError) as error:
            self.fault = f"adapter {self.name}: {error}"
        except Exception as error:
            # The driver is somebody else's: it may raise anything.
            self.fault = f"adapter {self.name}: {type(error).__name__}: {error}"
        if self.fault is not None:
            _log.error("adapter cannot be used", adapter=self._title, reason=self.fault)

    async def call(self, name: str, positional: list[object], named: Mapping[str, object], timeout_s: float) -> object:
        """Raises CallError."""
        method = self.methods.get(name)
        if method is None:
            raise not_found(self.fault or f"adapter {self.name} has no method {name!r}; {nearest(name, self.methods)}")
        try:
            arguments = method.bind(positional, named)
        except CallRefused as error:
            raise invalid(f"adapter {self.name}: {error}") from error
        self._used = True
        return await self._run(lambda driver: getattr(driver, name)(**arguments), f"{name}()", timeout_s)

    async def reset(self) -> None:
        """For the next holder. Raises CallError."""
        if self._used:
            await self._run(lambda driver: driver.reset(), "reset()", CALL_S)
            self._used = False

    async def close(self) -> None:
        """The agent stops."""
        driver = self._driver
        if driver is not None and self._opened:
            async with asyncio.timeout(_CLOSE_S):
                await asyncio.get_running_loop().run_in_executor(self._thread, driver.disconnect)
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _run(self, work: Callable[[Adapter], object], what: str, timeout_s: float) -> object:
        driver = self._driver
        if driver is None:
            raise device_fault(self.fault or f"adapter {self.name} is not loaded")

        def go() -> object:
            if not self._opened:
                driver.connect()
                self._opened = True
            return work(driver)

        try:
            async with asyncio.timeout(timeout_s):
                result = await asyncio.get_running_loop().run_in_executor(self._thread, go)
        except TimeoutError:
            fault = f"adapter {self.name}: {what} took longer than {timeout_s:g} s"
            self._show(fault)
            raise device_fault(fault) from None
        except Exception as error:
            # The driver is somebody else's: whatever it raises, its caller is told, and the agent goes on.
            fault = f"adapter {self.name}: {what} failed: {str(error) or type(error).__name__}"
            self._show(fault)
            raise device_fault(fault) from error
        self._show(None)
        return result

    def _show(self, fault: str | None) -> None:
        if fault != self.fault:
            self.fault = fault
            self._on_change()


class Adapters:
    """All of a bench. Used on one asyncio loop."""

    def __init__(self, bench: str, configs: Sequence[AdapterConfig], on_change: Callable[[], None]) -> None:
        self._bench = bench
        self.all = {config.name: AgentAdapter(bench, config, on_change) for config in configs}

    def load(self) -> None:
        """Imports the drivers. Blocks."""
        for adapter in self.all.values():
            adapter.load()

    def get(self, name: str) -> AgentAdapter:
        """Raises CallError (NOT_FOUND) with the nearest names."""
        adapter = self.all.get(name)
        if adapter is None:
            raise not_found(f"bench {self._bench} has no adapter {name!r}; {nearest(name, self.all)}")
        return adapter

    @property
    def faults(self) -> list[str]:
        """Of those that cannot be used."""
        return [adapter.fault for adapter in self.all.values() if adapter.fault]

    def describe(self) -> list[bench_pb2.AdapterDescription]:
        """For the wire."""
        return [
            bench_pb2.AdapterDescription(name=name, driver=adapter.config.driver, methods=sorted(adapter.methods))
            for name, adapter in self.all.items()
        ]

    async def reset(self) -> None:
        """For the next holder. Raises CleanUpError, with all of them tried, when one fails."""
        outcomes = await asyncio.gather(*(one.reset() for one in self.all.values()), return_exceptions=True)
        faults = [str(outcome) for outcome in outcomes if outcome is not None]
        if faults:
            raise CleanUpError("; ".join(faults))

    async def stop(self) -> None:
        """Closes all."""
        outcomes = await asyncio.gather(*(one.close() for one in self.all.values()), return_exceptions=True)
        for outcome in outcomes:
            if outcome is not None:
                _log.error("adapter did not close cleanly", bench=self._bench, reason=str(outcome))
