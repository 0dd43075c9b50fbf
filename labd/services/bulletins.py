"""What a transaction has caused, as text for the other labds: ``NOTIFY`` carries less than 8000 bytes at a time."""

import json
from dataclasses import asdict, fields, is_dataclass
from typing import Any, get_args, get_type_hints

from labd.services.ledger import Effects

BYTES_MAX = 7000


def encode(sender: str, effects: Effects) -> list[str]:
    """As few messages as it takes; none when nothing was caused."""
    flags, items = {}, []
    for one in fields(effects):
        if one.metadata.get("here"):
            continue
        value = getattr(effects, one.name)
        if isinstance(value, (list, set)):
            items += [(one.name, item if isinstance(item, str) else asdict(item)) for item in value]
        elif value != one.default:
            flags[one.name] = value
    messages, document, size = [], {"from": sender, **flags}, 0
    for name, item in items:
        length = len(json.dumps(item)) + 2
        if size + length > BYTES_MAX:
            messages.append(json.dumps(document))
            document, size = {"from": sender}, 0
        document.setdefault(name, []).append(item)
        size += length
    return [*messages, json.dumps(document)] if len(document) > 1 else messages


def decode(message: str) -> tuple[str, Effects]:
    """Who has sent it, and the effects. What a newer labd says beyond that is left out."""
    document = json.loads(message)
    hints = get_type_hints(Effects)
    values: dict[str, Any] = {}
    for name in hints.keys() & document.keys():
        kind = get_args(hints[name])
        item: Any = kind[0] if kind and is_dataclass(kind[0]) else None
        value = document[name]
        if isinstance(value, list):
            found = [item(**one) if item is not None else one for one in value]
            values[name] = set(found) if hints[name].__origin__ is set else found
        else:
            values[name] = value
    return document.get("from", ""), Effects(**values)
