"""A bench whose ECUs are reached by DoIP: the same calls, labctl and Lua as over CAN."""

import random
import socket
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from doipclient.client import DoIPClient

from bench_agent.client import BenchClient, InvalidRequest, NegativeResponse, UdsTransport
from bench_agent.protocol import bench_pb2
from bench_agent.server import config
from ecu_adapters.simulator.memory import Range
from labd.cli.main import main
from tests.unit.bench_agent.harness import AgentFile, OpenBench, RunningAgent, Signer, StartAgent, bench_entry
from tests.unit.client.fake_labd import FakeLabd, make_bench
from tests.unit.scenarios.conftest import Play
from tests.unit.scenarios.conftest import play as play_script  # noqa: F401 - a fixture

VIN = "WVWZZZ1KZ6W000001"
START = 0x0800_0000
IMAGE = random.Random(5).randbytes(40_000)  # noqa: S311 - no secret


def _free_port() -> int:
    with socket.socket() as tcp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        tcp.bind(("127.0.0.1", 0))
        port: int = tcp.getsockname()[1]
        udp.bind(("127.0.0.1", port))
        return port


def _ecu(name: str, port: int, address: int) -> dict[str, Any]:
    access = {"session": ["programming"], "security": 1}
    argument = {"type": "uint", "length": 4}
    options = [{"name": "address", **argument}, {"name": "size", **argument}]
    return {
        "name": name,
        "doip": {"host": "127.0.0.1", "port": port, "logical_address": address, "functional_address": 0xE400},
        "timing": {"p2_ms": 50, "p2_star_ms": 500, "s3_ms": 1500, "s3_client_ms": 200, "transit_ms": 900},
        "dids": {
            "VIN": {"did": 0xF190, "type": "ascii", "length": 17, "value": VIN},
            "Name": {"did": 0xF18A, "type": "ascii", "length": 3, "value": name},
            "Code": {
                "did": 0xF198, "type": "ascii", "length": 4, "value": "0000",
                "write": {"session": ["extended"], "security": 1},
            },
        },
        "security": {1: {"algorithm": "xor", "key": "A5A5A5A5"}},
        "memory": {
            "max_block": 8000,
            "regions": {"app": {"address": START, "size": 0x10000, "fill": 0, "read": {}, "write": access}},
        },
        "routines": {
            "Erase": {
                "id": 0xFF00, "action": "erase", "access": access,
                "start": {"options": options, "status": [{"name": "result", "type": "uint", "length": 1}]},
            },
        },
        "flash": {"session": "programming", "security": 1, "erase": "Erase"},
        "simulation": {"service_delay_ms": {0x14: 120}},
    }  # fmt: skip


@pytest.fixture
def port() -> int:
    return _free_port()


@pytest.fixture
def agent_file(tmp_path: Path, port: int) -> AgentFile:
    entry = bench_entry("bench-1", ecus=False)
    for address, name in enumerate(("ECM", "TCM"), start=0x1001):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(_ecu(name, port, address)))
        entry["ecus"].append({"file": f"{name}.yaml", "simulated": True})
    return AgentFile(tmp_path, [entry])


def test_services_sessions_and_response_pending(bench: BenchClient) -> None:
    ecm = bench.ecu("ECM")
    assert ecm.call("read", did="VIN") == VIN
    with pytest.raises(NegativeResponse):
        ecm.call("write", did="Code", value="1234")
    ecm.call("session", session="extended")
    ecm.call("unlock", level=1)
    ecm.call("write", did="Code", value="1234")
    assert ecm.call("read", did="Code") == "1234"
    ecm.call("clear_dtcs")
    assert ecm.last is not None
    assert len(ecm.last.pending_us) == 1


def test_simulated_ecus_are_controlled_as_those_on_a_can_bus_are(bench: BenchClient) -> None:
    ecm, simulated = bench.ecu("ECM"), bench.simulation("ECM")
    with simulated.fault("nrc", service=0x22, nrc=0x22), pytest.raises(NegativeResponse):
        ecm.read("VIN")
    simulated.set("Name", "XYZ")
    assert ecm.read("Name") == "XYZ"
    with pytest.raises(InvalidRequest, match="drop_frame is of CAN frames, but ECM is reached by DoIP"):
        simulated.inject("drop_frame")


def test_the_ecus_behind_one_gateway_answer_for_themselves(running: RunningAgent, bench: BenchClient) -> None:
    assert bench.ecu("TCM").call("read", did="Name") == "TCM"
    assert bench.ecu("ECM").call("read", did="Name") == "ECM"
    answers = bench.functional(b"\x22\xf1\x8a")
    assert {name: answer.exchange.response for name, answer in answers.items() if answer.exchange is not None} == {
        "ECM": b"\x62\xf1\x8aECM",
        "TCM": b"\x62\xf1\x8aTCM",
    }
    ecus = {ecu.name: ecu for ecu in running.describe("bench-1").ecus}
    place = running.agent.benches["bench-1"].ecu("ECM")[1].name
    assert place.startswith("doip://127.0.0.1:")
    assert (ecus["ECM"].bus, ecus["ECM"].request_id, ecus["ECM"].response_id) == (place, 0x1001, 0x0E80)
    with pytest.raises(InvalidRequest, match="no ECU with such a functional address"):
        bench.functional(b"\x3e\x00", bus="powertrain")


