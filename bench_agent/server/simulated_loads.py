"""Which simulated ECUs hang on which channels of the bench's simulated supplies."""

import asyncio
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from bench_agent.server.simulated_node import SimulatedNode
from ecu_adapters.power import PowerError
from ecu_adapters.simulator.power_input import Channel

_ANSWER_S = 10.0
"""How long the loop may be busy before a supply gives up on it."""

_Result = TypeVar("_Result")


class SimulatedLoads:
    """The ECUs live on the agent's loop, supplies on threads of their own: calls are handed over, and waited for."""

    def __init__(self) -> None:
        self._loads: dict[str, list[tuple[SimulatedNode, Channel]]] = defaultdict(list)
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """From here on supplies may call; the running loop is that of the ECUs."""
        self._loop = asyncio.get_running_loop()

    def connect(self, channel: str, node: SimulatedNode, terminal: Channel) -> None:
        """The ECU's terminal hangs on a channel from now on, without voltage at first."""
        self._loads[channel].append((node, terminal))
        node.feeds[terminal] = channel
        node.set_voltage(terminal, 0.0)

    def feed(self, channel: str, volts: float) -> None:
        """Called by a supply. Raises PowerError."""

        def give() -> None:
            for node, terminal in self._loads.get(channel, ()):
                node.set_voltage(terminal, volts)

        self._on_loop(give)

    def current(self, channel: str) -> float:
        """Called by a supply. Raises PowerError."""
        return self._on_loop(lambda: sum(node.current(terminal) for node, terminal in self._loads.get(channel, ())))

    def _on_loop(self, work: Callable[[], _Result]) -> _Result:
        loop, answer = self._loop, Future[_Result]()
        if loop is None or loop.is_closed():
            raise PowerError("the agent that simulates the supply's loads does not run")

        def run() -> None:
            try:
                answer.set_result(work())
            except Exception as error:
                answer.set_exception(error)

        loop.call_soon_threadsafe(run)
        try:
            return answer.result(_ANSWER_S)
        except TimeoutError:
            raise PowerError(f"the agent did not get round to the simulated ECUs within {_ANSWER_S:g} s") from None
