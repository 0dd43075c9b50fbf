"""A rest-bus through the whole agent: the nodes that are not there, as another node sees them."""

import time
from collections.abc import Iterator
from pathlib import Path

import can
import pytest

from bench_agent.client import AliveCounter, BenchClient, InvalidRequest, NotFound, PayloadChecksum
from tests.unit.bench_agent.harness import RunningAgent
from tests.unit.bench_agent.test_agent_traffic import Listener

WAIT_S = 30.0
OTHER = """VERSION ""
BU_: Body Radio
BO_ 801 Doors: 1 Body
 SG_ Open : 0|1@1+ (1,0) [0|1] "" Radio
BO_ 802 Volume: 1 Radio
 SG_ Level : 0|8@1+ (1,0) [0|255] "" Body
BA_DEF_ BO_ "GenMsgCycleTime" INT 0 65535;
BA_DEF_DEF_ "GenMsgCycleTime" 0;
BA_ "GenMsgCycleTime" BO_ 801 20;
"""
TRANSMISSION, TURN, KEY, ODOMETER = 928, 944, 960, 976


@pytest.fixture
def node(running: RunningAgent) -> Iterator[can.BusABC]:
    with running.node() as bus:
        yield bus


def silent(node: can.BusABC, can_id: int, for_s: float = 0.2) -> bool:
    """Whether no frame with this ID comes; what was on its way already does not count."""
    while node.recv(0) is not None:
        pass
    end = time.monotonic() + for_s
    while (left := end - time.monotonic()) > 0:
        frame = node.recv(left)
        if frame is not None and frame.arbitration_id == can_id:
            return False
    return True


def test_the_rest_of_the_bus_with_its_times(bench: BenchClient, node: can.BusABC) -> None:
    rest = bench.bus("powertrain").restbus()
    assert rest.messages == ("EngineControl", "TransmissionStatus", "TurnSignals", "KeyPosition", "Odometer")
    assert dict(rest.left_out)["EngineStatus"] == "ECM sends it: the bench has this ECU"
    first = Listener(node, TRANSMISSION).next()
    assert first.data[1] == 120  # its start value
    assert silent(node, KEY)
    assert silent(node, TURN)
    states = {state.message: state for state in bench.traffic()}
    assert {name: state.period_s for name, state in states.items()} == {
        "EngineControl": None,
        "TransmissionStatus": 0.02,
        "TurnSignals": None,
        "KeyPosition": None,
        "Odometer": 0.5,
    }


def test_another_database_stands_in_for_that_of_the_bus(bench: BenchClient, node: can.BusABC, tmp_path: Path) -> None:
    other = tmp_path / "vehicle.dbc"
    other.write_text(OTHER)
    rest = bench.bus("powertrain").restbus(["Radio"], database=other)
    assert (rest.messages, rest.begun[0].period_s) == (("Doors",), 0.02)
    assert dict(rest.left_out) == {"Volume": "Radio sends it"}
    assert Listener(node, 0x321).next().data[0] == 0
    rest.set("Doors", {"Open": 1})
    Listener(node, 0x321).until(lambda frame: frame.data[0] == 1)
    other.write_text("BO_ nonsense")
    with pytest.raises(InvalidRequest, match=r"^vehicle.dbc: does not load"):
        bench.bus("powertrain").restbus(database=other)
    with pytest.raises(InvalidRequest, match=r"vehicle.dbc.*empty"):
        other.write_text("")
        bench.bus("powertrain").restbus(database=other)


def test_values_events_and_activity(bench: BenchClient, node: can.BusABC) -> None:
    rest = bench.bus("powertrain").restbus()
    rest.set("TransmissionStatus", {"Gear": "Drive"})
    Listener(node, TRANSMISSION).until(lambda frame: frame.data[0] == 3)

    rest.set("KeyPosition", {"Key": "On"})  # on change: one frame, at once
    assert Listener(node, KEY).next().data[0] == 2
    rest.set("KeyPosition", {"Key": "On"})  # no change
    assert silent(node, KEY)

    rest.set("TurnSignals", {"Left": 1})  # if active: with its period while a signal is
    turning = Listener(node, TURN)
    assert [turning.next().data[0] for _ in range(3)] == [1, 1, 1]
    rest.set("TurnSignals", {"Left": 0})
    assert silent(node, TURN)

    rest.set("Odometer", {"Distance": 12.5})  # cyclic and spontaneous
    assert int.from_bytes(Listener(node, ODOMETER).until(lambda frame: any(frame.data)).data, "little") == 125


def test_single_messages_off_and_on_and_all_of_them(bench: BenchClient, node: can.BusABC) -> None:
    rest = bench.bus("powertrain").restbus()
    Listener(node, TRANSMISSION).next()
    assert not rest.off("TransmissionStatus").running
    assert silent(node, TRANSMISSION)
    assert rest.on("TransmissionStatus").running
    Listener(node, TRANSMISSION).next()
    rest.stop()
    assert silent(node, TRANSMISSION)
    assert bench.traffic() == []
    with pytest.raises(NotFound):
        rest.stop()


def test_names_of_nodes_and_messages(bench: BenchClient) -> None:
    bus = bench.bus("powertrain")
    with pytest.raises(InvalidRequest, match=r"unknown node 'TUC'.*TCU"):
        bus.restbus(["TUC"])
    assert bench.traffic() == []
    rest = bus.restbus(["TCU"], include=["ECM"], except_messages=["Odometer"])
    assert "EngineStatus" in rest.messages
    assert "EngineInfo" in rest.messages
    assert dict(rest.left_out)["TransmissionStatus"] == "TCU sends it"
    with pytest.raises(NotFound, match="it was left out: TCU sends it"):
        rest.set("TransmissionStatus", {"Gear": "Park"})
    with pytest.raises(NotFound, match="TurnSignals"):
        rest.off("TurnSignal")


def test_a_message_apart_takes_the_place_of_one_that_is_off(bench: BenchClient, node: can.BusABC) -> None:
    bus = bench.bus("powertrain")
    rest = bus.restbus(protect={"TransmissionStatus": (AliveCounter("Alive"), PayloadChecksum("sum8", "CRC"))})
    found = Listener(node, TRANSMISSION).next()
    assert found.data[7] == sum(found.data[:7]) % 256
    with pytest.raises(InvalidRequest, match="is being sent on powertrain already"):
        bus.cyclic("TransmissionStatus", {"Gear": "Reverse"})
    rest.off("TransmissionStatus")
    bus.cyclic("TransmissionStatus", {"Gear": "Reverse"})
    Listener(node, TRANSMISSION).until(lambda frame: frame.data[0] == 1)
    with pytest.raises(NotFound):
        rest.on("TransmissionStatus")
    assert dict(bus.restbus().left_out)["TransmissionStatus"] == "this lease sends it already"
