"""Which messages a rest-bus sends, when, and which it leaves out."""

from pathlib import Path

import pytest

from ecu_adapters.cyclic.e2e import Checksum
from ecu_adapters.cyclic.payload import Counter
from ecu_adapters.cyclic.restbus import Behaviour, Plan, behaviour, plan
from ecu_adapters.dbc import Database, DatabaseError

DBC = Path(__file__).parents[3] / "dbc"
POWERTRAIN = Database.load(DBC / "powertrain.dbc")
CHASSIS = Database.load(DBC / "chassis_fd.dbc")


def planned(absent: tuple[str, ...] = (), database: Database = POWERTRAIN, *, fd: bool = False, **how: object) -> Plan:
    nodes = {name: f"{name} sends it" for name in absent}
    return plan(database, fd=fd, absent=nodes, **{"except_messages": {}, "protect": {}, **how})  # type: ignore[arg-type]


def names(made: Plan) -> list[str]:
    return [message.recipe.message for message in made.messages]


def test_every_message_but_those_of_a_node() -> None:
    made = planned(("ECM",))
    assert names(made) == ["EngineControl", "TransmissionStatus", "TurnSignals", "KeyPosition", "Odometer"]
    assert {(left.message, left.reason) for left in made.left_out} == {
        (name, "ECM sends it") for name in ("EngineStatus", "EngineInfo", "EngineHours")
    }
    assert names(planned(("ECM", "ICM", "Tester"))) == ["TransmissionStatus"]


def test_send_types_of_the_database() -> None:
    assert behaviour(POWERTRAIN, "EngineStatus") == Behaviour(0.02)
    assert behaviour(POWERTRAIN, "EngineInfo") == Behaviour(0.1)
    assert behaviour(POWERTRAIN, "EngineControl") == Behaviour(None, on_change=True)
    assert behaviour(POWERTRAIN, "KeyPosition") == Behaviour(None, on_change=True, gap_s=0.02)
    assert behaviour(POWERTRAIN, "Odometer") == Behaviour(0.5, on_change=True)
    turn = behaviour(POWERTRAIN, "TurnSignals")
    assert (turn.period_s, turn.if_active, turn.on_change) == (0.05, True, False)
    assert not turn.active({"Left": 0, "Right": 0})
    assert turn.active({"Left": 0, "Right": 1})


@pytest.mark.parametrize(
    ("send_type", "cycle_ms", "expected"),
    [
        ("Cyclic", 10, (0.01, False, False)),
        ("cyclicX", 10, (0.01, False, False)),
        ("spontaneous", 10, (None, True, False)),
        ("SpontanWithDelay", 0, (None, True, False)),
        ("OnWrite", 10, (None, True, False)),
        ("CyclicAndSpontanWithDelay", 10, (0.01, True, False)),
        ("CyclicIfActive", 10, (0.01, False, True)),
        ("CyclicIfActiveAndSpontanWD", 10, (0.01, True, True)),
        ("NoMsgSendType", 10, (0.01, False, False)),
        ("NoMsgSendType", 0, (None, True, False)),
        ("Event", 10, (None, True, False)),
    ],
)
def test_send_types_by_the_names_of_the_trade(
    tmp_path: Path, send_type: str, cycle_ms: int, expected: tuple[float | None, bool, bool]
) -> None:
    path = tmp_path / "m.dbc"
    path.write_text(
        'VERSION ""\nBU_: A\nBO_ 1 M: 8 A\n SG_ S : 0|8@1+ (1,0) [0|255] "" A\n'
        f'BA_DEF_ BO_ "GenMsgCycleTime" INT 0 60000;\nBA_DEF_ BO_ "GenMsgSendType" ENUM "Other","{send_type}";\n'
        'BA_DEF_DEF_ "GenMsgCycleTime" 0;\nBA_DEF_DEF_ "GenMsgSendType" "Other";\n'
        f'BA_ "GenMsgCycleTime" BO_ 1 {cycle_ms};\nBA_ "GenMsgSendType" BO_ 1 1;\n'
    )
    found = behaviour(Database.load(path), "M")
    assert (found.period_s, found.on_change, found.if_active) == expected


def test_initial_values_and_protection() -> None:
    protect = {"TransmissionStatus": (Counter("Alive"), Checksum("xor8", "CRC"))}
    made = planned(("ECM",), protect=protect)
    (transmission,) = (message for message in made.messages if message.recipe.message == "TransmissionStatus")
    frames = transmission.recipe.frames()
    assert len(frames) == 16
    decoded = POWERTRAIN.decode(frames[5])
    assert decoded is not None
    assert (decoded[1]["GearboxTemp"], decoded[1]["Gear"], decoded[1]["Alive"]) == (80, "Park", 5)


def test_a_multiplexed_message_sends_its_first_page_and_says_so() -> None:
    made = planned(("ICM",))
    assert "EngineInfo" in names(made)
    (left,) = (left for left in made.left_out if left.message == "EngineInfo")
    assert left.reason == "only the page InfoPage = Oil is sent, until a signal of another one is set"


def test_what_the_bus_or_diagnostics_forbid_is_left_out() -> None:
    made = planned(database=CHASSIS, diagnostic_ids=[0x130])
    assert names(made) == []
    assert {(left.message, left.reason) for left in made.left_out} == {
        ("WheelSpeeds", "it takes CAN FD, and the bus is classic"),
        ("BrakeRequest", "its ID carries diagnostics (ISO-TP) with an ECU of the bench"),
    }
    assert names(planned(database=CHASSIS, fd=True)) == ["WheelSpeeds", "BrakeRequest"]


def test_unknown_names_suggest_the_nearest() -> None:
    with pytest.raises(DatabaseError, match=r"unknown node 'ECN'.*ECM"):
        planned(("ECN",))
    with pytest.raises(DatabaseError, match=r"unknown message 'Odometr'.*Odometer"):
        planned(except_messages={"Odometr": ""})
    with pytest.raises(ValueError, match="unknown checksum algorithm"):
        planned(protect={"Odometer": (None, Checksum("crc", "Distance"))})
