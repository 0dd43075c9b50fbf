"""Twenty simulated ECUs on one bus, asked at the same time: each answer is that of the ECU that was asked."""

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import can
import pytest

from bench_agent.client import BenchClient, EcuClient, InvalidRequest, NegativeResponse, UdsInvalid
from tests.unit.bench_agent.harness import AgentFile, RunningAgent, bench_entry
from tests.unit.scenarios.conftest import Play
from tests.unit.scenarios.conftest import play as play_script  # noqa: F401 - a fixture

ECUS = 20
ROUNDS = 5


def addressing(index: int) -> dict[str, object]:
    """Three kinds: IDs of its own, 29-bit IDs made of addresses, and a request ID shared with others."""
    if index < 10:
        return {"request_id": 0x600 + index, "response_id": 0x640 + index, "functional_id": 0x7DF}
    if index < 15:
        return {"mode": "normal_fixed", "source": 0xF1, "target": 0x10 + index}
    return {
        "mode": "extended", "request_id": 0x6F1, "response_id": 0x680 + index, "source": 0xF1, "target": index,
    }  # fmt: skip


def vin(index: int) -> str:
    return f"WVWZZZ1KZ6W0000{index:02}"


@pytest.fixture
def agent_file(tmp_path: Path) -> AgentFile:
    entry = bench_entry("bench-1", ecus=False)
    for index in range(ECUS):
        ecu = {
            "name": f"ECU{index:02}",
            "addressing": addressing(index),
            "timing": {"p2_ms": 50, "transit_ms": 10_000},
            "isotp": {"block_size": index % 3},
            "dids": {
                "VIN": {"did": 0xF190, "type": "ascii", "length": 17, "value": vin(index)},
                "Number": {"did": 0x0100, "type": "uint", "length": 1, "value": index},
                "Notes": {"did": 0x0200, "type": "hex", "length": 40, "write": {"security": 1}},
            },
            "security": {1: {"algorithm": "xor", "key": f"{index + 1:02X}"}},
        }  # fmt: skip
        (tmp_path / f"ecu{index}.yaml").write_text(json.dumps(ecu))  # JSON is YAML
        entry["ecus"].append({"file": f"ecu{index}.yaml", "bus": "powertrain", "simulated": True})
    return AgentFile(tmp_path, [entry])


def together(bench: BenchClient, work: Callable[[EcuClient, int], None]) -> None:
    """Does ``work`` with every ECU from a thread of its own, beginning at one moment."""
    start = threading.Barrier(ECUS)

    def one(index: int) -> None:
        start.wait(30)
        work(bench.ecu(f"ECU{index:02}"), index)

    with ThreadPoolExecutor(ECUS) as pool:
        for done in [pool.submit(one, index) for index in range(ECUS)]:
            done.result(60)


def test_answers_are_those_of_the_ecu_that_was_asked(bench: BenchClient) -> None:
    def work(ecu: EcuClient, index: int) -> None:
        for _ in range(ROUNDS):
            assert ecu.read("VIN") == vin(index)
            assert ecu.read("Number") == index
            assert ecu.raw(bytes.fromhex("220100")).response == bytes((0x62, 0x01, 0x00, index))
            with pytest.raises(NegativeResponse):
                ecu.read(0x9999)

    together(bench, work)


def test_sessions_keys_and_data_are_each_ecus_own(bench: BenchClient) -> None:
    def work(ecu: EcuClient, index: int) -> None:
        notes = bytes((index,)) * 40
        if index % 2:  # the others stay locked, whatever their neighbours do
            ecu.session("extended")
            ecu.unlock(1)
            ecu.write("Notes", notes)
            assert ecu.read("Notes") == notes
        else:
            with pytest.raises(NegativeResponse):
                ecu.write("Notes", notes)
            assert ecu.read("Notes") == bytes(40)

    together(bench, work)


def test_one_functional_request_has_the_answers_of_all_who_listen(bench: BenchClient) -> None:
    assert bench.ecu("ECU00").read("Number") == 0
    for functional_id, listeners in ((0x7DF, range(10)), (0x18DB33F1, range(10, 15))):
        answers = bench.functional("read", timeout_s=30, functional_id=functional_id, did="VIN")
        assert {name: answer.result for name, answer in answers.items()} == {f"ECU{i:02}": vin(i) for i in listeners}
    with pytest.raises(InvalidRequest, match="0x18DB33F1 on bus powertrain; say which"):
        bench.functional("read", did="VIN")
    with pytest.raises(UdsInvalid, match="functional_id is -1"):
        bench.functional("read", functional_id=-1, did="VIN")


def test_a_functional_address_in_lua(bench: BenchClient, play_script: Play) -> None:  # noqa: F811
    played = play_script(
        """
        local test, uds = require("test"), require("uds")
        test.case("listeners", function()
          local answers = uds.functional("read", { did = "Number", functional_id = 0x18DB33F1, timeout = "30s" })
          test.equal(answers.ECU14.result, 14)
          test.equal(answers.ECU00, nil)
          local ok, err = pcall(uds.functional, "22 01 00", { functional_id = "7DF" })
          test.matches(err.message, "functional_id is '7DF'")
        end)
        """,
        bench=bench,
        timeout_s=60,
    )
    assert played.verdict == "passed", played.failure


def test_waiting_for_one_ecu_holds_up_no_other(bench: BenchClient, running: RunningAgent) -> None:
    """Requests of several threads share messages on the way; one that takes long must not keep the others."""

    def check(ecu: EcuClient, index: int) -> None:
        assert ecu.read("Number") == index

    together(bench, check)
    with ThreadPoolExecutor(1) as pool, running.node() as node:
        waiting = pool.submit(bench.ecu("ECU00").events, wait_s=50)
        together(bench, check)
        assert not waiting.done()
        node.send(can.Message(arbitration_id=0x640, is_extended_id=False, data=b"\x04\x62\x01\x00\x63"))
        assert [event["value"] for event in waiting.result(60)] == [0x63]
