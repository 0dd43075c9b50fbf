"""An environment: named variables and secrets that a run is given."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from labd.model.masking import SHORTEST

VARIABLES_MAX = 200
VALUE_LENGTH_MAX = 16 * 1024
"""Characters of a variable's or a secret's value."""
_NAME = re.compile(r"[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")


@dataclass(frozen=True, slots=True)
class Environment:
    """Belongs to a team; ``secrets`` has the name of a secret of the team by the name that scripts know it by."""

    team: str
    name: str
    variables: dict[str, str] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SecretInfo:
    """What anybody may know of a secret: all but its value. ``updated_at`` in seconds since the Unix epoch."""

    team: str
    name: str
    updated_at: float
    updated_by: str


@dataclass(frozen=True, slots=True)
class Given:
    """What a run was given, by the names that scripts know."""

    variables: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)


def name_fault(name: str) -> str | None:
    """What is wrong with the name of an environment or a secret."""
    if _NAME.fullmatch(name):
        return None
    return "expected up to 63 lower-case letters, digits, '.', '_' and '-', with a letter or digit at both ends"


def variable_fault(name: str) -> str | None:
    """What is wrong with a name that scripts are to use."""
    return None if _VARIABLE.fullmatch(name) else "expected letters, digits and '_', not a digit first: env.NAME"


def value_fault(value: str) -> str | None:
    """What is wrong with a secret's value; says nothing of the value itself."""
    if len(value.strip()) < SHORTEST:
        return f"a secret has at least {SHORTEST} characters: a shorter one could not be kept out of logs"
    if len(value) > VALUE_LENGTH_MAX:
        return f"a secret has at most {VALUE_LENGTH_MAX} characters"
    return None
