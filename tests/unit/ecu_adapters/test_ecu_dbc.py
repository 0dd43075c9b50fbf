"""CAN databases: partial encoding, pages, names, and errors that say what would be right."""

from pathlib import Path

import can
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecu_adapters.dbc import Database, DatabaseError, SignalValue

DBC = Path(__file__).parents[3] / "dbc"
POWERTRAIN = Database.load(DBC / "powertrain.dbc")
CHASSIS = Database.load(DBC / "chassis_fd.dbc")

HEAD = 'VERSION ""\nNS_ :\nBS_:\nBU_: A\n'


def test_signals_left_out_take_the_initial_value_or_zero() -> None:
    frame = POWERTRAIN.encode("EngineStatus", {"EngineSpeed": 1500})
    assert (frame.arbitration_id, frame.is_extended_id, frame.is_fd) == (0x200, False, False)
    assert POWERTRAIN.decode(frame) == (
        "EngineStatus",
        {"EngineSpeed": 1500.0, "CoolantTemp": 20, "EngineState": "Off", "CheckEngineLamp": 0, "EngineTorque": 0.0},
    )
    assert POWERTRAIN.decode(POWERTRAIN.encode("EngineControl", {})) == (
        "EngineControl",
        {"TargetSpeed": 800.0, "FanRequest": "Off", "TorqueLimit": 0.0, "Alive": 0, "CRC": 0},
    )


def test_values_go_by_name_number_and_truth() -> None:
    frame = POWERTRAIN.encode("EngineStatus", {"EngineState": "Running", "CheckEngineLamp": True})
    decoded = POWERTRAIN.decode(frame)
    assert decoded is not None
    assert (decoded[1]["EngineState"], decoded[1]["CheckEngineLamp"]) == ("Running", 1)
    assert POWERTRAIN.encode("EngineStatus", {"EngineState": 2}).data[3] == 2


@pytest.mark.parametrize(
    ("signals", "decoded"),
    [
        ({}, {"InfoPage": "Oil", "OilTemp": 0, "OilPressure": 0.0}),
        ({"FuelLevel": 50}, {"InfoPage": "Fuel", "FuelLevel": 50.0, "FuelRate": 0.0}),
        ({"InfoPage": "Fuel"}, {"InfoPage": "Fuel", "FuelLevel": 0.0, "FuelRate": 0.0}),
        ({"InfoPage": 1, "OilTemp": 95}, {"InfoPage": "Oil", "OilTemp": 95, "OilPressure": 0.0}),
    ],
)
def test_a_signal_selects_its_page(signals: dict[str, SignalValue], decoded: dict[str, SignalValue]) -> None:
    assert POWERTRAIN.decode(POWERTRAIN.encode("EngineInfo", signals)) == ("EngineInfo", decoded)


def test_29_bit_and_fd_messages() -> None:
    hours = POWERTRAIN.encode("EngineHours", {"TotalHours": 12})
    assert (hours.arbitration_id, hours.is_extended_id) == (0x18FEF100, True)
    assert POWERTRAIN.can_id("EngineHours") == 0x98FEF100
    assert POWERTRAIN.decode(hours) == ("EngineHours", {"TotalHours": 12.0})
    wheels = CHASSIS.encode("WheelSpeeds", {"FrontLeft": 88.5, "YawRate": -1.25})
    assert (wheels.is_fd, len(wheels.data)) == (True, 24)
    decoded = CHASSIS.decode(wheels)
    assert decoded is not None
    assert (decoded[1]["FrontLeft"], decoded[1]["YawRate"]) == (88.5, -1.25)
    assert not CHASSIS.encode("BrakeRequest", {}).is_fd


def test_cycle_times_come_from_the_database() -> None:
    assert (POWERTRAIN.cycle_ms("EngineStatus"), POWERTRAIN.cycle_ms("EngineControl")) == (20, None)


@pytest.mark.parametrize(
    ("message", "signals", "error"),
    [
        ("EngineStatsu", {}, r"unknown message 'EngineStatsu'; did you mean EngineStatus"),
        ("EngineControl", {"TargetSped": 1}, r"no signal 'TargetSped'; did you mean TargetSpeed\?"),
        ("EngineControl", {"TargetSpeed": 8001}, r"EngineControl\.TargetSpeed = 8001 is out of range 0 \.\. 8000 rpm"),
        ("EngineControl", {"TorqueLimit": -500.5}, r"TorqueLimit = -500\.5 is out of range -500 \.\. 500 Nm"),
        ("EngineControl", {"TargetSpeed": float("nan")}, "expected a number"),
        ("EngineControl", {"TargetSpeed": "fast"}, "has no value table"),
        ("EngineStatus", {"EngineState": "Runing"}, "did you mean Running"),
        ("EngineInfo", {"InfoPage": "Oil", "FuelLevel": 1}, "not on the page that InfoPage = 1 selects"),
        ("EngineInfo", {"OilTemp": 1, "FuelLevel": 1}, "not on the page"),
    ],
)
def test_what_cannot_be_encoded_says_why(message: str, signals: dict[str, SignalValue], error: str) -> None:
    with pytest.raises(DatabaseError, match=error):
        POWERTRAIN.encode(message, signals)


