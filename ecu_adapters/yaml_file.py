"""Configuration files in YAML, read into pydantic models so that every mistake is found at once and has a line number.

Why not pydantic alone: it knows fields, not lines. Here the YAML is composed into nodes first, the nodes remember where
each value stands, and each error of the model is looked up in them.

Scalars are read as in the core schema of YAML 1.2: ``On`` is text and no truth value, ``0042`` is text and no octal
number, ``2026-01-31`` is text and no date. (Hex text of digits alone, such as 12345678, still needs quotes.)
"""

import difflib
import re
import types
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

Location = tuple[int | str, ...]
"""Keys and indexes from the top of the file to a value."""

MAX_BYTES = 1 << 20
"""Larger files are refused: a configuration is written by hand."""
MAX_NODES = 100_000
"""Values in a file, with aliases (``*name``) counted each time they are used."""
MAX_DEPTH = 50

_Model = TypeVar("_Model", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing wrong with a configuration file. ``line`` counts from 1; 0 means the file as a whole."""

    file: str
    line: int
    field: str
    """Dotted, for example ``benches.0.can.1.channel``; empty for the file as a whole."""
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.field}: {self.message}" if self.field else f"{place}: {self.message}"


class ConfigError(Exception):
    """A configuration file is unusable. The text has one line for each mistake."""

    def __init__(self, mistakes: Iterable[Mistake]) -> None:
        self.mistakes = sorted(mistakes, key=lambda mistake: (mistake.file, mistake.line))
        super().__init__("\n".join(str(mistake) for mistake in self.mistakes))


def load(path: str | Path, model: type[_Model]) -> _Model:
    """The file as a ``model``. Raises ConfigError with all mistakes at once."""
    return YamlFile(path).validate(model)


def scalar(text: str) -> object:
    """One value as it would be read from a file: ``8480`` is a number, ``true`` a truth value, anything odd text."""
    try:
        value = yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError:
        return text
    return value if isinstance(value, bool | int | float) else text


def field_error(location: Location, message: str, value: object = None) -> InitErrorDetails:
    """One error for `model_error`."""
    text = PydanticCustomError("config", "{text}", {"text": message})
    return InitErrorDetails(type=text, loc=location, input=value)


def model_error(title: str, errors: list[InitErrorDetails]) -> ValidationError:
    """What a model validator raises that checks fields against each other: each error keeps the field it belongs to."""
    return ValidationError.from_exception_data(title, errors)


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint for an error about an unknown name: the closest known ones, or all of them."""
    names = sorted(known)
    if not names:
        return "there are none"
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.6)
    if not close:
        close = [other for other in names if other.casefold() == name.casefold()]
    if close:
        return "did you mean " + " or ".join(close) + "?"
    shown = ", ".join(names[:12])
    return f"known: {shown}" + (f" and {len(names) - 12} more" if len(names) > 12 else "")


class _Loader(yaml.SafeLoader):
    """PyYAML knows YAML 1.1 only; this is its safe loader with the scalars of YAML 1.2."""


_Loader.yaml_implicit_resolvers = {}


