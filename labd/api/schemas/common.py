"""What requests and answers share."""

import re
from base64 import b64decode
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, WithJsonSchema

from labd.api.times import to_seconds

SCRIPT_LENGTH_MAX = 1024 * 1024
"""Characters in a script, or in one of its files."""
FILES_MAX = 256
"""Files beside the script of one run."""
DATA_BYTES_MAX = 16 * 1024 * 1024
"""Data files of one run together."""
LINES_MAX = 1000
"""Log lines in one request."""
LINE_LENGTH_MAX = 64 * 1024
"""Characters in a log line."""

DAY_S = 86400.0
OBSTACLE = (
    "While it waits: why no bench can come as things are (offline, unhealthy, none matches any more); "
    "null while a matching one is in use or free."
)
PLAIN = r"^[^\x00-\x1f\x7f]*$"

Name = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=PLAIN)]
Why = Annotated[str, StringConstraints(max_length=1000, pattern=PLAIN)]
Holder = Annotated[
    Name | None,
    Field(description="Who it is for; null: whoever asks. Another than oneself takes an operator.", examples=["ada"]),
]
Selector = Annotated[
    str,
    Field(
        description="Label selector with the grammar of Kubernetes; empty matches every bench. "
        "The reserved label `name` is the bench's name.",
        examples=["platform=meb,region in (eu,us),!broken", "name=bench-1"],
    ),
]
Word = Annotated[str, StringConstraints(min_length=1, max_length=63, pattern=PLAIN)]
Priority = Annotated[
    Word,
    Field(
        description="A class of priority of the lab's policy: `low`, `normal`, `high`, `urgent` unless it has others.",
        examples=["normal"],
    ),
]
Team = Annotated[Word, Field(description="Whose quota pays.", examples=["default"])]
Affinity = Annotated[
    str,
    StringConstraints(max_length=200, pattern=PLAIN),
    Field(
        description="Wishes with the same key like to get the same bench, which has their firmware or data already.",
    ),
]


def check_length(text: object) -> object:
    """Raises ValueError for a script that is too long, saying how long it is."""
    if isinstance(text, str) and len(text) > SCRIPT_LENGTH_MAX:
        raise ValueError(
            f"it has {len(text)} characters; a script, or one of its files, has at most {SCRIPT_LENGTH_MAX}"
        )
    return text


ScriptFile = Annotated[str, BeforeValidator(check_length), StringConstraints(max_length=SCRIPT_LENGTH_MAX)]
Script = Annotated[ScriptFile, StringConstraints(min_length=1)]


def check_path(path: str) -> str:
    """Raises ValueError unless it is a path below the script."""
    parts = path.split("/")
    if "\\" in path or not re.match(PLAIN, path) or not all(parts) or "." in parts or ".." in parts or len(path) > 200:
        raise ValueError("expected a path relative to the script, such as lib/helpers.lua, without '.' and '..'")
    return path


def decoded(value: object) -> bytes:
    """What Base64 text says."""
    try:
        return b64decode(value, validate=True)  # type: ignore[arg-type]  # what is no text is a TypeError
    except (TypeError, ValueError):
        raise ValueError("expected Base64 text (RFC 4648) without line breaks") from None


def check_size(files: dict[str, bytes]) -> dict[str, bytes]:
    """Raises ValueError when the files are too large together."""
    size = sum(map(len, files.values()))
    if size > DATA_BYTES_MAX:
        raise ValueError(f"the data files have {size} bytes; a run takes at most {DATA_BYTES_MAX}")
    return files


def check_time(text: str) -> str:
    """Raises ValueError unless it is a time."""
    to_seconds(text)
    return text


FilePath = Annotated[str, AfterValidator(check_path)]
Content = Annotated[bytes, BeforeValidator(decoded), WithJsonSchema({"type": "string", "contentEncoding": "base64"})]
Time = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
TimeText = Annotated[Time, AfterValidator(check_time)]
"""In a request."""


class Request(BaseModel):
    """A request body: nothing unknown, nothing converted."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class WantedBenches(Request):
    """Different benches that match one selector."""

    selector: Selector = ""
    count: Annotated[int, Field(ge=1, le=32, description="How many.")] = 1


Wanted = Annotated[
    list[WantedBenches],
    Field(
        max_length=32,
        description="Several benches, all or none of them. `selector` alone is short for one bench.",
        examples=[[{"selector": "platform=meb", "count": 2}, {"selector": "gateway"}]],
    ),
]
SameSite = Annotated[bool, Field(description="All the benches must have the same label `site`.")]
