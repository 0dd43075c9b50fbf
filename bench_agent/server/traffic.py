"""What one lease has the agent send by itself: cyclic messages, alone or as a rest-bus."""

import asyncio
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import can

from bench_agent.server.agent_bus import AgentBus
from bench_agent.server.errors import invalid, not_found
from ecu_adapters.bus import BusError
from ecu_adapters.cyclic.payload import SOUND, Corruption, Recipe
from ecu_adapters.cyclic.restbus import Behaviour, LeftOut, Plan
from ecu_adapters.cyclic.transmission import KernelJob, Transmission
from ecu_adapters.cyclic.transmitter import SHORTEST_S, Transmitter
from ecu_adapters.dbc import DatabaseError, SignalValue
from ecu_adapters.frame_records import can_id
from ecu_adapters.yaml_file import nearest

LONGEST_S = 3600.0
"""The longest period (s)."""
_MOST = 4096
"""Messages that a lease can have running."""
_numbers = itertools.count(1)


class _Port:
    """The bus as it is at the moment: a message outlives a bus that fails and is opened anew."""

    def __init__(self, bus: AgentBus) -> None:
        self._bus = bus

    def send(self, message: can.Message, timeout_s: float = 1.0) -> float:
        hub = self._bus.hub
        if hub is None:
            raise BusError(self._bus.fault or f"CAN bus {self._bus.name!r} is down")
        return hub.send(message, timeout_s)

    def broadcast(self, frames: Sequence[can.Message], period_s: float) -> KernelJob | None:
        """Has the kernel send, where it can; what it sends ends with the bus."""
        hub = self._bus.hub
        return None if hub is None else hub.broadcast(frames, period_s)


@dataclass(eq=False, slots=True)
class Running:
    """A message that the agent sends by itself, or would if it were not switched off."""

    id: int
    bus: AgentBus
    recipe: Recipe
    behaviour: Behaviour
    transmission: Transmission
    corruption: Corruption = SOUND
    rest_bus: int = 0

    @property
    def can_id(self) -> int:
        """As in SocketCAN."""
        return can_id(self.recipe.frame)

    @property
    def title(self) -> str:
        """For people."""
        return _title(self.recipe)


@dataclass(slots=True)
class RunningRestBus:
    """A rest-bus: its messages by name, and what of the database it leaves out."""

    id: int
    bus: AgentBus
    messages: dict[str, Running]
    left_out: list[LeftOut]


@dataclass(frozen=True, slots=True)
class Change:
    """What an update changes; what is None (or empty) stays."""

    signals: Mapping[str, SignalValue] = field(default_factory=dict)
    force: bool | None = None
    data: bytes | None = None
    payloads: tuple[bytes, ...] = ()
    period_s: float | None = None
    running: bool | None = None
    freeze: bool | None = None
    skip: int = 0
    corruption: Corruption | None = None


