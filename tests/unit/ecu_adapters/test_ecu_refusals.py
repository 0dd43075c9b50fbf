"""The order of negative responses: every row of the tables, and an exhaustive walk against the order in code.

`oracle` below is what ISO 14229-1 demands, written down a second time, as a plain chain of conditions; the walk holds
the tables against it for every service, session, security state, sub-function and length.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

import pytest

from ecu_adapters.description import EcuDescription
from ecu_adapters.dids import Access
from ecu_adapters.simulator.clock import VirtualClock
from ecu_adapters.simulator.rules import Call, Rule, Service, SubFunction, first_refusal, rows
from ecu_adapters.simulator.services import SERVICES, services_of
from ecu_adapters.simulator.state import EcuState

DEFAULT, PROGRAMMING, EXTENDED = 0x01, 0x02, 0x03


@dataclass(frozen=True)
class Situation:
    """What the ECU is in when the request comes."""

    session: int = DEFAULT
    unlocked: int | None = None
    seed: int | None = None
    """Level whose seed awaits its key."""
    locked_out: bool = False

    def state(self, ecu: EcuDescription) -> EcuState:
        state = EcuState(ecu, VirtualClock(), random_bytes=lambda length: b"\x11" * length)
        state.enter_session(self.session)
        if self.locked_out:
            for _ in range(ecu.security[1].attempts):
                state.new_seed(1)
                state.try_key(1, b"wrong")
        state.unlocked = self.unlocked
        if self.seed is not None:
            state.new_seed(self.seed)
        return state


def oracle(pdu: bytes, situation: Situation) -> int | None:
    """The NRC that the standard demands of the ECU in conftest.py, or None for a positive response."""
    sid, length = pdu[0], len(pdu)
    if sid not in (0x10, 0x11, 0x14, 0x19, 0x22, 0x27, 0x2E, 0x3E):
        return 0x11
    if sid == 0x27 and situation.session == DEFAULT:
        return 0x7F
    if sid in (0x10, 0x11, 0x19, 0x27, 0x3E):
        return _with_subfunction(pdu, situation)
    if sid == 0x14:
        if length not in (4, 5):
            return 0x13
        known = (b"\xff\xff\xff", b"\x03\x01\x00", b"\xc1\x00\x00", b"\x04\x20\x00")
        return None if length == 4 and pdu[1:] in known else 0x31
    if sid == 0x22:
        if length < 3 or length % 2 == 0:
            return 0x13
        dids = [pdu[at : at + 2].hex().upper() for at in range(1, length, 2)]
        known_dids = [d for d in dids if d in READABLE or (d == "0300" and situation.session == EXTENDED)]
        if not known_dids:
            return 0x31
        return 0x33 if "0300" in known_dids and situation.unlocked != 1 else None
    if length < 4:
        return 0x13
    did, data = pdu[1:3].hex().upper(), pdu[3:]
    if did not in ("F198", "0200") or situation.session != EXTENDED:
        return 0x31
    if did == "F198" and situation.unlocked != 1:
        return 0x33
    if len(data) != (6 if did == "F198" else 2):
        return 0x13
    allowed = data.isascii() if did == "F198" else 600 <= int.from_bytes(data, "big") <= 1200
    return None if allowed else 0x31


def _with_subfunction(pdu: bytes, situation: Situation) -> int | None:
    sid, length = pdu[0], len(pdu)
    if length < 2:
        return 0x13
    sub = pdu[1] & 0x7F
    supported = {0x10: (1, 2, 3), 0x11: (1, 2, 3), 0x19: (1, 2, 0x0A), 0x27: (1, 2, 3, 4), 0x3E: (0,)}[sid]
    if sub not in supported:
        return 0x12
    if sid == 0x10 and sub == PROGRAMMING and situation.session == DEFAULT:
        return 0x7E
    if sid == 0x27:
        if sub % 2 == 0:
            if situation.seed != sub - 1:
                return 0x24
            return None if length == 2 + (4 if sub == 2 else 16) else 0x13
        if length != 2:
            return 0x13
        return 0x37 if sub == 1 and situation.locked_out else None
    return None if length == (3 if sid == 0x19 and sub in (1, 2) else 2) else 0x13


READABLE = ("F190", "F198", "0200", "0201", "0400")

SITUATIONS = [
    Situation(session, unlocked, seed, locked_out)
    for session, unlocked, seed, locked_out in product(
        (DEFAULT, PROGRAMMING, EXTENDED), (None, 1, 3), (None, 1, 3), (False, True)
    )
    # In the default session nothing is unlocked and no seed is out; a level has no seed out while it is unlocked.
    if (session != DEFAULT or (unlocked is None and seed is None)) and (unlocked is None or unlocked != seed)
]


def _requests(sid: int) -> Iterator[bytes]:
    yield bytes((sid,))
    if sid in (0x10, 0x11, 0x19, 0x27, 0x3E):
        for sub in range(0x100):
            yield from (bytes((sid, sub)) + bytes(extra) for extra in (0, 1, 2, 4, 15, 16, 17))
        return
    if sid == 0x14:
        groups = ("FFFFFF", "030100", "C10000", "042000", "000000", "FFFF", "FF", "030101", "FFFFFF00", "FFFFFF0000")
        yield from (bytes.fromhex("14" + group) for group in groups)
        return
    dids = [bytes.fromhex(did) for did in (*READABLE, "0300", "FFFF")]
    if sid == 0x22:
        for count in (1, 2, 3):
            for chosen in product(dids, repeat=count):
                yield b"\x22" + b"".join(chosen)
                yield b"\x22" + b"".join(chosen) + b"\x01"
        return
    data = (
        b"",
        b"\x00",
        b"\x02\x58",
        b"\x02\x57",
        b"\x04\xb0",
        b"\x04\xb1",
        b"abc",
        b"abcdef",
        b"abcde\xff",
        b"abcdefg",
    )
    for did, value in product(dids, data):
        yield bytes((sid,)) + did + value


@pytest.mark.parametrize("sid", (0x10, 0x11, 0x14, 0x19, 0x22, 0x27, 0x2E, 0x3E), ids=lambda sid: f"0x{sid:02X}")
def test_every_request_is_refused_as_the_standard_demands(ecu: EcuDescription, sid: int) -> None:
    requests = list(_requests(sid))
    seen = set()
    for situation in SITUATIONS:
        state = situation.state(ecu)
        for pdu in requests:
            expected = oracle(pdu, situation)
            assert first_refusal(Call(state, SERVICES, pdu)) == expected, (pdu.hex(), situation)
            seen.add(expected)
    assert None in seen


def test_services_that_the_ecu_does_not_have(ecu: EcuDescription) -> None:
    state = Situation().state(ecu)
    known = services_of(ecu)
    for sid in set(range(0x100)) - set(known):
        for pdu in (bytes((sid,)), bytes((sid, 0x01)), bytes((sid, 0xF1, 0x90))):
            assert first_refusal(Call(state, known, pdu)) == 0x11


LOCKED = Situation(EXTENDED)
UNLOCKED = Situation(EXTENDED, unlocked=1)

# For each row: a request that this row refuses, and every later one too where such a request exists.
# (service, index of the row in `rows`, NRC, request, situation)
ROWS: list[tuple[int, int, int, str, Situation]] = [
    (0x10, 4, 0x13, "10", Situation()),
    (0x10, 5, 0x12, "10 05 00", Situation()),
    (0x10, 6, 0x7E, "10 02 00", Situation()),
    (0x10, 9, 0x13, "10 01 00", Situation()),
    (0x11, 4, 0x13, "11", Situation()),
    (0x11, 5, 0x12, "11 04 00", Situation()),
    (0x11, 9, 0x13, "11 01 00", Situation()),
    (0x14, 4, 0x13, "14 00 00", Situation()),
    (0x14, 5, 0x31, "14 00 00 00", Situation()),
    (0x19, 4, 0x13, "19", Situation()),
    (0x19, 5, 0x12, "19 03 00 00 00", Situation()),
    (0x19, 9, 0x13, "19 02", Situation()),
    (0x22, 4, 0x13, "22 F1", Situation()),
    (0x22, 5, 0x31, "22 03 00", Situation()),
    (0x22, 7, 0x33, "22 03 00" + " 04 00" * 8, LOCKED),
    (0x22, 8, 0x14, "22 03 00" + " 04 00" * 8, UNLOCKED),
    (0x27, 1, 0x7F, "27 7F 00", Situation()),
    (0x27, 4, 0x13, "27", LOCKED),
    (0x27, 5, 0x12, "27 06 00", LOCKED),
    (0x27, 9, 0x24, "27 02 00", LOCKED),
    (0x27, 10, 0x13, "27 01 00", Situation(EXTENDED, locked_out=True)),
    (0x27, 10, 0x13, "27 02 00", Situation(EXTENDED, seed=1)),
    (0x27, 11, 0x37, "27 01", Situation(EXTENDED, locked_out=True)),
    (0x2E, 4, 0x13, "2E F1 98", Situation()),
    (0x2E, 5, 0x31, "2E F1 98 FF", Situation()),
    (0x2E, 7, 0x33, "2E F1 98 FF", LOCKED),
    (0x2E, 8, 0x13, "2E F1 98 FF", UNLOCKED),
    (0x2E, 9, 0x31, "2E F1 98 FF FF FF FF FF FF", UNLOCKED),
    (0x3E, 4, 0x13, "3E", Situation()),
    (0x3E, 5, 0x12, "3E 01 00", Situation()),
    (0x3E, 9, 0x13, "3E 00 00", Situation()),
]


@pytest.mark.parametrize(("sid", "row", "nrc", "request_hex", "situation"), ROWS, ids=lambda value: str(value)[:12])
def test_each_row_decides_before_those_after_it(
    ecu: EcuDescription, sid: int, row: int, nrc: int, request_hex: str, situation: Situation
) -> None:
    ecu = ecu.model_copy(update={"isotp": ecu.isotp.model_copy(update={"max_pdu": 4095})})
    pdu = bytes.fromhex(request_hex)
    table = rows(SERVICES[sid])
    call = Call(situation.state(ecu), SERVICES, pdu)
    assert table[row].nrc == nrc
    assert first_refusal(call) == nrc
    assert [rule.fails(call) for rule in table[: row + 1]] == [False] * row + [True]


def test_no_row_is_left_untested(ecu: EcuDescription) -> None:
    tested = {(sid, row) for sid, row, *_ in ROWS}
    general: dict[int, str] = {
        0: "the ECU does not have the service: test_services_that_the_ecu_does_not_have",
        2: "service-level authentication: test_services_and_subfunctions_behind_security",
        3: "service-level security: test_services_and_subfunctions_behind_security",
    }
    for sid, service in services_of(ecu).items():
        for index, rule in enumerate(rows(service)):
            never = (index == 1 and not service.outside_default) or index in general
            if service.subfunctions is not None:
                never = never or index in (7, 8) or (index == 6 and sid != 0x10)
            never = never or rule.nrc == 0x34
            assert never or (sid, index) in tested, (hex(sid), index, rule.when)


def test_services_and_subfunctions_behind_security(ecu: EcuDescription) -> None:
    """No service of this ECU is locked as a whole, but those of others are: same table, another service."""
    service = Service(
        0x31,
        lambda _call: b"",
        subfunctions=lambda _state: {1: SubFunction(), 2: SubFunction(frozenset({PROGRAMMING}), security=3)},
        rules=(Rule(0x13, "the length is not 2", "", lambda call: len(call.pdu) != 2),),
    )
    for session, unlocked, sub, nrc in (
        (EXTENDED, None, 1, None),
        (EXTENDED, None, 3, 0x12),
        (EXTENDED, None, 2, 0x7E),
        (PROGRAMMING, None, 2, 0x33),
        (PROGRAMMING, 1, 2, 0x33),
        (PROGRAMMING, 3, 2, None),
    ):
        state = Situation(session, unlocked).state(ecu)
        assert first_refusal(Call(state, {0x31: service}, bytes((0x31, sub)))) == nrc
    locked = replace(service, outside_default=True)
    closed = ecu.model_copy(update={"services": {0x31: Access(security=1)}})
    for situation, nrc in ((Situation(), 0x7F), (LOCKED, 0x33), (UNLOCKED, 0x13)):
        assert first_refusal(Call(situation.state(closed), {0x31: locked}, b"\x31")) == nrc


def test_every_row_says_when_and_where_from() -> None:
    for service in SERVICES.values():
        for rule in rows(service):
            assert rule.when
            assert rule.source.startswith(("ISO 14229-1", "chosen: "))
