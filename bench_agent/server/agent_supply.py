"""One power supply of a bench and its channels: called by one thread, watched, and remembered."""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

import structlog

from bench_agent.server.errors import CallError, device_fault, in_use, invalid
from ecu_adapters.power import ChannelConfig, PowerError, Reading, Supply, SupplyConfig, UnsupportedError
from ecu_adapters.power.profile import Played, Point, play

REMEMBERED = 3600
"""Measurements kept of each channel."""
CALL_S = 30.0
"""Longest time for one command of a supply, those that wait before it included."""

_Result = TypeVar("_Result")
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Measured:
    """A reading and when it was taken (ns since the Unix epoch)."""

    time_ns: int
    reading: Reading


@dataclass(eq=False)
class Channel:
    """One output, as it was last heard of."""

    name: str
    supply: "AgentSupply"
    config: ChannelConfig
    on: bool | None = None
    """None: nobody knows."""
    voltage: float | None = None
    """V, as last set; None: as the supply has it."""
    current_limit: float | None = None
    """A, likewise."""
    history: deque[Measured] = field(default_factory=lambda: deque(maxlen=REMEMBERED))

    @property
    def terminal(self) -> str:
        """DIN 72552; empty when it is none."""
        return self.config.terminal or (self.name.lower() if self.name.lower() in ("kl15", "kl30") else "")