class LeaseTraffic:
    """The running messages of one lease, by number. Used on one asyncio loop."""

    def __init__(self, transmitter: Transmitter) -> None:
        self._transmitter = transmitter
        self._turn = asyncio.Lock()
        self._messages: dict[int, Running] = {}
        self._rest_buses: dict[int, RunningRestBus] = {}

    @property
    def messages(self) -> list[Running]:
        """In the order in which they were started."""
        return list(self._messages.values())

    async def start(self, bus: AgentBus, recipe: Recipe, period_s: float) -> Running:
        """Sends a message from now on. Raises CallError when the bus is down, or its ID is being sent already."""
        _check_period(period_s)
        async with self._turn:
            self._admit(bus, [recipe])
            running = await self._made(bus, recipe, Behaviour(period_s))
            await self._replace(running)
            self._transmitter.add(running.transmission)
        return running

    async def start_rest_bus(self, bus: AgentBus, plan: Plan) -> RunningRestBus:
        """Sends all messages of a plan, those of equal period spread over it. Raises CallError as `start` does."""
        async with self._turn:
            busy = {running.can_id: running for running in self._on(bus) if running.transmission.running}
            todo, left_out = [], list(plan.left_out)
            for planned in plan.messages:
                if can_id(planned.recipe.frame) in busy:
                    left_out.append(LeftOut(planned.recipe.message, "this lease sends it already"))
                else:
                    todo.append(planned)
            self._admit(bus, [planned.recipe for planned in todo])
            rest = RunningRestBus(next(_numbers), bus, {}, left_out)
            peers: dict[float | None, int] = {}
            for planned in todo:
                running = await self._made(bus, planned.recipe, planned.behaviour, rest.id)
                await self._replace(running)
                rest.messages[running.recipe.message] = running
                period_s = running.transmission.period_s
                peers[period_s] = peers.get(period_s, 0) + 1
            self._rest_buses[rest.id] = rest
            started: dict[float | None, int] = {}
            for running in rest.messages.values():
                period_s = running.transmission.period_s
                order = started[period_s] = started.get(period_s, -1) + 1
                # All at once would fill the transmit queue; a real vehicle's ECUs do not start in step either.
                spread_s = (period_s or 0.0) * order / peers[period_s]
                delay_s = running.behaviour.delay_s
                self._transmitter.add(running.transmission, delay_s=spread_s if delay_s is None else delay_s)
        return rest

    async def update(self, number: int, message: str, change: Change) -> Running:
        """Changes a message; all of it, or, when something is wrong with it, nothing. Raises CallError."""
        async with self._turn:
            running = self._find(number, message)
            if change.period_s is not None:
                _check_period(change.period_s)
            recipe, corruption = await self._changed(running, change), change.corruption or running.corruption
            if recipe is not running.recipe or corruption != running.corruption:
                try:
                    frames = await asyncio.to_thread(recipe.frames, corruption)
                except ValueError as error:
                    raise invalid(f"{running.title}: {error}") from error
                self._transmitter.set_frames(running.transmission, frames)
            self._apply(running, recipe, corruption, change)
            if change.running is False:
                await asyncio.to_thread(self._transmitter.pause, running.transmission)
        return running

    async def preview(self, number: int, message: str, change: Change) -> Recipe:
        """What a message would carry after an update. Raises CallError."""
        running = self._find(number, message)
        # Payloads made by the caller are what the caller is about to make anew.
        return await self._changed(running, change, preview=True)

    async def stop_rest_bus(self, number: int) -> None:
        """Ends a rest-bus. Raises CallError (NOT_FOUND)."""
        async with self._turn:
            rest = self._rest_buses.pop(number, None)
            if rest is None:
                raise not_found(f"no rest-bus {number} is running")
            await self._end([running for running in rest.messages.values() if running.id in self._messages])

    async def stop(self) -> None:
        """Ends everything: no frame is sent once this returns."""
        await self._end(self.messages)
        self._rest_buses.clear()

    async def _changed(self, running: Running, change: Change, *, preview: bool = False) -> Recipe:
        if not (change.signals or change.data is not None or change.payloads or preview):
            return running.recipe
        if running.recipe.payloads and not change.payloads and not preview:
            raise invalid(f"the payloads of {running.title} are made by the caller; give them anew with the values")
        try:
            return await asyncio.to_thread(
                running.recipe.changed, change.signals, change.data, change.payloads, force=change.force
            )
        except (DatabaseError, ValueError) as error:
            raise invalid(str(error)) from error

    def _apply(self, running: Running, recipe: Recipe, corruption: Corruption, change: Change) -> None:
        """Nothing here can fail: an update is carried out as a whole."""
        transmitter, transmission = self._transmitter, running.transmission
        before = running.recipe.frame
        running.recipe, running.corruption = recipe, corruption
        if change.period_s is not None:
            running.behaviour = Behaviour(change.period_s, running.behaviour.on_change)
        period_s = _period(running.behaviour, running.recipe)
        if period_s != transmission.period_s:
            transmitter.set_period(transmission, period_s)
        if change.freeze is not None:
            transmitter.freeze(transmission, frozen=change.freeze)
        if change.skip:
            transmitter.skip(transmission, change.skip)
        if change.running:
            transmitter.resume(transmission)
        written = bool(change.signals) and running.behaviour.on_write
        if running.behaviour.on_change and (written or recipe.frame.data != before.data):
            transmitter.send_now(transmission)

    async def _made(self, bus: AgentBus, recipe: Recipe, behaviour: Behaviour, rest_bus: int = 0) -> Running:
        title = f"{bus.name}/{_title(recipe)}"
        frames = await asyncio.to_thread(recipe.frames)
        port, plain = _Port(bus), not (behaviour.on_change or behaviour.if_active)
        transmission = Transmission(
            title,
            port,
            frames,
            _period(behaviour, recipe),
            gap_s=behaviour.gap_s,
            kernel=port.broadcast if plain else None,
        )
        return Running(next(_numbers), bus, recipe, behaviour, transmission, rest_bus=rest_bus)

    def _admit(self, bus: AgentBus, recipes: Iterable[Recipe]) -> None:
        """Raises CallError unless the bus is up, takes these frames, and nobody of this lease sends them."""
        hub = bus.require_to_send()
        sent = {running.can_id: running for running in self._on(bus) if running.transmission.running}
        for recipe in recipes:
            other = sent.get(can_id(recipe.frame))
            if other is not None:
                raise invalid(f"{other.title} is being sent on {bus.name} already; change that one, or stop it first")
            if recipe.frame.is_fd and not hub.config.fd:
                raise invalid(f"{recipe.message or 'the frame'} takes CAN FD, and bus {bus.name} is classic")
        if len(self._messages) >= _MOST:
            raise invalid(f"a lease can have {_MOST} messages running; stop some")

    async def _replace(self, running: Running) -> None:
        """Takes the place of one with the same ID that is switched off."""
        await self._end([other for other in self._on(running.bus) if other.can_id == running.can_id])
        self._messages[running.id] = running

    async def _end(self, ended: list[Running]) -> None:
        for running in ended:
            await asyncio.to_thread(self._transmitter.remove, running.transmission)
            self._messages.pop(running.id, None)
            rest = self._rest_buses.get(running.rest_bus)
            if rest is not None:
                rest.messages.pop(running.recipe.message, None)

    def _on(self, bus: AgentBus) -> list[Running]:
        return [running for running in self._messages.values() if running.bus is bus]

    def _find(self, number: int, message: str) -> Running:
        rest = self._rest_buses.get(number)
        if rest is not None:
            if message not in rest.messages:
                reason = next((left.reason for left in rest.left_out if left.message == message), "")
                hint = f"it was left out: {reason}" if reason else nearest(message, rest.messages)
                raise not_found(f"the rest-bus does not send {message!r}; {hint}")
            return rest.messages[message]
        running = self._messages.get(number)
        if running is None:
            raise not_found(f"no cyclic message or rest-bus {number} is running; it was stopped or replaced")
        return running


def _check_period(period_s: float) -> None:
    if not SHORTEST_S <= period_s <= LONGEST_S:
        raise invalid(f"the period is {period_s * 1000:g} ms; it must be {SHORTEST_S * 1000:g} ms .. {LONGEST_S:g} s")


def _period(behaviour: Behaviour, recipe: Recipe) -> float | None:
    """The period with the values that the message carries now."""
    if not behaviour.if_active or recipe.database is None:
        return behaviour.period_s
    decoded = recipe.database.decode(recipe.frame)
    return behaviour.period_s if decoded is not None and behaviour.active(decoded[1]) else None


def _title(recipe: Recipe) -> str:
    return recipe.message or f"frame 0x{recipe.frame.arbitration_id:X}"
