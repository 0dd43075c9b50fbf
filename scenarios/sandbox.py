"""The Lua 5.4 virtual machine that a scenario runs in: a white-listed environment, bounded memory, no way out.

Everything that Lua may call is a Python function of flat values in `Sandbox`'s table; scripts never see even those,
only the Lua modules built on them (``scenarios/lua``). Why so narrow, see FACTS on lupa: an exception that crosses the
border loses the Lua line, a table or a too large string that crosses it while memory is short leaves the interpreter
lock held for ever, and a Python object in reach of a script is the whole of Python in its reach.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NoReturn

from lupa import lua54  # type: ignore[import-untyped]

from scenarios.stop import Stop
from scenarios.values import from_lua, to_lua

# Codes that stand for a failure without needing memory to say so.
_NO_MEMORY = 0
_STOPPED = 1

RESERVE_BYTES = 32 * 1024
"""Memory kept free, beyond its own size, when a value goes back to Lua."""

_LUA = Path(__file__).parent / "lua"
MODULES = ("log", "time", "test", "env", "bench", "can", "monitor", "traffic", "j1939", "uds", "serial", "power", "sim")
"""What ``require`` finds beside the scenario's own folder, in loading order."""

Function = Callable[..., object]


class ScenarioFault(Exception):
    """Becomes a Lua error with fields, raised at the line of the script that called.

    ``kind`` says what failed: "check", "negative_response", "timeout", "unexpected" (the test failed), or "invalid",
    "bench" and the like (script, bench or lab broke).
    """

    def __init__(self, kind: str, message: str, **fields: object) -> None:
        super().__init__(message)
        self.fields = {"kind": kind, "message": message, **fields}


@dataclass(frozen=True, slots=True)
class Source:
    """A Lua file of the scenario; goes to Lua as it is, rather than as a Lua expression."""

    text: bytes
    name: str


class Sandbox:
    """One virtual machine for one script. To be used by one thread.

    ``functions`` are called with flat values (text, numbers, booleans, None) and return plain values; what they raise
    becomes a Lua error. The first argument of each is the script's position, "file:line".
    """

    def __init__(self, functions: Mapping[str, Function], *, memory_bytes: int, stop: Stop) -> None:
        self._stop = stop
        self.internal_error = ""
        """What a function raised that it should not have, first time."""
        # Bytes both ways: other encodings raise on data that is no text, in the middle of a call.
        self._lua = lua54.LuaRuntime(
            encoding=None,
            source_encoding="utf-8",
            attribute_handlers=(_refuse, _refuse),
            register_eval=False,
            register_builtins=False,
            unpack_returned_tuples=True,
            max_memory=1 << 40,
        )
        bound = self._lua.table_from({name.encode(): self._guarded(function) for name, function in functions.items()})
        sources = self._lua.table_from({name.encode(): source for name, source in _sources().items()})
        order = self._lua.table_from([name.encode() for name in MODULES])
        kernel = self._lua.execute(_sources()["kernel"], bound, sources, order, name="=kernel", mode="t")
        self._main = kernel
        self._lua.set_max_memory(self._lua.get_memory_used() + memory_bytes)

    def run(self) -> None:
        """Runs the script that the function ``script`` gives, to its end, and reports through ``finish``.

        Raises nothing on account of the script; anything that comes out of here is a fault of ours.
        """
        self._main()

    @property
    def memory_used(self) -> int:
        """Bytes that the virtual machine holds."""
        return int(self._lua.get_memory_used())

    def _guarded(self, function: Function) -> Callable[..., tuple[object, ...]]:
        """``function`` as Lua may call it: it never raises, and what it returns is sure to fit."""

        def call(*arguments: object) -> tuple[object, ...]:
            try:
                value = function(*[from_lua(argument) for argument in arguments])
                if self._stop.is_set():
                    return (False, _STOPPED)
                if value is None:
                    return (True,)
                if isinstance(value, Source):
                    return self._fitting(True, value.text, b"return " + to_lua(value.name))
                return self._fitting(True, b"return " + to_lua(value))
            except ScenarioFault as fault:
                if self._stop.is_set():
                    return (False, _STOPPED)
                return self._fitting(False, b"return " + to_lua(fault.fields))
            except MemoryError:
                return (False, _NO_MEMORY)
            except Exception as error:
                message = f"internal error in {function.__name__}: {type(error).__name__}: {error}"[:2000]
                self.internal_error = self.internal_error or message
                return self._fitting(False, b"return " + to_lua({"kind": "internal", "message": message}))

        return call

    def _fitting(self, ok: bool, *answer: bytes) -> tuple[object, ...]:
        needed = sum(map(len, answer)) + RESERVE_BYTES
        if self._free() < needed:
            self._lua.gccollect()
            if self._free() < needed:
                return (False, _NO_MEMORY)
        return (ok, *answer)

    def _free(self) -> int:
        return int(self._lua.get_max_memory() - self._lua.get_memory_used())


def syntax_error(text: bytes, name: str) -> str | None:
    """Why a script is no Lua, with file and line; None when it is."""
    lua = lua54.LuaRuntime(encoding=None, register_eval=False, register_builtins=False)
    try:
        lua.compile(text.removeprefix(b"\xef\xbb\xbf"), name=f"@{name}".encode(), mode=b"t")
    except lua54.LuaSyntaxError as error:
        return b"".join(error.args).decode("utf-8", "replace")
    return None


@cache
def _sources() -> dict[str, bytes]:
    return {path.stem: path.read_bytes() for path in sorted(_LUA.glob("*.lua"))}


def _refuse(*_: object) -> NoReturn:
    raise AttributeError("Python objects have no attributes here")
