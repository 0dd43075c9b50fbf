"""What ISO 14229-1 demands of the ECU in full_ecu.py, written down a second time: plain chains of conditions.

Nothing here is taken from the tables under test. Each function follows the order of its service, first failure first.
"""

from tests.unit.ecu_adapters.full_ecu import Situation

DEFAULT, PROGRAMMING, EXTENDED = 0x01, 0x02, 0x03
NOT_IN_DEFAULT = {0x27, 0x28, 0x2A, 0x2F, 0x34, 0x35, 0x36, 0x37, 0x38, 0x83, 0x85, 0x86, 0x87}
WITH_SUBFUNCTION = {
    0x10: (1, 2, 3),
    0x11: (1, 2, 3),
    0x19: (1, 2, 3, 4, 6, 7, 8, 9, 0x0A, 0x0B, 0x0C, 0x0D, 0x0E, 0x14, 0x15, 0x16, 0x42, 0x55),
    0x27: (1, 2, 3, 4),
    0x28: (0, 1, 2, 3),
    0x29: (0, 5, 6, 8),
    0x2C: (1, 2, 3),
    0x3E: (0,),
    0x83: (1, 2, 3, 4),
    0x85: (1, 2),
    0x86: (0, 1, 3, 4, 5, 6),
    0x87: (1, 2, 3),
}
OTHERS = {0x14, 0x22, 0x23, 0x24, 0x2A, 0x2E, 0x2F, 0x31, 0x34, 0x35, 0x36, 0x37, 0x38, 0x3D}
CODES = ("030100", "C10000", "042000")
LENGTH = {
    "F190": 17,
    "F198": 6,
    "0200": 2,
    "0300": 4,
    "0301": 1,
    "0400": 600,
    "0500": 1,
    "0501": 1,
    "F201": 2,
    "F202": 1,
}
REGIONS = {"boot": (0x1000, 0x10), "flash": (0x2000, 0x100), "used": (0x3000, 0x10), "ram": (0x4000, 0x1000)}
REGIONS["vault"] = (0x6000, 0x10)


def oracle(pdu: bytes, at: Situation) -> int | None:
    """The NRC, or None for a positive response."""
    sid = pdu[0]
    if sid not in WITH_SUBFUNCTION and sid not in OTHERS:
        return 0x11
    if sid in NOT_IN_DEFAULT and at.session == DEFAULT:
        return 0x7F
    if sid == 0x83 and at.session != EXTENDED:
        return 0x7F
    if sid == 0x87 and not at.authenticated:
        return 0x34
    if sid == 0x83 and at.unlocked != 3:
        return 0x33
    if sid in WITH_SUBFUNCTION:
        if len(pdu) < 2:
            return 0x13
        sub = pdu[1] & 0x7F
        if sub not in WITH_SUBFUNCTION[sid]:
            return 0x12
        if sid == 0x10 and sub == PROGRAMMING and at.session == DEFAULT:
            return 0x7E
    return globals()[f"_{sid:02x}"](pdu, at)  # type: ignore[no-any-return]


def _10(pdu: bytes, at: Situation) -> int | None:
    return None if len(pdu) == 2 else 0x13


_11 = _3e = _10


def _14(pdu: bytes, at: Situation) -> int | None:
    if len(pdu) not in (4, 5):
        return 0x13
    return None if len(pdu) == 4 and pdu[1:].hex().upper() in (*CODES, "FFFFFF") else 0x31


def _19(pdu: bytes, at: Situation) -> int | None:
    sub = pdu[1] & 0x7F
    lengths = {1: 3, 2: 3, 4: 6, 6: 6, 7: 4, 8: 4, 9: 5, 0x16: 3, 0x42: 5, 0x55: 3}
    if len(pdu) != lengths.get(sub, 2):
        return 0x13
    if sub in (0x42, 0x55) and pdu[2] != 0x33:
        return 0x31
    if sub == 0x16 and pdu[2] != 1:
        return 0x31
    if sub in (4, 6, 9) and pdu[2:5].hex().upper() not in CODES:
        return 0x31
    if sub == 4 and pdu[5] not in (1, 2, 0xFF):
        return 0x31
    return 0x31 if sub == 6 and pdu[5] not in (1, 0xFF) else None


def _sources_of(did: str, at: Situation) -> str | None:
    """The static identifier behind one, None when there is none."""
    if did in LENGTH:
        return did
    return {"F300": "F190", "F301": "0300"}.get(did) if at.dynamic else None