def test_the_end_of_a_lease_ends_session_and_connection(
    running: RunningAgent, bench: BenchClient, open_bench: OpenBench, signer: Signer, port: int
) -> None:
    bench.ecu("ECM").call("session", session="extended")
    node = running.agent.benches["bench-1"].simulated("ECM")
    assert node is not None
    assert node.ecu is not None
    server = node.ecu.server
    assert server.state.session == 3
    running.fence(1)
    open_bench(signer.token(epoch=2), epoch=2).describe()  # served once the clean-up is done
    assert (server.state.session, server.stats.session_timeouts) == (1, 0)
    # The former holder's connection is gone: the tester's address is free.
    with DoIPClient("127.0.0.1", 0x1001, tcp_port=port, client_logical_address=0x0E80) as foreign:
        foreign.send_diagnostic(b"\x3e\x00")
        assert bytes(foreign.receive_diagnostic(timeout=5)) == b"\x7e\x00"


def test_flashing(running: RunningAgent, bench: BenchClient) -> None:
    bench.ecu("ECM").flash(IMAGE, file_name="app.bin", address=START)
    node = running.agent.benches["bench-1"].simulated("ECM")
    assert node is not None
    assert node.ecu is not None
    memory = node.ecu.server.state.memory
    assert memory.read(Range(START, len(IMAGE))) == IMAGE


def test_lua_is_the_same(play_script: Play, bench: BenchClient) -> None:  # noqa: F811
    script = """
      local test, uds = require("test"), require("uds")
      test.case("it", function()
        local ecm = uds.ecu("ECM")
        ecm:session("extended")
        ecm:unlock(1)
        ecm:write("Code", "4711")
        test.equal(ecm:read("Code"), "4711")
        test.equal(uds.ecu("TCM"):read("Name"), "TCM")
      end)
    """
    played = play_script(script, bench=bench)
    assert played.verdict == "passed", played.result


def _labctl(running: RunningAgent, signer: Signer, *arguments: str) -> Result:
    with FakeLabd() as labd:
        labd.token = signer.token()
        labd.benches["bench-1"] = make_bench(address=running.address)
        return CliRunner().invoke(main, ["--labd", labd.url, *arguments], prog_name="labctl")


def test_labctl_uds_is_the_same(running: RunningAgent, signer: Signer) -> None:
    result = _labctl(running, signer, "uds", "bench-1", "ECM", "read", "did=VIN")
    assert result.exit_code == 0, result.output
    assert VIN in result.output


def test_a_port_in_use_makes_the_bench_unhealthy(agent_file: AgentFile, start_agent: StartAgent, port: int) -> None:
    with socket.create_server(("127.0.0.1", port)):
        agent = start_agent()
        assert "simulated ECU ECM: [Errno 98]" in agent.health("bench-1")
        assert agent.describe("bench-1").health == bench_pb2.UNHEALTHY


def test_a_real_gateway_that_is_not_there(agent_file: AgentFile, start_agent: StartAgent, signer: Signer) -> None:
    for ecu in agent_file.benches[0]["ecus"]:
        ecu["simulated"] = False
    agent = start_agent()
    assert agent.health("bench-1") == ""
    client = BenchClient(agent.address, "bench-1", signer.token(), timeout_s=10)
    try:
        with pytest.raises(UdsTransport, match="cannot be connected") as refused:
            client.ecu("ECM").raw(b"\x3e\x00")
        assert refused.value.kind == "connection"
    finally:
        client.close()


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        ({"diagnostics": "can"}, "ECU ECM has no addressing on a CAN bus"),
        ({"diagnostics": "canbus"}, "can"),
        ({"bus": "powertrane"}, "unknown bus 'powertrane'"),
    ],
)
def test_mistakes_in_the_bench(agent_file: AgentFile, entry: dict[str, str], text: str) -> None:
    agent_file.benches[0]["ecus"][0] |= entry
    assert any(text in str(mistake) for mistake in config.check(agent_file.write()))


def test_one_logical_address_for_two_ecus(agent_file: AgentFile, tmp_path: Path, port: int) -> None:
    (tmp_path / "TCM.yaml").write_text(yaml.safe_dump(_ecu("TCM", port, 0x1001)))
    (mistake,) = config.check(agent_file.write())
    assert f"doip.logical_address 0x1001 at 127.0.0.1:{port} is ECM already" in str(mistake)


def test_two_ecus_that_describe_their_entity_differently(agent_file: AgentFile, tmp_path: Path, port: int) -> None:
    for address, name in enumerate(("ECM", "TCM"), start=0x1001):
        described = _ecu(name, port, address)
        described["doip"]["entity"] = {"sockets": address - 0x1000}
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(described))
    (mistake,) = config.check(agent_file.write())
    assert f"another ECU describes the doip.entity at 127.0.0.1:{port} otherwise" in str(mistake)


def test_the_bench_may_choose_can(agent_file: AgentFile, tmp_path: Path, port: int) -> None:
    both = _ecu("ECM", port, 0x1001) | {"addressing": {"request_id": 0x7E0, "response_id": 0x7E8}}
    both["memory"]["max_block"] = 4095
    (tmp_path / "ECM.yaml").write_text(yaml.safe_dump(both))
    agent_file.benches[0]["ecus"][0] |= {"diagnostics": "can"}
    assert "ECU ECM is reached over CAN" in str(config.check(agent_file.write())[0])
    agent_file.benches[0]["ecus"][0] |= {"bus": "powertrain"}
    assert config.check(agent_file.write()) == []
    (tmp_path / "ECM.yaml").write_text(yaml.safe_dump({key: both[key] for key in both if key != "doip"}))
    agent_file.benches[0]["ecus"][0]["diagnostics"] = "doip"
    assert "has no section doip" in str(config.check(agent_file.write())[0])
