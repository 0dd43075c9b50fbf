"""The functions that the Lua modules are built on: flat values in, plain values out, `ScenarioFault` when it fails.

Each takes the script's position first. Bench and buses are opened when the script first asks for them, so that a run's
first line does not wait for a connection. A module's functions are in the file of its name.
"""

from labd.client.types import Failure
from scenarios.bindings.bench import BenchBindings
from scenarios.bindings.can import CanBindings
from scenarios.bindings.context import Context, too_long
from scenarios.bindings.env import EnvBindings
from scenarios.bindings.flash import FlashBindings
from scenarios.bindings.gateway import GatewayBindings
from scenarios.bindings.j1939 import J1939Bindings
from scenarios.bindings.monitor import MonitorBindings
from scenarios.bindings.power import PowerBindings
from scenarios.bindings.replay import ReplayBindings
from scenarios.bindings.run import RunBindings
from scenarios.bindings.serial import SerialBindings
from scenarios.bindings.sim import SimBindings
from scenarios.bindings.traffic import TrafficBindings
from scenarios.bindings.uds import UdsBindings
from scenarios.sandbox import Function, ScenarioFault

__all__ = ["Bindings", "Context", "too_long"]

_MODULES = (
    BenchBindings,
    EnvBindings,
    GatewayBindings,
    CanBindings,
    MonitorBindings,
    TrafficBindings,
    J1939Bindings,
    ReplayBindings,
    UdsBindings,
    FlashBindings,
    SerialBindings,
    PowerBindings,
    SimBindings,
)


class Bindings:
    """All functions of one script. Used by the script's thread alone, save `close`."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._run = RunBindings(context)

    @property
    def position(self) -> str:
        """Where the script was when it last called; "file:line"."""
        return self._context.position

    def functions(self) -> dict[str, Function]:
        """The table for the sandbox."""
        table = {function.__name__: function for function in self._run.kernel_functions}
        located = [*self._run.functions]
        for module in _MODULES:
            located += module(self._context).functions
        return table | {function.__name__: self._located(function) for function in located}

    def failure(self, message: str) -> Failure:
        """A failure at the last place in the script that is known."""
        return self._run.failure(message)

    def close(self) -> None:
        """Ends the connection to the bench, and with it a call that is still waiting. Any thread may call it."""
        self._context.close()

    def _located(self, function: Function) -> Function:
        def call(where: str, *arguments: object) -> object:
            self._context.position = where or self._context.position
            try:
                return function(*arguments)
            except ValueError as error:
                raise ScenarioFault("invalid", str(error)) from error

        call.__name__ = function.__name__
        return call