def _readable(did: str, at: Situation) -> bool:
    source = _sources_of(did, at)
    return source is not None and (source != "0300" or at.session == EXTENDED)


def _read_protection(dids: list[str], at: Situation) -> int | None:
    sources = [_sources_of(did, at) for did in dids if _readable(did, at)]
    if "0301" in sources and not at.authenticated:
        return 0x34
    return 0x33 if {"0300", "F202"} & {*sources} and at.unlocked != 1 else None


def _22(pdu: bytes, at: Situation) -> int | None:
    if len(pdu) < 3 or len(pdu) % 2 == 0:
        return 0x13
    dids = [pdu[i : i + 2].hex().upper() for i in range(1, len(pdu), 2)]
    known = [did for did in dids if _readable(did, at)]
    if not known:
        return 0x31
    protected = _read_protection(known, at)
    if protected:
        return protected
    length = 1 + sum(2 + (LENGTH[did] if did in LENGTH else {"F300": 4, "F301": 1}[did]) for did in known)
    return 0x14 if length > 1200 else None


def _24(pdu: bytes, at: Situation) -> int | None:
    if len(pdu) != 3:
        return 0x13
    did = pdu[1:].hex().upper()
    return _read_protection([did], at) if _readable(did, at) else 0x31


def _2e(pdu: bytes, at: Situation) -> int | None:
    if len(pdu) < 4:
        return 0x13
    did, data = pdu[1:3].hex().upper(), pdu[3:]
    if did not in ("F198", "0200", "0301") or (did != "0301" and at.session != EXTENDED):
        return 0x31
    if did == "0301" and not at.authenticated:
        return 0x34
    if did == "F198" and at.unlocked != 1:
        return 0x33
    if len(data) != LENGTH[did]:
        return 0x13
    allowed = {
        "F198": data.isascii(),
        "0200": 600 <= int.from_bytes(data, "big") <= 1200,
        "0301": True,
    }[did]
    return None if allowed else 0x31


def _27(pdu: bytes, at: Situation) -> int | None:
    sub = pdu[1] & 0x7F
    if sub % 2 == 0:
        if at.seed != sub - 1:
            return 0x24
        return None if len(pdu) == 2 + (4 if sub == 2 else 16) else 0x13
    if len(pdu) != 2:
        return 0x13
    return 0x37 if sub == 1 and at.locked_out else None


def _28(pdu: bytes, at: Situation) -> int | None:
    if len(pdu) != 3:
        return 0x13
    return None if pdu[2] in (0x01, 0x02, 0x03, 0xF1, 0xF2, 0xF3) else 0x31


def _29(pdu: bytes, at: Situation) -> int | None:
    sub = pdu[1] & 0x7F
    if sub == 6 and not at.challenge:
        return 0x24
    if sub in (0, 8):
        return None if len(pdu) == 2 else 0x13
    if sub == 5:
        if len(pdu) != 19:
            return 0x13
        return None if pdu[2:] == bytes(17) else 0x31
    rest, index = pdu[18:], 0
    for _ in range(3):
        if len(rest) < index + 2:
            return 0x13
        index += 2 + (rest[index] << 8 | rest[index + 1])
    if len(rest) != index:
        return 0x13
    return None if pdu[2:18] == bytes(16) else 0x31


def _2a(pdu: bytes, at: Situation) -> int | None:
    if len(pdu) < 2 or (len(pdu) == 2 and pdu[1] != 4):
        return 0x13
    if pdu[1] not in (1, 2, 3, 4):
        return 0x31
    dids = [f"F2{identifier:02X}" for identifier in pdu[2:]]
    if not all(_readable(did, at) for did in dids):
        return 0x31
    protected = _read_protection(dids, at)
    if protected:
        return protected
    scheduled = {0x01, 0x77} if at.periodic else set()
    return 0x31 if pdu[1] != 4 and len(scheduled | {*pdu[2:]}) > 2 else None


