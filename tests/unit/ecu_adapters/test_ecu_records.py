"""Structures of several fields, and the routines and trouble codes of a description that are made of them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from ecu_adapters import records
from ecu_adapters.description import load_ecu
from ecu_adapters.records import Fields, Part
from ecu_adapters.yaml_file import ConfigError

Write = Callable[[str], Path]

_ADAPTER: TypeAdapter[list[Part]] = TypeAdapter(Fields)

STATE = [
    {"name": "Speed", "type": "uint", "length": 2, "scale": 0.25, "unit": "rpm"},
    {"name": "Mode", "type": "bits", "length": 3, "choices": {0: "Off", 5: "Run"}},
    {"type": "reserved", "length": 4},
    {"name": "Fault", "type": "bits", "length": 1},
    {"name": "Code", "type": "hex", "length": 2, "value": "CAFE"},
    {"name": "Level", "type": "float", "length": 4, "unit": "l", "byte_order": "little"},
]
HEAD = "name: ECM\naddressing: {request_id: 0x7E0, response_id: 0x7E8}\n"


def _fields(parts: list[dict[str, Any]]) -> list[Part]:
    return _ADAPTER.validate_python(parts)


def test_a_structure_and_its_bytes() -> None:
    fields = _fields(STATE)
    values = {"Speed": 812.5, "Mode": "Run", "Fault": 1, "Level": 1.5}
    data = records.encode(fields, values)
    assert data.hex(" ") == "0c b2 a1 ca fe 00 00 c0 3f"
    assert records.decode(fields, data) == {**values, "Code": b"\xca\xfe"}
    assert records.length(fields) == len(data) == 9
    assert records.units(fields) == {"Speed": "rpm", "Level": "l"}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"Sped": 1}, "unknown field 'Sped'; did you mean Speed"),
        ({"Mode": "Off", "Fault": 0, "Level": 0}, "the field Speed is missing"),
        ({"Speed": 1, "Mode": "Rum", "Fault": 0, "Level": 0}, "Mode: 'Rum' is no number and no name of a choice"),
        ({"Speed": 1, "Mode": 0, "Fault": 2, "Level": 0}, "Fault: 2 is out of range 0 .. 1"),
        ({"Speed": 1, "Mode": 0, "Fault": 0, "Level": 1e300}, "Level: 1e.300 is out of range"),
    ],
)
def test_values_that_do_not_fit_a_structure(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        records.encode(_fields(STATE), values)


@given(st.binary(min_size=3, max_size=3))
def test_every_bit_pattern_survives_decoding_and_encoding(data: bytes) -> None:
    fields = _fields(
        [
            {"name": "A", "type": "bits", "length": 5},
            {"name": "B", "type": "bits", "length": 11},
            {"name": "C", "type": "int", "length": 1},
        ]
    )
    assert records.encode(fields, records.decode(fields, data)) == data


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([{"name": "A", "type": "bits", "length": 3}], "the fields end at bit 3 of a byte"),
        (
            [{"name": "A", "type": "bits", "length": 3}, {"name": "B", "type": "uint", "length": 1}],
            "starts at bit 3 of a byte; fill up",
        ),
        ([{"name": "A", "type": "uint", "length": 1}] * 2, "A is given twice"),
        ([{"name": "A", "type": "bits", "length": 8, "value": 256}], "256 is out of range"),
    ],
)
def test_structures_that_do_not_add_up(parts: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        _fields(parts)


def test_a_description_with_structures_routines_and_trouble_codes(write: Write) -> None:
    ecu = load_ecu(
        write(
            HEAD
            + """
dids:
  State: {did: 0x0210, type: struct, fields: [{name: Speed, type: uint, length: 2}, {name: Ratio, type: float}]}
dtcs:
  - {code: P0301, text: cylinder 1 misfires, severity: check_immediately, functional_unit: 0x10, snapshot: [State]}
extended_data: {0x01: [{name: Occurrences, type: uint, length: 1}]}
routines:
  EraseMemory:
    id: 0xFF00
    access: {session: [programming]}
    start:
      options: [{name: address, type: uint, length: 4}, {name: size, type: uint, length: 4}]
      status: [{name: result, type: uint, length: 1, choices: {0: done}}]
"""
        )
    )
    assert ecu.dids["State"].value == {"Speed": 0, "Ratio": 0.0}
    assert ecu.dids["State"].length == 6
    dtc = ecu.dtc_by_number(0x030100)
    assert dtc is not None
    assert (dtc.severity_byte, dtc.text) == (0x80, "cylinder 1 misfires")
    found = ecu.routine_by_number(0xFF00)
    assert found is not None
    assert (found[0], found[1].stop, found[1].results) == ("EraseMemory", None, None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "dtcs: [{code: P0301, snapshot: [Sped]}]\ndids: {Speed: {did: 1, type: uint, length: 1}}",
            "did you mean Speed",
        ),
        ("extended_data: {0xF0: []}", "0xF0 is no record number: 0x01 .. 0xEF"),
        ("routines: {A: {id: 1}, B: {id: 1}}", "0x0001 is the identifier of A too"),
        ("routines: {A: {id: 1, start: null}}", "the routine has no sub-function at all"),
        ("routines: {A: {id: 1, access: {session: [extendet]}}}", "did you mean extended"),
        ("security: {1: {algorithm: xor, key: A5A5A5GG}}", "expected hex digits in pairs"),
    ],
)
def test_mistakes_in_it_are_named_with_their_line(write: Write, text: str, message: str) -> None:
    path = write(HEAD + text)
    with pytest.raises(ConfigError, match=message) as caught:
        load_ecu(path)
    assert f"{path}:3: " in str(caught.value)
    assert "A5A5A5GG" not in str(caught.value)
