"""Parameter groups of a CAN database, by PGN."""

from pathlib import Path

import pytest

from ecu_adapters.dbc import Database, DatabaseError
from ecu_adapters.j1939.signals import ParameterGroups

ROOT = Path(__file__).parents[3]
TWO_SOURCES = """VERSION ""
BU_: A
BO_ 2566849534 Any: 8 A
 SG_ Value : 0|8@1+ (1,0) [0|250] "" A
 SG_ Signed : 8|8@1- (1,0) [-128|127] "" A
 SG_ Bit : 16|1@1+ (1,0) [0|1] "" A
BO_ 2566849283 OfThree: 8 A
 SG_ Other : 0|8@1+ (1,0) [0|250] "" A
BO_ 256 Short: 8 A
"""


@pytest.fixture(scope="module")
def truck() -> ParameterGroups:
    return ParameterGroups(Database.load(ROOT / "dbc/truck.dbc"))


def test_a_message_is_found_whatever_its_source_and_priority(truck: ParameterGroups) -> None:
    assert (truck.pgn("EEC1"), truck.priority("EEC1")) == (0xF004, 3)
    data = truck.encode("EEC1", {"EngineSpeed": 1500})
    assert data.hex() == "ffffffe02effffff"  # what is not given is not available
    for source in (0x00, 0x21, 0xFE):
        decoded = truck.decode(0xF004, source, data)
        assert decoded is not None
        assert decoded[0] == "EEC1"
        assert decoded[1]["EngineSpeed"] == 1500
        assert decoded[1]["ActualEngineTorque"] is None


def test_names_of_values_and_data_that_is_short(truck: ParameterGroups) -> None:
    decoded = truck.decode(0xFECA, 0x03, bytes.fromhex("04FF5B000301"))
    assert decoded is not None
    name, signals = decoded
    assert (name, signals["AmberWarningLamp"], signals["SPN"], signals["FMI"]) == ("DM1", "On", 91, 3)
    assert truck.decode(0xFECA, 0x03, b"\x04") == ("DM1", {
        "ProtectLamp": "Off", "AmberWarningLamp": "On", "RedStopLamp": "Off", "MalfunctionLamp": "Off",
    })  # fmt: skip
    assert truck.decode(0xFEEB, 0x03, b"1") is None


def test_messages_longer_than_a_frame(truck: ParameterGroups) -> None:
    data = truck.encode("SOFT", {"Fields": 3, "Build": 70000})
    assert len(data) == 40
    decoded = truck.decode(truck.pgn("SOFT"), 0, data)
    assert decoded == ("SOFT", {"Fields": 3, "Build": 70000})


def test_the_message_of_the_same_source_wins_and_254_stands_for_any(tmp_path: Path) -> None:
    path = tmp_path / "two.dbc"
    path.write_text(TWO_SOURCES)
    groups = ParameterGroups(Database.load(path))
    found = {source: groups.decode(0xFF03, source, b"\x05") for source in (0x03, 0x07)}
    assert found == {0x03: ("OfThree", {"Other": 5}), 0x07: ("Any", {"Value": 5})}
    assert groups.encode("Any", {}).hex() == "ff00feffffffffff"
    assert groups.decode(0xFF03, 0x07, b"\xff\xff\x01") == ("Any", {"Value": None, "Signed": -1, "Bit": 1})


@pytest.mark.parametrize(
    ("name", "signals", "reason"),
    [
        ("EEC2", {}, "unknown message 'EEC2'; .*EEC1"),
        ("EEC1", {"EngineSped": 1}, "EEC1 has no signal 'EngineSped'; .*EngineSpeed"),
        ("EEC1", {"EngineSpeed": 9000}, r"EEC1.EngineSpeed = 9000 is out of range 0 \.\. 8031.88 rpm"),
        ("DM1", {"RedStopLamp": "Onn"}, "DM1.RedStopLamp has no value 'Onn'; .*On"),
    ],
)
def test_what_cannot_be_encoded_is_named(
    truck: ParameterGroups, name: str, signals: dict[str, float | str], reason: str
) -> None:
    with pytest.raises(DatabaseError, match=reason):
        truck.encode(name, signals)


def test_eleven_bits_are_no_parameter_group(tmp_path: Path) -> None:
    path = tmp_path / "two.dbc"
    path.write_text(TWO_SOURCES)
    with pytest.raises(DatabaseError, match="Short has the 11-bit ID 0x100; parameter groups have 29 bits"):
        ParameterGroups(Database.load(path)).encode("Short", {})