class AgentSupply:
    """Used on one asyncio loop; the driver runs in a thread of its own, one call after the other."""

    def __init__(self, bench: str, config: SupplyConfig, driver: Supply, on_change: Callable[[], None]) -> None:
        self.name = config.name
        self.config = config
        self.fault: str | None = None
        """Why the supply does not do what it should; None when it does."""
        channels: Mapping[str, ChannelConfig] = config.channels
        self.channels = {name: Channel(name, self, channel) for name, channel in channels.items()}
        self.playing: str | None = None
        """The profile that runs, and on which channel."""
        self._driver = driver
        self._measures = True
        self._title = f"{bench}/{config.name}"
        self._on_change = on_change
        self._stop = threading.Event()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"power-{self._title}")

    @property
    def step_s(self) -> float:
        """Shortest time between two voltages (s)."""
        return self._driver.step_s

    @property
    def settable(self) -> bool:
        """Whether voltage and current limit can be set."""
        return self._driver.settable

    async def switch(self, channel: Channel, on: bool) -> None:
        """Raises CallError."""
        self._require_quiet()
        channel.on = None
        await self._call(lambda: self._driver.switch(channel.name, on))
        channel.on = on

    async def set(self, channel: Channel, *, voltage: float | None, current: float | None) -> None:
        """Raises CallError, also for a value beyond the channel's limits."""
        self._require_quiet()
        _require_within(channel, "voltage", voltage, channel.config.highest_voltage, "V")
        _require_within(channel, "current_limit", current, channel.config.highest_current, "A")
        await self._call(lambda: self._driver.set(channel.name, voltage=voltage, current=current))
        channel.voltage = channel.voltage if voltage is None else voltage
        channel.current_limit = channel.current_limit if current is None else current

    async def measure(self, channel: Channel) -> Measured:
        """Raises CallError."""
        self._require_quiet()
        reading = await self._call(lambda: self._driver.measure(channel.name))
        measured = Measured(time.time_ns(), reading)
        channel.history.append(measured)
        return measured

    async def play(
        self, channel: Channel, name: str, planned: Sequence[Point], on_step: Callable[[Point, float], None]
    ) -> Played:
        """Sets voltages at their times; when it ends, however it does, the channel has its former voltage again.

        ``on_step`` is called on the supply's thread. Cancelling aborts it. Raises CallError.
        """
        self._require_quiet()
        _require_within(channel, "voltage", max(p.voltage for p in planned), channel.config.highest_voltage, "V")
        before = channel.config.voltage if channel.voltage is None else channel.voltage
        if before is None:
            raise invalid(
                f"channel {channel.name} has no voltage to return to: set one, or configure the channel's 'voltage'"
            )
        self.playing, self._stop = f"profile {name} runs on channel {channel.name}", threading.Event()
        stop = self._stop
        channel.voltage = None
        work = asyncio.get_running_loop().run_in_executor(
            self._thread,
            lambda: play(planned, lambda volts: self._driver.set(channel.name, voltage=volts), stop, on_step=on_step),
        )
        try:
            return await asyncio.shield(work)
        except PowerError as error:
            raise self._failed(error) from error
        finally:
            stop.set()
            await asyncio.wait([work], timeout=CALL_S)
            self.playing = None
            await asyncio.shield(self._restore(channel, before))

    async def to_safe_state(self) -> None:
        """Every channel as the configuration declares, ignition before battery. Raises CallError when one is not."""
        self._stop.set()
        self.playing = None
        for channel in sorted(self.channels.values(), key=lambda one: one.terminal != "kl15"):
            wanted = self.config.state_when_safe(channel.name)
            if not wanted:
                await self.switch(channel, False)
            if self.settable and (channel.config.voltage is not None or channel.config.current_limit is not None):
                await self.set(channel, voltage=channel.config.voltage, current=channel.config.current_limit)
            if wanted:
                await self.switch(channel, True)
            if await self._told(channel) not in (None, wanted):
                text = f"channel {channel.name} of supply {self.name} is not {_word(wanted)} although it was told so"
                raise self._failed(PowerError(text))

    async def poll(self) -> None:
        """Measures at intervals until cancelled; finds out by it that the supply is there again."""
        while True:
            await asyncio.sleep(self.config.poll_s)
            if self.playing is None:
                await self._look()

    def new_lease(self) -> None:
        """Measurements of before are nobody's business."""
        for channel in self.channels.values():
            channel.history.clear()

    async def close(self) -> None:
        """Ends the connection; the channels stay as they are."""
        self._stop.set()
        await asyncio.get_running_loop().run_in_executor(self._thread, self._driver.close)
        self._thread.shutdown(wait=False)

    async def _look(self) -> None:
        for channel in self.channels.values():
            try:
                if self._measures:
                    await self.measure(channel)
                told = await self._told(channel)
                channel.on = channel.on if told is None else told
            except CallError:
                if self.playing is not None:
                    return  # a profile has begun meanwhile
                if self.fault is None:
                    self._measures = False  # it does not measure, and need not be asked again
                else:
                    return  # shown in the bench's health

    async def _restore(self, channel: Channel, voltage: float) -> None:
        await self._call(lambda: self._driver.set(channel.name, voltage=voltage))
        channel.voltage = voltage

    async def _told(self, channel: Channel) -> bool | None:
        """Whether the device says that the channel is on; None when it cannot tell."""
        told = await self._call(lambda: self._driver.is_on(channel.name), proves=False)
        if told is not None:
            self._works()
        return told

    async def _call(self, work: Callable[[], _Result], *, proves: bool = True) -> _Result:
        """``proves``: when it succeeds, the device is there."""
        try:
            async with asyncio.timeout(CALL_S):
                result = await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except UnsupportedError as error:
            raise invalid(str(error)) from error
        except PowerError as error:
            raise self._failed(error) from error
        except TimeoutError:
            raise self._failed(PowerError(f"supply {self.name} did not come back within {CALL_S:g} s")) from None
        if proves:
            self._works()
        return result

    def _works(self) -> None:
        if self.fault is not None:
            _log.info("supply works again", supply=self._title)
            self.fault = None
            self._on_change()

    def _failed(self, error: PowerError) -> CallError:
        for channel in self.channels.values():
            channel.on = None
        if self.fault != str(error):
            _log.error("supply failed", supply=self._title, reason=str(error))
            self.fault = str(error)
            self._on_change()
        return device_fault(str(error))

    def _require_quiet(self) -> None:
        if self.playing is not None:
            raise in_use(f"supply {self.name} is in use: {self.playing}")


def _word(on: bool) -> str:
    return "on" if on else "off"


def _require_within(channel: Channel, field: str, value: float | None, limit: float | None, unit: str) -> None:
    if value is None:
        return
    if not 0 <= value < float("inf"):
        raise invalid(f"{field} is {value:g} {unit}; it must be 0 or more")
    if limit is None:
        key = "max_voltage" if unit == "V" else "max_current"
        raise invalid(f"{field} of channel {channel.name} cannot be set: the agent's configuration gives no {key}")
    if value > limit:
        raise invalid(f"{field} is {value:g} {unit}; channel {channel.name} is limited to {limit:g} {unit}")
