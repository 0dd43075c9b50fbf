"""Settings of labd in YAML, read into pydantic models: all mistakes are found at once, with file, line and field."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from labd.model.nearest import nearest

FILE_BYTES_MAX = 1024 * 1024

_Model = TypeVar("_Model", bound=BaseModel)


class SettingsError(Exception):
    """The file cannot be used. The text has one line for each mistake."""


class Model(BaseModel):
    """Nothing unknown."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


def read_settings(path: Path, model: type[_Model]) -> _Model:
    """Raises SettingsError with every mistake and its line."""
    try:
        with path.open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
        if len(content) > FILE_BYTES_MAX:
            raise SettingsError(f"{path}: more than {FILE_BYTES_MAX} bytes")
        text = content.decode("utf-8")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        document = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SettingsError(f"{path}: {error}") from error
    try:
        return model.model_validate({} if document is None else document)
    except ValidationError as error:
        lines = (
            f"{path}:{_line(node, one['loc'])}: {'.'.join(map(str, one['loc'])) or 'file'}: {_message(one, model)}"
            for one in error.errors()
        )
        raise SettingsError("\n".join(lines)) from error


def _message(error: Any, model: type[BaseModel]) -> str:
    if error["type"] == "extra_forbidden":
        known = {name for owner in _models_at(model, error["loc"][:-1]) for name in owner.model_fields}
        return f"there is no such field{nearest(str(error['loc'][-1]), sorted(known))}"
    message: str = error["msg"].removeprefix("Value error, ")
    value = error["input"]
    if error["type"] == "missing" or not isinstance(value, str | int | float) or repr(value) in message:
        return message
    return f"{message}, not {value!r}"


def _models_at(annotation: Any, location: tuple[int | str, ...]) -> Iterator[type[BaseModel]]:
    """The models that a location may stand for, found by walking the annotations."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        if not location:
            yield annotation
        elif (field := annotation.model_fields.get(str(location[0]))) is not None:
            yield from _models_at(field.annotation, location[1:])
        return
    within = location[1:] if location and isinstance(location[0], int) else location
    for argument in get_args(annotation):
        yield from _models_at(argument, within)


def _line(node: yaml.Node | None, location: tuple[int | str, ...]) -> int:
    for part in location:
        inner: yaml.Node | None = None
        if isinstance(node, yaml.MappingNode):
            inner = next((value for key, value in node.value if key.value == str(part)), None)
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            inner = node.value[part]
        if inner is None:
            break
        node = inner
    return 1 if node is None else node.start_mark.line + 1