def _2c(pdu: bytes, at: Situation) -> int | None:
    sub, length = pdu[1] & 0x7F, len(pdu)
    target = pdu[2:4].hex().upper()
    good_target = target[:2] in ("F2", "F3") and target not in LENGTH
    if sub == 3:
        if length not in (2, 4):
            return 0x13
        return None if length == 2 or good_target else 0x31
    if length < (8 if sub == 1 else 7):
        return 0x13
    if not good_target:
        return 0x31
    if sub == 1:
        if (length - 4) % 4:
            return 0x13
        dids = []
        for i in range(4, length, 4):
            did, position, size = pdu[i : i + 2].hex().upper(), pdu[i + 2], pdu[i + 3]
            if did not in LENGTH or not _readable(did, at):
                return 0x31
            if not position or not size or position + size - 1 > LENGTH[did]:
                return 0x31
            dids.append(did)
        return _read_protection(dids, at)
    if pdu[4] not in (0x44, 0x22):
        return 0x31
    width = 8 if pdu[4] == 0x44 else 4
    if length == 5 or (length - 5) % width:
        return 0x13
    names = [_region(pdu[i : i + width]) for i in range(5, length, width)]
    if None in names:
        return 0x31
    sizes = [int.from_bytes(pdu[i + width // 2 : i + width], "big") for i in range(5, length, width)]
    if sum(sizes) + (4 if at.dynamic and target == "F300" else 1 if at.dynamic and target == "F301" else 0) > 4092:
        return 0x31
    return 0x34 if "vault" in names and not at.authenticated else None


def _region(where: bytes) -> str | None:
    half = len(where) // 2
    address, size = int.from_bytes(where[:half], "big"), int.from_bytes(where[half:], "big")
    for name, (start, length) in REGIONS.items():
        if size and start <= address and address + size <= start + length:
            return name
    return None


def _2f(pdu: bytes, at: Situation) -> int | None:
    if len(pdu) < 4:
        return 0x13
    did = pdu[1:3].hex().upper()
    if did != "0501" and (did != "0500" or at.session != EXTENDED):
        return 0x31
    if pdu[3] > 3:
        return 0x31
    if did == "0500" and at.unlocked != 1:
        return 0x33
    rest = pdu[4:]
    state = 1 if pdu[3] == 3 else 0
    if len(rest) not in ((state, state + 1) if did == "0501" else (state,)):
        return 0x13
    if pdu[3] != 3:
        return None
    return 0x31 if (rest[0] > 100 if did == "0500" else rest[0] >> 4 > 2) else None


def _31(pdu: bytes, at: Situation) -> int | None:
    if len(pdu) < 4:
        return 0x13
    routine, sub, option = pdu[2:4].hex().upper(), pdu[1] & 0x7F, pdu[4:]
    if routine not in ("FF00", "0202", "0300") or (routine == "FF00" and at.session != PROGRAMMING):
        return 0x31
    if routine == "FF00" and at.unlocked != 1:
        return 0x33
    if sub not in ((1, 2, 3) if routine == "0300" else (1,)):
        return 0x12
    expected = {"FF00": 4, "0202": 4, "0300": 1}[routine] if sub == 1 else 0
    if len(option) != expected:
        return 0x13
    if routine == "FF00" and _region(option) not in ("flash", "used", "ram", "vault"):
        return 0x31
    if routine == "0300" and sub == 1 and option[0] > 3:
        return 0x31
    if routine == "0202" and not at.downloaded:
        return 0x22
    if routine == "0300":
        if sub == 1:
            return 0x22 if at.routine == "running" else None
        if sub == 2:
            return None if at.routine == "running" else 0x24
        return {"": 0x24, "running": 0x21, "over": None}[at.routine]
    return None


def _34_35(pdu: bytes, at: Situation) -> int | None:
    if len(pdu) < 5:
        return 0x13
    if pdu[1] != 0 or pdu[2] not in (0x44, 0x22):
        return 0x31
    if len(pdu) != 3 + (8 if pdu[2] == 0x44 else 4):
        return 0x13
    name = _region(pdu[3:])
    download = pdu[0] == 0x34
    if name is None or (download and (name == "boot" or (name == "flash" and at.session != PROGRAMMING))):
        return 0x31
    if name == "vault" and not at.authenticated:
        return 0x34
    if download and name == "flash" and at.unlocked != 1:
        return 0x33
    if at.transfer:
        return 0x22
    return 0x70 if download and name == "used" else None


_34 = _35 = _34_35


def _36(pdu: bytes, at: Situation) -> int | None:
    if len(pdu) < 2:
        return 0x13
    if not at.transfer:
        return 0x24
    last = {"fresh": 0, "begun": 1, "done": 4, "upload": 0, "uploaded": 1}[at.transfer]
    repeated = last > 0 and pdu[1] == last
    if not repeated and pdu[1] != last + 1:
        return 0x73
    data = len(pdu) - 2
    if at.transfer in ("upload", "uploaded"):
        if data:
            return 0x13
        return 0x71 if at.transfer == "uploaded" and not repeated else None
    if data == 0 or len(pdu) > 0x12:
        return 0x13
    if not repeated and data > 32 - 8 * last:
        return 0x71
    if at.supply_v is not None and at.supply_v > 16:
        return 0x92
    return 0x93 if at.supply_v is not None and at.supply_v < 9 else None


def _37(pdu: bytes, at: Situation) -> int | None:
    if at.transfer not in ("done", "uploaded"):
        return 0x24
    return None if len(pdu) == 1 else 0x31


def _38(pdu: bytes, at: Situation) -> int | None:
    if len(pdu) < 5:
        return 0x13
    mode = pdu[1]
    if mode not in (1, 2, 3, 4, 5):
        return 0x31
    length = pdu[2] << 8 | pdu[3]
    path, rest = pdu[4 : 4 + length], pdu[4 + length :]
    if not length or len(path) != length:
        return 0x13
    if mode in (2, 5):
        if rest:
            return 0x13
    elif mode == 4:
        if len(rest) != 1:
            return 0x13
    elif len(rest) < 2 or not rest[1] or len(rest) != 2 + 2 * rest[1]:
        return 0x13
    if mode == 5:
        if path != b"/":
            return 0x31
    elif (path == b"log.txt") is (mode == 1):
        return 0x31
    size = 0
    if mode in (1, 3, 4) and rest[0] != 0:
        return 0x31
    if mode in (1, 3):
        half = 2 + rest[1]
        if rest[2:half] != rest[half:]:
            return 0x31
        size = int.from_bytes(rest[2:half], "big")
    if at.transfer:
        return 0x22
    return 0x70 if size > (97 if mode == 1 else 100) else None


def _23(pdu: bytes, at: Situation) -> int | None:
    if len(pdu) < 4:
        return 0x13
    if pdu[1] not in (0x44, 0x22):
        return 0x31
    if len(pdu) != 2 + (8 if pdu[1] == 0x44 else 4):
        return 0x13
    name = _region(pdu[2:])
    if name is None:
        return 0x31
    if name == "vault" and not at.authenticated:
        return 0x34
    return 0x14 if int.from_bytes(pdu[2 + (len(pdu) - 2) // 2 :], "big") > 1199 else None


def _3d(pdu: bytes, at: Situation) -> int | None:
    if len(pdu) < 5:
        return 0x13
    if pdu[1] not in (0x44, 0x22):
        return 0x31
    head = 2 + (8 if pdu[1] == 0x44 else 4)
    if len(pdu) <= head:
        return 0x13
    size = int.from_bytes(pdu[2 + (head - 2) // 2 : head], "big")
    if len(pdu) != head + size:
        return 0x13
    name = _region(pdu[2:head])
    if name in (None, "boot") or (name == "flash" and at.session != PROGRAMMING):
        return 0x31
    if name == "vault" and not at.authenticated:
        return 0x34
    if name == "flash" and at.unlocked != 1:
        return 0x33
    return 0x72 if name == "used" else None


def _83(pdu: bytes, at: Situation) -> int | None:
    sub = pdu[1] & 0x7F
    if len(pdu) != (6 if sub == 4 else 2):
        return 0x13
    if sub != 4:
        return None
    return None if int.from_bytes(pdu[2:4], "big") >= 50 and int.from_bytes(pdu[4:6], "big") >= 500 else 0x31


def _85(pdu: bytes, at: Situation) -> int | None:
    if len(pdu) not in (2, 5):
        return 0x13
    return None if pdu[2:] in (b"", b"\xff\xff\xff") else 0x31


def _86(pdu: bytes, at: Situation) -> int | None:
    sub, length = pdu[1] & 0x7F, len(pdu)
    service = {1: 4, 3: 5}.get(sub)
    if (length != 3) if service is None else (length <= service):
        return 0x13
    if pdu[2] != 2:
        return 0x31
    if service is not None:
        if pdu[service] not in (0x19, 0x22):
            return 0x31
        if sub == 3 and not _readable(pdu[3:5].hex().upper(), at):
            return 0x31
        return 0x22 if at.events >= 16 else None
    return 0x24 if sub == 5 and not at.events else None


def _87(pdu: bytes, at: Situation) -> int | None:
    sub = pdu[1] & 0x7F
    if sub == 3 and not at.verified:
        return 0x24
    if len(pdu) != {1: 3, 2: 5, 3: 2}[sub]:
        return 0x13
    if sub == 1:
        return None if pdu[2] in (0x12, 0x13) else 0x31
    if sub == 2:
        return None if int.from_bytes(pdu[2:], "big") in (500_000, 1_000_000) else 0x31
    return None
