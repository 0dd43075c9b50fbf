"""The order of negative responses: an exhaustive walk of the tables against an oracle written from the standard.

Every service, in every session, locked, unlocked and authenticated, with every sub-function and length, and with
parameters at and beyond their bounds.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from ecu_adapters.description import EcuDescription, load_ecu
from ecu_adapters.simulator import UdsServer, VirtualClock
from ecu_adapters.simulator.rules import Call, Rule, Service, SubFunction, first_refusal, rows
from ecu_adapters.simulator.services import SERVICES, services_of
from tests.unit.ecu_adapters.full_ecu import FULL, Situation
from tests.unit.ecu_adapters.oracle import (
    DEFAULT,
    EXTENDED,
    LENGTH,
    OTHERS,
    PROGRAMMING,
    WITH_SUBFUNCTION,
    oracle,
)


@pytest.fixture
def full(write: Callable[[str], Path]) -> EcuDescription:
    return load_ecu(write(FULL))


BASIC = [
    Situation(session, unlocked, authenticated)
    for session, unlocked, authenticated in product((DEFAULT, PROGRAMMING, EXTENDED), (None, 1, 3), (False, True))
    # In the default session nothing is unlocked.
    if session != DEFAULT or unlocked is None
]

VARIATIONS: dict[int, list[dict[str, Any]]] = {
    0x22: [{"dynamic": True}],
    0x24: [{"dynamic": True}],
    0x27: [{"seed": 1}, {"seed": 3}, {"locked_out": True}],
    0x29: [{"challenge": True}],
    0x2A: [{"periodic": True}],
    0x2C: [{"dynamic": True}],
    0x31: [{"routine": "running"}, {"routine": "over"}, {"downloaded": True}],
    0x34: [{"transfer": "begun"}],
    0x35: [{"transfer": "upload"}],
    0x36: [
        *({"transfer": name} for name in ("fresh", "begun", "done", "upload", "uploaded")),
        *({"transfer": "begun", "supply_v": volts} for volts in (8.9, 9.0, 16.0, 16.1)),
    ],
    0x37: [{"transfer": name} for name in ("fresh", "begun", "done", "upload", "uploaded")],
    0x38: [{"transfer": "fresh"}],
    0x86: [{"events": 1}, {"events": 16}],
    0x87: [{"verified": True}],
}
"""What else the answer depends on, beside session and security."""


def situations(sid: int) -> Iterator[Situation]:
    for basic in BASIC:
        yield basic
        for variation in VARIATIONS.get(sid, []):
            varied = replace(basic, **variation)
            # A level has no seed out while it is unlocked, and none is given in the default session.
            if varied.seed is None or (varied.seed != varied.unlocked and varied.session != DEFAULT):
                yield varied


def _hex(*texts: str) -> tuple[bytes, ...]:
    return tuple(bytes.fromhex(text) for text in texts)


DIDS = _hex(*LENGTH, "F300", "F301", "FFFF")
FORMATS = _hex("44", "22", "14", "00", "66")
SHORT_PLACES = _hex(
    "1000 0010", "1000 0011", "0FFF 0002", "2000 0004", "2000 0000", "20F0 0010", "20F0 0011",
    "3000 0001", "4000 0004", "4000 04AF", "4000 04B0", "6000 0004", "FFFF FFFF",
)  # fmt: skip
PLACES = SHORT_PLACES + _hex("00001000 00000010", "00002000 00000004", "00006000 00000001", "FFFFFFFF FFFFFFFF")
PARAMETERS: dict[int, tuple[bytes, ...]] = {
    0x14: _hex("FFFFFF", "030100", "C10000", "042000", "000000", "FFFF", "FF", "030101", "FFFFFF00", "FFFFFF0000"),
    0x23: (*(f + p for f in FORMATS for p in PLACES), *_hex("44 00", "22 10 00")),
    0x24: DIDS,
    0x2A: tuple(
        bytes((mode, *identifiers))
        for mode in (0, 1, 2, 3, 4, 5)
        for identifiers in ((), (1,), (2,), (1, 2), (1, 0x33), (0x33,), (1, 1), (1, 2, 2))
    ),
    0x2E: tuple(
        did + data
        for did in DIDS
        for data in (*_hex("", "00", "0258", "0257", "04B0", "04B1"), b"abcdef", b"abcde\xff", b"abcdefg")
    ),
    0x2F: tuple(
        did + bytes((parameter,)) + data
        for did in DIDS
        for parameter in (0, 1, 2, 3, 4, 0xFF)
        for data in _hex("", "00", "64", "65", "21", "30", "2180", "3080", "000000")
    ),
    0x31: tuple(
        bytes((sub,)) + routine + option
        for sub in (0, 1, 2, 3, 4, 0x7F, 0x81, 0x82, 0x83)
        for routine in _hex("FF00", "0202", "0300", "FF01")
        for option in (*_hex("", "03", "04", "000000", "0000000000"), *SHORT_PLACES)
    ),
    0x34: (
        *(d + f + p for d in _hex("00", "11") for f in FORMATS for p in PLACES),
        *_hex("00 44", "00 44 00", "00 22 10"),
    ),
    0x36: tuple(
        bytes((counter,)) + bytes(length) for counter in (0, 1, 2, 4, 5, 0xFF) for length in (0, 1, 8, 16, 17, 24, 25)
    ),
    0x37: _hex("", "00", "00 00 00 00"),
    0x38: tuple(
        bytes((mode,)) + path + rest
        for mode in (0, 1, 2, 3, 4, 5, 6)
        for path in (b"\0\x07log.txt", b"\0\x07new.txt", b"\0\x01/", b"\0\x09log", b"\0\0log")
        for rest in _hex(
            "", "00", "11", "00 01 64 64", "00 01 65 65", "00 01 61 62", "00 02 0001 0001", "00 00",
            "11 01 01 01", "00 01 62 62", "00 01 01",
        )
    ),
    0x3D: tuple(f + p + d for f in FORMATS for p in PLACES for d in (b"", b"\1", b"\1" * 4, b"\1" * 16)),
}  # fmt: skip
PARAMETERS[0x35] = PARAMETERS[0x34]
EXTRA: dict[int, tuple[bytes, ...]] = {
    0x19: (
        *(
            bytes((sub, *code, record))
            for sub in (4, 6)
            for code in _hex("030100", "C10000", "030101")
            for record in (0, 1, 2, 3, 0xFE, 0xFF)
        ),
        *_hex("09 030100", "09 030101", "42 33 FF FF", "42 FF FF FF", "55 33", "55 FF", "D5 33"),
        *_hex("16 01", "16 02", "16 FF"),
    ),
    0x28: tuple(bytes((sub, kind)) for sub in (0, 1, 2, 3, 0x80, 0x83) for kind in range(0x100)),
    0x29: (
        b"\x05" + bytes(17),
        b"\x05\x01" + bytes(16),
        b"\x05" + bytes(16) + b"\x01",
        b"\x06" + bytes(16) + b"\0\x02ab\0\0\0\0",
        b"\x06" + bytes(16) + b"\0\x02ab\0\x01c\0\0",
        b"\x06" + bytes(15) + b"\x01" + b"\0\x02ab\0\0\0\0",
        b"\x06" + bytes(16) + b"\0\x03ab\0\0\0\0",
        b"\x06" + bytes(16) + b"\0\x02ab\0\0\0",
    ),
    0x2C: (
        *(
            b"\x01" + target + source
            for target in _hex("F300", "F2FF", "F201", "F190", "F400")
            for source in _hex(
                "F190 01 11", "F190 01 12", "F190 00 01", "F190 02 00", "0300 01 01", "0301 01 01", "F300 01 01",
                "FFFF 01 01", "F190 01 01 0200 02 01", "F190 01 01 02", "F202 01 01",
            )
        ),
        *(b"\x02" + target + f + p for target in _hex("F300", "F190") for f in FORMATS for p in PLACES),
        *(b"\x02\xf3\x00\x22" + a + b for a in SHORT_PLACES for b in (*SHORT_PLACES, b"\0")),
        *_hex("03 F300", "03 F201", "03 0200", "03 F3", "83 F3FF"),
        *_hex("02 F300 22", "02 F300 22 4000 0FFF", "02 F300 22 4000 1000"),
    ),
    0x83: _hex("04 0032 01F4", "04 0031 01F4", "04 0032 01F3", "04 FFFF FFFF", "84 0032 01F4"),
    0x85: _hex("01 FFFFFF", "02 FFFFFF", "02 FFFFFE", "82 FFFFFF"),
    0x86: tuple(
        bytes((sub, window)) + rest
        for sub in (0, 1, 3, 4, 5, 6, 0x41, 0x81)
        for window in (1, 2, 3)
        for rest in _hex(
            "", "FF", "FF 19 02 FF", "FF 2E", "F190 22 F190", "0300 22 0300", "FFFF 22 F190", "F190 10 01",
        )
    ),
    0x87: _hex("01 12", "01 10", "01 99", "02 07A120", "02 0F4240", "02 000001", "03", "03 00", "81 13"),
}  # fmt: skip
"""Beside every sub-function with every length up to 18."""


def requests(sid: int) -> Iterator[bytes]:
    head = bytes((sid,))
    yield head
    if sid in WITH_SUBFUNCTION:
        for sub, extra in product(range(0x100), (0, 1, 2, 3, 4, 5, 6, 15, 16, 17)):
            yield head + bytes((sub,)) + bytes(extra)
        yield from (head + more for more in EXTRA.get(sid, ()))
    elif sid == 0x22:
        for count in (1, 2):
            for chosen in product(DIDS, repeat=count):
                yield head + b"".join(chosen)
                yield head + b"".join(chosen) + b"\x01"
        yield head + bytes.fromhex("0400 0400 0300")
    else:
        for parameters in PARAMETERS[sid]:
            yield head + parameters
            for length in range(len(parameters)):
                yield head + parameters[:length]
            yield head + parameters + b"\0"


@pytest.mark.parametrize("sid", sorted(SERVICES), ids=lambda sid: f"0x{sid:02X}")
def test_every_request_is_refused_as_the_standard_demands(full: EcuDescription, sid: int) -> None:
    services = services_of(full)
    asked = set(requests(sid))
    failing: set[Rule] = set()
    seen: set[int | None] = set()
    for situation in situations(sid):
        state = situation.state(full)
        for pdu in asked:
            call = Call(state, services, pdu)
            expected = oracle(pdu, situation)
            rule = next((rule for rule in rows(services[sid]) if rule.fails(call)), None)
            assert (rule.nrc if rule is not None else None) == expected, (pdu.hex(" "), situation)
            seen.add(expected)
            if rule is not None:
                failing.add(rule)
    assert None in seen
    # Access rows are there for descriptions that close what this one leaves open; the CRC has a test in test_ecu_flash.
    never = {rule.when for rule in services[sid].rules if rule.nrc in (0x33, 0x34)}
    never.add("the CRC is not that of the data")
    assert {rule.when for rule in services[sid].rules} - {rule.when for rule in failing} <= never


def test_every_service_of_the_standard_is_there_and_no_other(full: EcuDescription) -> None:
    known = services_of(full)
    assert set(known) == set(WITH_SUBFUNCTION) | OTHERS
    state = Situation().state(full)
    for sid in set(range(0x100)) - set(known):
        for pdu in (bytes((sid,)), bytes((sid, 0x01)), bytes((sid, 0xF1, 0x90))):
            assert first_refusal(Call(state, known, pdu)) == oracle(pdu, Situation()) == 0x11


PAIRS = [
    ("10", "7F1013"),
    ("10 05", "7F1012"),
    ("10 01 00", "7F1013"),
    ("3E 01", "7F3E12"),
    ("3E 00 00", "7F3E13"),
    ("BA", "7FBA11"),
    ("27 01", "7F277F"),
]


@pytest.mark.parametrize(("request_hex", "answer"), PAIRS)
def test_the_pairs_that_every_ecu_answers_alike(full: EcuDescription, request_hex: str, answer: str) -> None:
    said: list[bytes] = []
    UdsServer(full, VirtualClock(), said.append).receive(bytes.fromhex(request_hex))
    assert [pdu.hex().upper() for pdu in said] == [answer]


def test_an_ecu_lacks_what_its_description_denies(ecu: EcuDescription, full: EcuDescription) -> None:
    assert 0x34 not in services_of(ecu), "there is no memory"
    assert 0x28 not in services_of(full.model_copy(update={"services": {0x28: False}}))


def test_subfunctions_behind_session_security_and_authentication(ecu: EcuDescription) -> None:
    """No sub-function of this ECU is closed by itself, but those of others are: same table, another service."""
    service = Service(
        0x85,
        lambda _call: b"",
        subfunctions=lambda _state: {
            1: SubFunction(),
            2: SubFunction(frozenset({PROGRAMMING}), security=3, authentication=True),
        },
        rules=(Rule(0x13, "the length is not 2", "", lambda call: len(call.pdu) != 2),),
    )
    for situation, sub, nrc in (
        (Situation(EXTENDED), 1, None),
        (Situation(EXTENDED), 3, 0x12),
        (Situation(EXTENDED, 3, True), 2, 0x7E),
        (Situation(PROGRAMMING, 3), 2, 0x34),
        (Situation(PROGRAMMING, 1, True), 2, 0x33),
        (Situation(PROGRAMMING, 3, True), 2, None),
    ):
        assert first_refusal(Call(situation.state(ecu), {0x85: service}, bytes((0x85, sub)))) == nrc


def test_every_row_says_when_and_where_from() -> None:
    for service in SERVICES.values():
        for rule in rows(service):
            assert rule.when
            assert rule.source.startswith(("ISO 14229-1:", "chosen: "))
