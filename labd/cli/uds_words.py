"""What somebody has typed behind ``labctl uds BENCH ECU``: a request in hexadecimal, or a service with arguments."""

import json
import re
from dataclasses import dataclass
from typing import Any

import click

from labd.cli.options import parse_pdu

_NUMBER = re.compile(r"0[xX][0-9A-Fa-f]+")
_NAMED = re.compile(r"([a-z_]+)=(.*)", re.DOTALL)
_HEXADECIMAL = re.compile(r"[0-9A-Fa-f ]+")
_ALIASES = {"dtcs": "read_dtcs"}
_POSITIONS: dict[str, tuple[str, ...]] = {
    "session": ("session",),
    "reset": ("kind",),
    "read_dtcs": ("mask",),
    "clear_dtcs": ("group",),
    "find_dtc": ("which",),
    "dtc_severity": ("dtc",),
    "dtc_snapshot": ("dtc", "record"),
    "dtc_extended_data": ("dtc", "record"),
    "write": ("did", "value"),
    "read_scaling": ("did",),
    "read_memory": ("address", "size"),
    "write_memory": ("address", "data"),
    "unlock": ("level",),
    "seed": ("level",),
    "communication_control": ("control", "messages"),
    "control_dtc_setting": ("setting", "record"),
    "io_control": ("did", "action", "value"),
    "routine": ("action", "routine"),
    "link_control": ("action", "bitrate"),
    "access_timing": ("action", "record"),
    "authenticate": ("task",),
}
"""Arguments that need no name, by service."""
_LISTS = {"read": "did", "read_periodic": "dids", "stop_periodic": "dids"}
"""Services whose plain words are all of one argument."""


@dataclass(frozen=True, slots=True)
class Named:
    """A service by name."""

    service: str
    arguments: dict[str, Any]


def parse_words(words: tuple[str, ...]) -> bytes | Named:
    """A request PDU, or a service with its arguments. Raises click.BadParameter, naming the word."""
    if not words:
        raise click.BadParameter("the request is missing; write 22F190, or a service such as: read VIN")
    if words[0][:1].isdigit() or _HEXADECIMAL.fullmatch(words[0]):
        return parse_pdu(words)
    service = _ALIASES.get(words[0], words[0])
    plain: list[Any] = []
    named: dict[str, Any] = {}
    for word in words[1:]:
        if match := _NAMED.fullmatch(word):
            named[match[1]] = literal(match[2])
        else:
            plain.append(literal(word))
    if service in _LISTS and plain:
        return Named(service, {_LISTS[service]: plain if len(plain) > 1 else plain[0], **named})
    positions = _POSITIONS.get(service, ())
    if len(plain) > len(positions):
        takes = " ".join(name.upper() for name in positions) or "only NAME=VALUE"
        raise click.BadParameter(f"{service} takes {takes}, not {plain[len(positions)]!r} as well")
    arguments = dict(zip(positions, plain, strict=False))
    if service == "routine":
        # The options have names of the ECU's description; nothing else that is named goes there.
        return Named(service, {**arguments, **({"options": named} if named else {})})
    return Named(service, {**arguments, **named})


def literal(text: str) -> Any:
    """A number (0x for hexadecimal), true, false, JSON in quotes or brackets, or else the text itself."""
    if _NUMBER.fullmatch(text):
        return int(text, 16)
    try:
        return json.loads(text)
    except ValueError:
        return text
