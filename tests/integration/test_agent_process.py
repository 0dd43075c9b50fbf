"""The agent as a process of its own, as operators run it."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Queue
from typing import Any

import pytest
import serial
from doipclient.client import DoIPClient

from bench_agent.client import BenchClient, FrameFilter, LeaseRefused, NegativeResponse, Within
from tests.unit.bench_agent.harness import ECU, NOBODY, ROOT, Signer

AGENT = [sys.executable, "-m", "bench_agent.main"]
TIMEOUT_S = 90


class Process:
    """A child with its output, line by line."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self._lines: Queue[str] = Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def line(self, pattern: str) -> re.Match[str]:
        """The first line that matches."""
        while True:
            text = self._lines.get(timeout=TIMEOUT_S)
            if found := re.search(pattern, text):
                return found

    def _read(self) -> None:
        assert self.process.stdout is not None
        for text in self.process.stdout:
            self._lines.put(text)


@contextmanager
def started(*arguments: str) -> Iterator[Process]:
    insecure = ["--insecure"] if arguments[0] == "serve" else []
    process = subprocess.Popen(
        [*AGENT, *arguments, *insecure], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        yield Process(process)
    finally:
        process.kill()
        process.wait(TIMEOUT_S)
        if process.stdout is not None:
            process.stdout.close()


@pytest.fixture
def signer() -> Signer:
    return Signer()


@pytest.fixture
def agent_yaml(tmp_path: Path, signer: Signer) -> Path:
    (tmp_path / "ecm.yaml").write_text(ECU)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/labd-keys.json").write_text(signer.jwks)
    bus: dict[str, Any] = {"name": "powertrain", "interface": "virtual", "channel": "c1"}
    bench = {
        "name": "bench-1",
        "can": [bus | {"dbc": str(ROOT / "dbc/powertrain.dbc")}],
        "ecus": [{"file": "ecm.yaml", "bus": "powertrain", "simulated": True}],
    }
    agent = {"name": "agent-1", "listen": "127.0.0.1:0", "labd": NOBODY, "data_dir": "data"}
    path = tmp_path / "agent.yaml"
    path.write_text(json.dumps({"agent": agent, "benches": [bench]}))
    return path


def test_it_serves_from_another_process_and_stops_on_sigterm(agent_yaml: Path, signer: Signer) -> None:
    with started("serve", str(agent_yaml)) as agent:
        address = agent.line(r"serves 1 benches on (\S+)")[1]
        with BenchClient(address, "bench-1", signer.token()) as bench:
            assert bench.ecu("ECM").call("read", did="VIN") == "WVWZZZ1KZ6W000001"
            bus = bench.bus("powertrain")
            with bus.stream([FrameFilter(0x200)]) as stream:
                sent = bus.send_message("EngineControl", {"TargetSpeed": 1500})
                found = bus.expect_message("EngineStatus", [Within("EngineSpeed", 1450, 1550)], 5, sent.timestamp_ns)
                assert found.met, found.unmet
                assert stream.read(5) is not None
        agent.process.send_signal(signal.SIGTERM)
        assert agent.process.wait(TIMEOUT_S) == 0


def test_a_port_in_use_is_named(agent_yaml: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with started("serve", str(agent_yaml), "--listen", address) as agent:
            agent.line(rf"Error: cannot listen on {address}: Address already in use")
            assert agent.process.wait(TIMEOUT_S) == 1


def test_a_second_agent_on_the_same_port_is_refused(agent_yaml: Path, tmp_path: Path) -> None:
    with started("serve", str(agent_yaml)) as first:
        address = first.line(r"serves 1 benches on (\S+)")[1]
        with started("serve", str(agent_yaml), "--listen", address, "--data", str(tmp_path / "other")) as second:
            second.line(r"Error: cannot listen on .*: Address already in use")
            assert second.process.wait(TIMEOUT_S) == 1


def test_a_second_agent_on_the_same_data_is_refused(agent_yaml: Path) -> None:
    with started("serve", str(agent_yaml)) as first:
        first.line("serves 1 benches")
        with started("serve", str(agent_yaml)) as second:
            second.line(rf"Error: another agent \(process {first.process.pid}\) uses the data folder")
            assert second.process.wait(TIMEOUT_S) == 1


def test_epochs_survive_kill_9(agent_yaml: Path, signer: Signer) -> None:
    with started("serve", str(agent_yaml)) as agent:
        address = agent.line(r"serves 1 benches on (\S+)")[1]
        with BenchClient(address, "bench-1", signer.token(epoch=12)) as bench:
            bench.describe()
        os.kill(agent.process.pid, signal.SIGKILL)
    epochs = json.loads((agent_yaml.parent / "data/epochs.json").read_text())
    assert epochs == {"bench-1": {"seen": 12, "fenced": 11}}


LASTING_ECU = """
name: ECM
addressing: {request_id: 0x7E0, response_id: 0x7E8}
timing: {transit_ms: 2000}
dids: {Code: {did: 0xF198, type: ascii, length: 4, value: "0000", write: {}}}
simulation: {nvm: keep}
"""


def test_what_a_simulated_ecu_has_written_survives_kill_9(agent_yaml: Path, signer: Signer) -> None:
    (agent_yaml.parent / "ecm.yaml").write_text(LASTING_ECU)
    for epoch in range(1, 4):
        with started("serve", str(agent_yaml)) as agent:
            address = agent.line(r"serves 1 benches on (\S+)")[1]
            with BenchClient(address, "bench-1", signer.token(epoch=epoch)) as bench:
                ecm = bench.ecu("ECM")
                assert ecm.read("Code") == f"000{epoch - 1}"
                ecm.write("Code", f"000{epoch}")
                os.kill(agent.process.pid, signal.SIGKILL)  # at once after the positive answer
                agent.process.wait(TIMEOUT_S)


CONSOLE_ECU = LASTING_ECU.replace("{nvm: keep}", '{nvm: keep, console: {prompt: "ECM> ", version: ECM 7}}')


def test_an_ecu_of_its_own_has_a_console_and_keeps_its_memory(tmp_path: Path) -> None:
    (tmp_path / "ecm.yaml").write_text(CONSOLE_ECU)
    bus = ("--interface", "virtual", "--channel", "alone", "--nvm", str(tmp_path / "nvm"))
    with started("simulate", str(tmp_path / "ecm.yaml"), *bus) as ecu:
        path = ecu.line("has its serial console at (.*)")[1]
        ecu.line("ECM answers")
        with serial.Serial(path, timeout=TIMEOUT_S) as console:
            console.write(b"version\r")
            assert console.read_until(b"ECM 7\r\nECM> ").endswith(b"ECM 7\r\nECM> ")
        ecu.process.send_signal(signal.SIGTERM)
        assert ecu.process.wait(TIMEOUT_S) == 0
    assert json.loads((tmp_path / "nvm/state.json").read_text())["data"] == {}
    (tmp_path / "nvm/state.json").write_text("[]")
    with started("simulate", str(tmp_path / "ecm.yaml"), *bus) as ecu:
        ecu.line("Error: .*state.json: not a JSON object")


GROUP = "239.74.163.3"
PATIENT_ECU = """
name: GW
addressing: {request_id: 0x7E0, response_id: 0x7E8}
timing: {s3_ms: 600000, s3_client_ms: 2000}
dids:
  Mark: {did: 0xF198, type: ascii, length: 4, value: "0000", write: {session: [extended]}}
"""
"""An ECU that stays in its session for ten minutes, unless it is told to leave it."""


@pytest.fixture
def multicast_port() -> int:
    """One port for this test alone: group and port make the bus, for the whole network."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((GROUP, 9))
        except OSError as error:
            pytest.skip(f"no multicast route on this machine: {error.strerror}")
    return 20_000 + os.getpid() % 20_000


def test_after_kill_9_the_bench_is_safe_before_its_holder_is_back(
    tmp_path: Path, agent_yaml: Path, signer: Signer, multicast_port: int
) -> None:
    (tmp_path / "gw.yaml").write_text(PATIENT_ECU)
    options = {"port": multicast_port, "hop_limit": 0}
    document = json.loads(agent_yaml.read_text())
    document["benches"] = [
        {
            "name": "bench-1",
            "can": [{"name": "body", "interface": "udp_multicast", "channel": GROUP, "options": options}],
            "ecus": [{"file": "gw.yaml", "bus": "body"}],
        }
    ]
    agent_yaml.write_text(json.dumps(document))
    bus = [argument for name, value in options.items() for argument in ("--option", f"{name}={value}")]
    node = ("simulate", str(tmp_path / "gw.yaml"), "--interface", "udp_multicast", "--channel", GROUP, *bus)
    with started(*node) as ecu:
        ecu.line("GW answers on")
        with started("serve", str(agent_yaml)) as agent:
            address = agent.line(r"serves 1 benches on (\S+)")[1]
            with BenchClient(address, "bench-1", signer.token(epoch=12)) as bench:
                gateway = bench.ecu("GW")
                gateway.call("session", session="extended")
                gateway.call("write", did="Mark", value="ABCD")
                os.kill(agent.process.pid, signal.SIGKILL)
                agent.process.wait(TIMEOUT_S)
        with started("serve", str(agent_yaml)) as agent:
            address = agent.line(r"serves 1 benches on (\S+)")[1]
            with (
                BenchClient(address, "bench-1", signer.token(epoch=11)) as older,
                pytest.raises(LeaseRefused, match="epoch"),
            ):
                older.describe()
            with BenchClient(address, "bench-1", signer.token(epoch=12)) as bench:
                gateway = bench.ecu("GW")
                assert gateway.call("read", did="Mark") == "ABCD"  # the same ECU, and the lease is still good
                with pytest.raises(NegativeResponse):  # back in its default session
                    gateway.call("write", did="Mark", value="EFGH")


def test_an_unsound_epoch_file_keeps_the_agent_from_starting(agent_yaml: Path) -> None:
    (agent_yaml.parent / "data/epochs.json").write_text("{")
    with started("serve", str(agent_yaml)) as agent:
        agent.line(r"Error: .*epochs.json is not sound")
        assert agent.process.wait(TIMEOUT_S) == 1


def test_mistakes_are_all_named(agent_yaml: Path) -> None:
    agent_yaml.write_text("agent: {nam: x}\nbenches: []\n")
    with started("serve", str(agent_yaml)) as agent:
        agent.line(r"agent.yaml:1: agent.nam: unknown field; did you mean name")
        agent.line(r"agent.yaml:2: benches: ")
        assert agent.process.wait(TIMEOUT_S) == 1


def test_simulate_plays_an_ecu_until_stopped(agent_yaml: Path) -> None:
    arguments = ("--interface", "virtual", "--channel", "c1", "--dbc", str(ROOT / "dbc/powertrain.dbc"))
    with started("simulate", str(agent_yaml.parent / "ecm.yaml"), *arguments) as ecu:
        ecu.line("ECM answers on virtual c1")
        ecu.process.send_signal(signal.SIGINT)
        assert ecu.process.wait(TIMEOUT_S) == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            ("--interface", "socketcan", "--channel", "nocan7"),
            "Error: CAN bus 'ECM' .socketcan nocan7. cannot be opened",
        ),
        (("--interface", "virtual", "--channel", "c1"), "EngineStatus"),
        (("--interface", "virtual", "--channel", "c1", "--dbc", "none.dbc"), "Error: none.dbc: cannot be read"),
    ],
)
def test_simulate_says_what_is_wrong(agent_yaml: Path, arguments: tuple[str, ...], says: str) -> None:
    with started("simulate", str(agent_yaml.parent / "ecm.yaml"), *arguments) as ecu:
        ecu.line(says)
        assert ecu.process.wait(TIMEOUT_S) == 1


def test_simulate_plays_an_ecu_behind_doip(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    text = f"name: ZONAL\ndoip: {{host: 127.0.0.1, port: {port}, logical_address: 0x1001}}\n"
    (tmp_path / "zonal.yaml").write_text(text)
    with started("simulate", str(tmp_path / "zonal.yaml")) as ecu:
        ecu.line(f"ZONAL answers on doip 127.0.0.1:{port}")
        with DoIPClient("127.0.0.1", 0x1001, tcp_port=port, udp_port=port) as client:
            client.send_diagnostic(b"\x3e\x00")
            assert bytes(client.receive_diagnostic(timeout=TIMEOUT_S)) == b"\x7e\x00"
            with started("simulate", str(tmp_path / "zonal.yaml")) as second:
                second.line("Error: .*address already in use")
                assert second.process.wait(TIMEOUT_S) == 1
        ecu.process.send_signal(signal.SIGTERM)
        assert ecu.process.wait(TIMEOUT_S) == 0


def test_simulate_needs_a_bus_for_an_ecu_on_can(agent_yaml: Path) -> None:
    with started("simulate", str(agent_yaml.parent / "ecm.yaml")) as ecu:
        ecu.line("Error: ECM is reached over CAN: give --interface and --channel")
        assert ecu.process.wait(TIMEOUT_S) == 2
