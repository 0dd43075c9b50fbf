"""Devices of a lab's own: a driver is a small class with typed methods, found by its entry point (``labd.adapters``).

    class Door(Adapter):
        class Config(BaseModel):
            port: str

        @method
        def open(self, percent: int = 100) -> None:
            "Opens the door so far."

A driver's methods are called by one thread at a time and may block; every call has a deadline.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from ecu_adapters.yaml_file import nearest

GROUP = "labd.adapters"
_MARK = "_labd_method"

_Function = TypeVar("_Function", bound=Callable[..., object])


class AdapterError(Exception):
    """A device failed. Drivers raise it (or anything else) with a text for people."""


class CallRefused(ValueError):
    """A call that cannot be carried out: unknown method, argument missing, of the wrong type, or too many."""


def method(function: _Function) -> _Function:
    """Marks a method that lease holders may call. Its arguments need annotations."""
    setattr(function, _MARK, True)
    return function


class Adapter:
    """Base of all drivers. ``config`` is an instance of the class's own `Config`."""

    class Config(BaseModel):
        """What the agent's configuration says of the device, beside name and driver."""

        model_config = ConfigDict(extra="forbid")

    def __init__(self, config: Any) -> None:
        self.config = config

    def connect(self) -> None:
        """Called before the first method."""

    def reset(self) -> None:
        """Brings the device to the state that the next holder may meet; called at every end of a lease."""

    def disconnect(self) -> None:
        """Called when the agent stops."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One argument of a method."""

    name: str
    type: str
    required: bool
    default: str


class Method:
    """A method as lease holders see it: its name, what it takes, and its docstring."""

    def __init__(self, name: str, function: Callable[..., object]) -> None:
        """Raises TypeError for a method whose arguments are not annotated."""
        self.name = name
        self.doc = inspect.getdoc(function) or ""
        hints = get_type_hints(function)
        fields: dict[str, Any] = {}
        self.parameters: list[Parameter] = []
        for parameter in list(inspect.signature(function).parameters.values())[1:]:
            if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
                raise TypeError(f"method {name}: *{parameter.name} cannot be called from a scenario")
            if parameter.name not in hints:
                raise TypeError(f"method {name}: argument {parameter.name} needs an annotation")
            required = parameter.default is parameter.empty
            hint = hints[parameter.name]
            fields[parameter.name] = (hint, ... if required else parameter.default)
            shown = "" if required else repr(parameter.default)
            self.parameters.append(Parameter(parameter.name, inspect.formatannotation(hint), required, shown))
        self._model = create_model(name, __config__=ConfigDict(extra="forbid", strict=False), **fields)

    @property
    def signature(self) -> str:
        """``open(percent: int = 100)``."""
        shown = [f"{p.name}: {p.type}" + ("" if p.required else f" = {p.default}") for p in self.parameters]
        return f"{self.name}({', '.join(shown)})"

    def bind(self, positional: list[object], named: Mapping[str, object]) -> dict[str, object]:
        """The arguments by name, of the annotated types. Raises CallRefused naming argument and value."""
        names = [parameter.name for parameter in self.parameters]
        if len(positional) > len(names):
            raise CallRefused(f"{self.signature} takes {len(names)} arguments; {len(positional)} are given")
        given = dict(zip(names, positional, strict=False))
        for name, value in named.items():
            if name not in names:
                raise CallRefused(f"{self.signature} has no argument {name!r}; {nearest(name, names)}")
            if name in given:
                raise CallRefused(f"{self.signature}: {name} is given twice")
            given[name] = value
        try:
            bound = self._model.model_validate(given)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            value = "" if first["type"] == "missing" else f", not {first['input']!r}"
            raise CallRefused(f"{self.signature}: {first['loc'][0]}: {first['msg']}{value}") from error
        return {name: getattr(bound, name) for name in names}


def methods(driver: type[Adapter]) -> dict[str, Method]:
    """The marked methods of a driver, by name. Raises TypeError as `Method` does."""
    found = {}
    for name, function in inspect.getmembers(driver, inspect.isfunction):
        if getattr(function, _MARK, False):
            found[name] = Method(name, function)
    return found


def drivers() -> dict[str, EntryPoint]:
    """The drivers that are installed, by name; none is imported."""
    return {point.name: point for point in entry_points(group=GROUP)}


def load_driver(name: str) -> type[Adapter]:
    """The class behind an entry point. Raises AdapterError: unknown, does not load, is no Adapter."""
    known = drivers()
    point = known.get(name)
    if point is None:
        raise AdapterError(f"there is no adapter driver {name!r} in the entry points {GROUP}; {nearest(name, known)}")
    try:
        driver = point.load()
    except Exception as error:
        # Somebody else's module: whatever its import raises, the agent must say which one it was.
        raise AdapterError(f"adapter driver {name} ({point.value}) does not load: {error}") from error
    if not (isinstance(driver, type) and issubclass(driver, Adapter)):
        raise AdapterError(f"adapter driver {name} ({point.value}) is no class derived from {Adapter.__name__}")
    return driver
