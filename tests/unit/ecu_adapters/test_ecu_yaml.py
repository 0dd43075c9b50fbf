"""Configuration files: what is wrong is said all at once, with file, line and field."""

from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict

from ecu_adapters.description import load_ecu
from ecu_adapters.yaml_file import ConfigError, YamlFile, load

REPOSITORY = Path(__file__).parents[3]
Write = Callable[[str], Path]

GOOD = """\
name: ECM
addressing: {request_id: 0x7E0, response_id: 0x7E8}
"""


class _Small(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str
    count: int = 0


def _mistakes(path: Path) -> list[tuple[int, str, str]]:
    with pytest.raises(ConfigError) as caught:
        load_ecu(path)
    assert all(mistake.file == str(path) for mistake in caught.value.mistakes)
    return [(mistake.line, mistake.field, mistake.message) for mistake in caught.value.mistakes]


@pytest.mark.parametrize("name", ["ecm", "bcm"])
def test_demo_descriptions_load(name: str) -> None:
    ecu = load_ecu(REPOSITORY / "deploy" / "demo" / f"{name}.yaml")
    assert ecu.name == name.upper()
    assert ecu.dids["VIN"].value == "WVWZZZ1KZ6W000001"


def test_all_mistakes_are_reported_at_once_each_with_its_line(write: Write) -> None:
    path = write(
        """\
name: ECM
addressing: {request_id: 0x7E0, response_id: 0x7E8}
timing: {p2_ms: 0}
dids:
  VIN: {did: 0xF190, type: ascii, length: 3,
        value: LONG}
  Speed: {did: 0x10000, type: uint, lenght: 2}
  Odd: {did: 1, type: hx}
dtcs:
  - {code: P0301}
  - {code: Q0301}
security: {1: {algorithm: xr, key: A5}}
tming: {}
"""
    )
    found = _mistakes(path)
    assert [(line, field) for line, field, _ in found] == [
        (3, "timing.p2_ms"),
        (6, "dids.VIN.value"),
        (7, "dids.Speed.did"),
        (7, "dids.Speed.length"),
        (7, "dids.Speed.lenght"),
        (8, "dids.Odd"),
        (11, "dtcs.1.code"),
        (12, "security.1.algorithm"),
        (13, "tming"),
    ]
    texts = {field: message for _, field, message in found}
    assert "at most 3 fit" in texts["dids.VIN.value"]
    assert texts["dids.Speed.length"] == "is missing"
    assert texts["dids.Speed.lenght"] == "unknown field; did you mean length?"
    assert "one of 'ascii', 'hex', 'uint', 'int'" in texts["dids.Odd"]
    assert "did you mean xor" in texts["security.1.algorithm"]
    assert "did you mean timing" in texts["tming"]


@pytest.mark.parametrize(
    ("addition", "field", "message"),
    [
        (
            "dids: {A: {did: 1, type: hex, length: 1}, B: {did: 1, type: hex, length: 1}}",
            "dids.B.did",
            "identifier of A",
        ),
        (
            "dids: {A: {did: 1, type: hex, length: 1, write: {security: 3}}}",
            "dids.A.write.security",
            "level 3 is not described",
        ),
        (
            "dids: {A: {did: 1, type: hex, length: 1, write: {session: [extnded]}}}",
            "dids.A.write.session.0",
            "did you mean extended",
        ),
        ("dtcs: [{code: P0301}, {code: p0301-00}]", "dtcs.1.code", "given twice"),
        ("security: {2: {algorithm: xor, key: A5}}", "security.2", "odd number"),
        ("security: {1: {algorithm: aes-cmac, key: A5A5}}", "security.1.key", "16, 24 or 32 bytes"),
        ("security: {1: {algorithm: xor, key: XY}}", "security.1.key", "hex digits"),
        ("sessions: {default: 1, mine: 0x7F}", "sessions.mine", "out of range"),
        ("sessions: {extended: 3}", "sessions", "must have default: 1"),
        ("session_entry: {programing: [default]}", "session_entry.programing", "did you mean programming"),
        ("timing: {s3_client_ms: 5000}", "timing.s3_client_ms", "no keep-alive"),
        ("timing: {p2_star_ms: 5005}", "timing.p2_star_ms", "multiple of 10"),
        ("isotp: {stmin_ms: 1.5}", "isotp.stmin_ms", "whole milliseconds"),
        ("isotp: {frame_length: 10}", "isotp.frame_length", "one of 8, 12"),
        ("cyclic: [{message: A}, {message: A}]", "cyclic.1.message", "given twice"),
        ("periodic: {response_id: 0x7E8}", "periodic.response_id", "0x7E8 is addressing.response_id too"),
        ("simulation: {service_delay_ms: {0x14: -1}}", "simulation.service_delay_ms", "0x14"),
        ("dids: {A: {did: 1, type: uint, length: 1, min: 5, max: 2}}", "dids.A.min", "above max"),
        ("dids: {A: {did: 1, type: uint, length: 1, value: 256}}", "dids.A.value", "out of range 0 .. 255"),
        ("dids: {A: {did: 1, type: uint, length: 1, choices: {300: X}}}", "dids.A.choices.300", "does not fit"),
        ("dids: {A: {did: 1, type: uint, length: 1, scale: 0}}", "dids.A.scale", "must not be 0"),
        ("dids: {A: {did: 1, type: hex, length: 2, value: ABC}}", "dids.A.value", "hex digits in pairs"),
        ("dids: {A: {did: 1, type: ascii, length: 2, value: 12}}", "dids.A.value", "string"),
    ],
)
def test_fields_are_checked_against_each_other(write: Write, addition: str, field: str, message: str) -> None:
    ((line, found, text),) = _mistakes(write(GOOD + addition + "\n"))
    assert (line, found) == (3, field)
    assert message in text


@pytest.mark.parametrize(
    ("addressing", "field", "message"),
    [
        ("{request_id: 0x800, response_id: 1}", "addressing.request_id", "set extended: true"),
        ("{request_id: 0x20000000, response_id: 1, extended: true}", "addressing.request_id", "above 0x1FFFFFFF"),
        ("{request_id: 1, response_id: 1}", "addressing.response_id", "is the request_id too"),
        ("{response_id: 1}", "addressing.request_id", "is missing"),
    ],
)
def test_addresses_that_cannot_be(write: Write, addressing: str, field: str, message: str) -> None:
    ((line, found, text),) = _mistakes(write(f"name: ECM\naddressing: {addressing}\n"))
    assert (line, found) == (2, field)
    assert message in text


def test_files_that_are_no_yaml(write: Write, tmp_path: Path) -> None:
    assert _mistakes(tmp_path / "absent.yaml")[0] == (0, "", "cannot be read: No such file or directory")
    assert _mistakes(write("name: [1\nother: 2\n"))[0][0] == 2
    assert "a str" in _mistakes(write("text"))[0][2]
    assert "the file is empty" in _mistakes(write(""))[0][2]
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"name: A\n\xff\xfe")
    assert _mistakes(binary) == [(2, "", "not UTF-8 text")]
    assert "not YAML" in _mistakes(write("a: !!int abc\n"))[0][2]
    assert "not YAML" in _mistakes(write("a: !!python/object:os.system {}\n"))[0][2]