for _tag, _pattern, _first in (
    ("tag:yaml.org,2002:bool", r"(?:true|True|TRUE|false|False|FALSE)$", "tTfF"),
    ("tag:yaml.org,2002:null", r"(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("tag:yaml.org,2002:int", r"(?:[-+]?(?:0|[1-9][0-9]*)|0x[0-9a-fA-F]+|0b[01]+)$", "-+0123456789"),
    (
        "tag:yaml.org,2002:float",
        r"(?:[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*(?:[eE][-+]?[0-9]+)?|[eE][-+]?[0-9]+))"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$",
        "-+0123456789.",
    ),
    ("tag:yaml.org,2002:merge", r"<<$", "<"),
):
    _Loader.add_implicit_resolver(_tag, re.compile(_pattern), list(_first))


class YamlFile:
    """A YAML file in memory: its plain data, and the line of every value.

    Raises ConfigError when the file cannot be read, is not YAML, or repeats a key.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.data: Any = None
        self._root: yaml.Node | None = None
        text = self._read()
        try:
            loader = _Loader(text)
            self._root = loader.get_single_node()
            if self._root is not None:
                self._refuse_repeated_keys(self._root)
                self.data = loader.construct_document(self._root)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            message = " ".join(part for part in (error.context, error.problem) if part)
            raise ConfigError([Mistake(str(path), mark.line + 1 if mark else 0, "", f"not YAML: {message}")]) from error
        except RecursionError as error:
            # PyYAML calls itself for every level; the limit on levels is looked at when that has worked.
            raise ConfigError([Mistake(str(path), 0, "", f"more than {MAX_DEPTH} levels")]) from error
        except (yaml.YAMLError, ValueError, LookupError, AttributeError) as error:
            # PyYAML trips in many ways over a value with a tag that does not suit, such as !!int abc or !!bool maybe.
            raise ConfigError([Mistake(str(path), 0, "", f"not YAML: {error}")]) from error

    def validate(self, model: type[_Model]) -> _Model:
        """The data as a ``model``. Raises ConfigError with all mistakes at once."""
        if not isinstance(self.data, dict):
            found = "empty" if self.data is None else f"a {type(self.data).__name__}"
            fields = ", ".join(model.model_fields)
            message = f"the file is {found}; expected a mapping with the fields {fields}"
            raise ConfigError([Mistake(str(self.path), 0, "", message)])
        try:
            return model.model_validate(self.data)
        except ValidationError as error:
            details = error.errors(include_url=False)
            raise ConfigError([self.mistake(d["loc"], _message(d, model)) for d in details]) from error

    def mistake(self, location: Location, message: str) -> Mistake:
        """A mistake about the value at ``location``, for checks beyond the model (does the file named here exist?)."""
        line, field = self._find(location)
        return Mistake(str(self.path), line, field, message)

    def _read(self) -> str:
        try:
            with self.path.open("rb") as file:
                content = file.read(MAX_BYTES + 1)
        except OSError as error:
            raise ConfigError([Mistake(str(self.path), 0, "", f"cannot be read: {error.strerror}")]) from error
        if len(content) > MAX_BYTES:
            raise ConfigError([Mistake(str(self.path), 0, "", f"larger than {MAX_BYTES} bytes")])
        try:
            return content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = content.count(b"\n", 0, error.start) + 1
            raise ConfigError([Mistake(str(self.path), line, "", "not UTF-8 text")]) from error

    def _refuse_repeated_keys(self, root: yaml.Node) -> None:
        mistakes: list[Mistake] = []
        count = 0
        stack: list[tuple[yaml.Node, Location]] = [(root, ())]
        while stack:
            node, place = stack.pop()
            count += 1
            line = node.start_mark.line + 1
            if count > MAX_NODES or len(place) > MAX_DEPTH:
                limit = f"{MAX_NODES} values" if count > MAX_NODES else f"{MAX_DEPTH} levels"
                raise ConfigError([Mistake(str(self.path), line, "", f"more than {limit}, aliases expanded")])
            if isinstance(node, yaml.SequenceNode):
                stack += [(item, (*place, index)) for index, item in enumerate(node.value)]
            elif isinstance(node, yaml.MappingNode):
                seen: dict[str, int] = {}
                for key, item in node.value:
                    name = str(key.value)
                    if name in seen:
                        field = ".".join(map(str, (*place, name)))
                        message = f"given twice, first in line {seen[name]}"
                        mistakes.append(Mistake(str(self.path), key.start_mark.line + 1, field, message))
                    seen.setdefault(name, key.start_mark.line + 1)
                    stack.append((item, (*place, name)))
        if mistakes:
            raise ConfigError(mistakes)

    def _find(self, location: Location) -> tuple[int, str]:
        """Line and dotted name of a location; parts that are not in the file (union tags of pydantic) are left out."""
        node, names = self._root, []
        line = node.start_mark.line + 1 if node is not None else 0
        for index, part in enumerate(location):
            last = index == len(location) - 1
            child, child_line = _child(node, part)
            if child is None:
                if last and part != "[key]":
                    names.append(str(part))
                continue
            node, line = child, child_line
            names.append(str(part))
        return line, ".".join(names)


def _child(node: yaml.Node | None, part: int | str) -> tuple[yaml.Node | None, int]:
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part], node.value[part].start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        for key, item in node.value:
            if key.value == str(part) or (isinstance(part, int) and _number(key.value) == part):
                return item, key.start_mark.line + 1
    return None, 0


def _number(text: object) -> int | None:
    """A mapping key as YAML 1.1 would read it as a number (``0x22``, ``34``)."""
    try:
        return int(str(text), 0)
    except ValueError:
        return None


def problems(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """What is wrong with values that came from elsewhere than a file: "field: message"."""
    return [f"{'.'.join(map(str, one['loc']))}: {_message(one, model)}" for one in error.errors(include_url=False)]


def _message(error: ErrorDetails, model: type[BaseModel]) -> str:
    kind, location, value = error["type"], error["loc"], error["input"]
    if kind == "missing":
        return "is missing"
    if kind == "extra_forbidden":
        known = {name for owner in _models_at(model, location[:-1]) for name in owner.model_fields}
        return f"unknown field; {nearest(str(location[-1]), known)}"
    if kind == "union_tag_invalid":
        context = error["ctx"]
        return (
            f"unknown {context['discriminator'].strip(chr(39))} {context['tag']!r}; one of {context['expected_tags']}"
        )
    if kind == "union_tag_not_found":
        return f"the field {error['ctx']['discriminator']} is missing"
    if kind == "config":
        return error["msg"]
    message = error["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    shown = repr(value)
    if isinstance(value, dict | list) or len(shown) > 60 or shown in message:
        return message
    return f"{message}, not {shown}"


def _models_at(annotation: Any, location: Location) -> list[type[BaseModel]]:
    """The models that a location may stand for, found by walking the annotations."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _models_at(get_args(annotation)[0], location)
    if origin in (Union, types.UnionType):
        # The first part may be the tag of a discriminated union: try with it and without.
        found = [found for member in get_args(annotation) for found in _models_at(member, location)]
        if location:
            tagged = [m for m in get_args(annotation) if _has_tag(m, location[0])]
            return [hit for member in tagged for hit in _models_at(member, location[1:])] or found
        return found
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        if not location:
            return [annotation]
        field = annotation.model_fields.get(str(location[0]))
        return _models_at(field.annotation, location[1:]) if field is not None else []
    arguments = get_args(annotation)
    if arguments and location:
        return _models_at(arguments[-1] if arguments[-1] is not ... else arguments[0], location[1:])
    return []


def _has_tag(member: Any, tag: int | str) -> bool:
    member = get_args(member)[0] if get_origin(member) is Annotated else member
    if not (isinstance(member, type) and issubclass(member, BaseModel)):
        return False
    return member.__name__ == tag or any(
        tag in get_args(field.annotation) for field in member.model_fields.values() if field.annotation is not None
    )
