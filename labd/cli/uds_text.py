"""UDS for people: what a request asks for, what a positive response says (ISO 14229-1:2020).

Names of services, and names and meanings of negative responses, come with the agent's reply; so do the values of data
identifiers, which the agent decodes with the ECU's description.
"""

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


def value(data: bytes) -> str:
    """Bytes of unknown meaning: hexadecimal, and as text where they are printable."""
    text = data.decode("ascii", errors="replace").rstrip("\0 ")
    return f"{spaced(data)} ({text!r})" if len(text) > 1 and text.isprintable() and text.isascii() else spaced(data)


def dtc(code: bytes) -> str:
    """A three-byte DTC in the notation of SAE J2012-DA: ``P0301``, with its failure type: ``P0301-1A`` if there is."""
    letter = _DTC_LETTERS[code[0] >> 6]
    failure = f"-{code[2]:02X}" if code[2] else ""
    return f"{letter}{code[0] >> 4 & 3:X}{code[0] & 0x0F:X}{code[1]:02X}{failure}"
