"""Plain values between Python and Lua.

Only flat values cross the border itself (FACTS: a table or object that crosses it can take the process down, or the
sandbox apart). Structured ones travel as text: to Lua as a Lua expression, from Lua as JSON whose characters stand for
bytes. Binary data is hexadecimal text on the Lua side, upper case and without spaces.
"""

import json
import math
import re
from collections.abc import Mapping
from typing import Any

_INT64 = 2**63
_ESCAPED = re.compile(rb'["\\\x00-\x1f\x7f]')


def to_lua(value: object) -> bytes:
    """A Lua expression for ``value``: None, bool, int, float, str, bytes, lists and mappings of those.

    Integers beyond 64 bits become floats, as Lua itself does with such literals. Raises TypeError for anything else.
    """
    match value:
        case None:
            return b"nil"
        case bool():
            return b"true" if value else b"false"
        case int():
            if -_INT64 < value < _INT64:
                return b"%d" % value
            return b"(-9223372036854775807-1)" if value == -_INT64 else _float(float(value))
        case float():
            return _float(value)
        case str():
            return quoted(value)
        case bytes() | bytearray():
            return b'"' + bytes(value).hex().upper().encode() + b'"'
        case Mapping():
            return b"{" + b",".join(b"[" + to_lua(key) + b"]=" + to_lua(item) for key, item in value.items()) + b"}"
        case list() | tuple():
            return b"{" + b",".join(to_lua(item) for item in value) + b"}"
    raise TypeError(f"a scenario cannot be given a {type(value).__name__}")


def quoted(text: str) -> bytes:
    """A Lua string literal with the UTF-8 of ``text``."""
    raw = text.encode("utf-8", "backslashreplace")
    return b'"' + _ESCAPED.sub(lambda found: b"\\%03d" % found.group()[0], raw) + b'"'


def from_lua(value: object) -> Any:
    """A flat value as lupa hands it over: Lua strings become text, bytes that are no UTF-8 as ``\\xNN``."""
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value


def from_json(text: str) -> Any:
    """A structured value that the Lua side has encoded. Raises ValueError when it is none."""
    return _as_text(json.loads(text))


def to_hex(data: bytes) -> str:
    """Binary data as scenarios see it."""
    return data.hex().upper()


def from_hex(text: str, what: str) -> bytes:
    """Bytes written as hexadecimal digits, spaces between bytes allowed. Raises ValueError that names ``what``."""
    try:
        return bytes.fromhex(text)
    except ValueError:
        shown = text if len(text) <= 40 else f"{text[:39]}…"
        raise ValueError(f"{what} is {shown!r}; write bytes as hexadecimal digits, for example '22 F1 90'") from None


def _float(value: float) -> bytes:
    if math.isnan(value):
        return b"(0/0)"
    if math.isinf(value):
        return b"(1/0)" if value > 0 else b"(-1/0)"
    return repr(value).encode()


def _as_text(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("latin-1").decode("utf-8", "backslashreplace")
    if isinstance(value, list):
        return [_as_text(item) for item in value]
    if isinstance(value, dict):
        return {_as_text(key): _as_text(item) for key, item in value.items()}
    return value