@given(st.floats(0, 8000), st.integers(-40, 215), st.sampled_from(["Off", "Cranking", "Running", "Stalled", "Invalid"]))
def test_what_is_encoded_is_decoded(speed: float, temperature: int, state: str) -> None:
    sent: dict[str, SignalValue] = {"EngineSpeed": speed, "CoolantTemp": temperature, "EngineState": state}
    decoded = POWERTRAIN.decode(POWERTRAIN.encode("EngineStatus", sent))
    assert decoded is not None
    assert decoded[1]["EngineSpeed"] == pytest.approx(speed, abs=0.125)
    assert (decoded[1]["CoolantTemp"], decoded[1]["EngineState"]) == (temperature, state)


def test_frames_that_no_message_describes_are_none() -> None:
    assert POWERTRAIN.decode(can.Message(arbitration_id=0x7FF, is_extended_id=False)) is None
    assert POWERTRAIN.decode(can.Message(arbitration_id=0x200, is_extended_id=True, data=bytes(8))) is None
    assert POWERTRAIN.decode(can.Message(arbitration_id=0x200, is_extended_id=False, is_remote_frame=True)) is None


def test_short_frames_bring_the_signals_that_they_have() -> None:
    frame = can.Message(arbitration_id=0x200, is_extended_id=False, data=b"\x70\x17\x50")
    assert POWERTRAIN.decode(frame) == ("EngineStatus", {"EngineSpeed": 1500.0, "CoolantTemp": 40})


def test_an_unknown_page_brings_no_signals() -> None:
    frame = can.Message(arbitration_id=0x210, is_extended_id=False, data=b"\x0f" + bytes(7))
    assert POWERTRAIN.decode(frame) == ("EngineInfo", {})


def test_extended_multiplexing_sets_the_whole_chain(tmp_path: Path) -> None:
    path = tmp_path / "chain.dbc"
    path.write_text(
        HEAD
        + "BO_ 1 M: 8 A\n"
        + ' SG_ Top M : 0|4@1+ (1,0) [0|15] "" A\n'
        + ' SG_ Sub m2M : 8|4@1+ (1,0) [0|15] "" A\n'
        + ' SG_ Deep m3 : 16|8@1+ (1,0) [0|255] "" A\n'
        + ' SG_ Other m1 : 16|8@1+ (1,0) [0|255] "" A\n'
        + "SG_MUL_VAL_ 1 Sub Top 2-2;\nSG_MUL_VAL_ 1 Deep Sub 3-3;\nSG_MUL_VAL_ 1 Other Top 1-1;\n"
    )
    database = Database.load(path)
    assert database.decode(database.encode("M", {"Deep": 7})) == ("M", {"Top": 2, "Sub": 3, "Deep": 7})
    assert database.decode(database.encode("M", {"Other": 7})) == ("M", {"Top": 1, "Other": 7})


def test_a_signal_that_cannot_be_zero_starts_at_its_nearest_bound(tmp_path: Path) -> None:
    path = tmp_path / "bounds.dbc"
    path.write_text(HEAD + 'BO_ 1 M: 2 A\n SG_ S : 0|8@1+ (1,0) [5|9] "" A\n SG_ T : 8|8@1- (1,0) [-9|-5] "" A\n')
    database = Database.load(path)
    assert database.decode(database.encode("M", {})) == ("M", {"S": 5, "T": -5})


def test_databases_that_do_not_load_name_file_and_reason(tmp_path: Path) -> None:
    with pytest.raises(DatabaseError, match=r"absent\.dbc: cannot be read: No such file"):
        Database.load(tmp_path / "absent.dbc")
    broken = tmp_path / "broken.dbc"
    broken.write_text(HEAD + "BO_ 1 M: 8 A\n SG_ S : 0|8@1+ (1,\n\nBO_ 2 N: 8 A\n")
    with pytest.raises(DatabaseError, match=r"broken\.dbc: does not load: .*line"):
        Database.load(broken)
    other = tmp_path / "notes.txt"
    other.write_text("no database")
    with pytest.raises(DatabaseError, match=r"notes\.txt: does not load"):
        Database.load(other)


def test_overlapping_signals_load_when_told_to(tmp_path: Path) -> None:
    path = tmp_path / "overlap.dbc"
    path.write_text(HEAD + 'BO_ 1 M: 1 A\n SG_ S : 0|8@1+ (1,0) [0|255] "" A\n SG_ T : 4|4@1+ (1,0) [0|15] "" A\n')
    with pytest.raises(DatabaseError, match="overlap"):
        Database.load(path)
    assert set(Database.load(path, strict=False).messages) == {"M"}


def test_a_message_longer_than_any_frame_says_so(tmp_path: Path) -> None:
    path = tmp_path / "j1939.dbc"
    path.write_text(HEAD + 'BO_ 2566844926 VI: 200 A\n SG_ S : 0|8@1+ (1,0) [0|255] "" A\n')
    with pytest.raises(DatabaseError, match="VI has 200 bytes; the longest CAN frame takes 64"):
        Database.load(path).encode("VI", {})