def test_a_repeated_key_is_a_mistake_and_not_silently_lost(write: Write) -> None:
    assert _mistakes(write(GOOD + "name: BCM\n")) == [(3, "name", "given twice, first in line 1")]


def test_aliases_cannot_blow_up_the_file(write: Write) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    assert "aliases expanded" in _mistakes(write("\n".join(lines)))[0][2]
    assert "aliases expanded" in _mistakes(write("a: &a [*a]\n"))[0][2]


def test_scalars_are_those_of_yaml_1_2(write: Write) -> None:
    data = YamlFile(
        write("on: On\nno: no\ncode: 0042\nday: 2026-01-31\nhex: 0x7E0\nnumber: 1e3\nyes: true\nnil: ~\n")
    ).data
    assert data == {
        "on": "On",
        "no": "no",
        "code": "0042",
        "day": "2026-01-31",
        "hex": 0x7E0,
        "number": 1000.0,
        "yes": True,
        "nil": None,
    }


def test_other_models_load_the_same_way(write: Write) -> None:
    assert load(write("name: x\n"), _Small) == _Small(name="x")
    file = YamlFile(write("name: x\ncount: 1\n"))
    assert str(file.mistake(("count",), "no such count")) == f"{file.path}:2: count: no such count"
    with pytest.raises(ConfigError, match="count: input should be a valid integer"):
        load(write("name: x\ncount: many\n"), _Small)


@pytest.mark.parametrize(
    "text",
    ['a: !!int ""', 'a: !!float ""', "a: !!bool maybe", "a: !!timestamp soon", "a: \0", "[" * 3000, "{a: " * 3000],
)
def test_what_trips_the_yaml_library_is_a_mistake_of_the_file(write: Write, text: str) -> None:
    assert len(_mistakes(write(text))) == 1
