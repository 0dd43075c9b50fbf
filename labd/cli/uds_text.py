"""UDS for people: what a request asks for, what a positive response says (ISO 14229-1:2020).

Names of services, and names and meanings of negative responses, come with the agent's reply; so do the values of data
identifiers, which the agent decodes with the ECU's description.
"""

from typing import Any

_SESSIONS = {1: "default", 2: "programming", 3: "extended", 4: "safety system"}
_DTC_LETTERS = "PCBU"
_POSITIVE_OFFSET = 0x40


def spaced(data: bytes) -> str:
    """``22 F1 90``."""
    return data.hex(" ").upper()


def identifiers(request: bytes) -> list[int]:
    """The data identifiers that a ReadDataByIdentifier request asks for; empty for any other request."""
    if len(request) < 3 or len(request) % 2 == 0 or request[0] != 0x22:
        return []
    return [int.from_bytes(request[at : at + 2], "big") for at in range(1, len(request), 2)]


def explain(response: bytes, service_name: str) -> str:
    """What a positive response says, as far as its format is the standard's; "" for an empty one.

    ``service_name`` is the request's.
    """
    if not response:
        return ""
    service, rest = response[0] - _POSITIVE_OFFSET, response[1:]
    match service:
        case 0x10 if len(rest) == 5:
            # Table 29: P2 in ms, P2* in 10 ms
            p2, p2_star = int.from_bytes(rest[1:3], "big"), int.from_bytes(rest[3:5], "big") * 10
            return f"session {_SESSIONS.get(rest[0], f'0x{rest[0]:02X}')}, P2 {p2} ms, P2* {p2_star} ms"
        case 0x19 if len(rest) >= 2 and rest[0] in (0x02, 0x0A) and (len(rest) - 2) % 4 == 0:
            records = [rest[at : at + 4] for at in range(2, len(rest), 4)]
            return "\n".join(f"{dtc(record[:3])} status 0x{record[3]:02X}" for record in records) or "no DTCs"
        case 0x19 if len(rest) == 5 and rest[0] == 0x01:
            return f"{int.from_bytes(rest[3:5], 'big')} DTCs"
        case 0x22 if len(rest) > 2:
            return f"{int.from_bytes(rest[:2], 'big'):04X} = {value(rest[2:])}"
        case 0x27 if rest:
            if rest[0] % 2 == 0:
                return f"level {rest[0] - 1} unlocked"
            return f"seed {spaced(rest[1:])}" if any(rest[1:]) else f"level {rest[0]} is unlocked already"
    return f"{service_name} done"


def plain(result: Any) -> Any:
    """A result for JSON: bytes as hexadecimal digits."""
    if isinstance(result, bytes):
        return result.hex().upper()
    if isinstance(result, list):
        return [plain(item) for item in result]
    if isinstance(result, dict):
        return {name: plain(item) for name, item in result.items()}
    return result


def result_text(result: Any) -> str:
    """A result for people, a line for each value or trouble code; "" for none."""
    if result is None:
        return ""
    if isinstance(result, bytes):
        return value(result)
    if isinstance(result, list):
        return "\n".join(_item(item) for item in result) or "none"
    if isinstance(result, dict):
        if "code" in result:
            return _item(result)
        return "\n".join(f"{name}: {_item(item)}" for name, item in result.items() if item not in ("", b"", {}))
    return str(result)


def _item(item: Any) -> str:
    """One value in a line."""
    if isinstance(item, bytes):
        return value(item)
    if isinstance(item, list):
        return ", ".join(map(_item, item)) or "none"
    if not isinstance(item, dict):
        return str(item)
    if "code" in item:
        return _trouble_code(item)
    return ", ".join(f"{name} {_item(part)}" for name, part in item.items() if part not in ("", b"", {}))


def _trouble_code(item: dict[str, Any]) -> str:
    """``P0301 status 0x2F (confirmed, ...): what it means``, and whatever else is known of it."""
    bits = ", ".join(name.replace("_", " ") for name, set_ in item.items() if set_ is True)
    status = f" status 0x{item['status']:02X}" + (f" ({bits})" if bits else "") if "status" in item else ""
    known = {"code", "dtc", "text", "status"}
    rest = {name: part for name, part in item.items() if name not in known and not isinstance(part, bool)}
    more = f"; {_item(rest)}" if rest else ""
    return f"{item['code']}{status}{more}" + (f": {item['text']}" if item.get("text") else "")


def value(data: bytes) -> str:
    """Bytes of unknown meaning: hexadecimal, and as text where they are printable."""
    text = data.decode("ascii", errors="replace").rstrip("\0 ")
    return f"{spaced(data)} ({text!r})" if len(text) > 1 and text.isprintable() and text.isascii() else spaced(data)


def dtc(code: bytes) -> str:
    """A three-byte DTC in the notation of SAE J2012-DA: ``P0301``, with its failure type: ``P0301-1A`` if there is."""
    letter = _DTC_LETTERS[code[0] >> 6]
    failure = f"-{code[2]:02X}" if code[2] else ""
    return f"{letter}{code[0] >> 4 & 3:X}{code[0] & 0x0F:X}{code[1]:02X}{failure}"
