"""labctl console as a process on a real terminal, against a real agent with a device on a pty."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench_agent.client import BenchClient
from tests.unit.bench_agent.conftest import signer, start_agent  # noqa: F401 - fixtures
from tests.unit.bench_agent.harness import AgentFile, RunningAgent, Signer, StartAgent, bench_entry
from tests.unit.bench_agent.serial_device import SerialDevice
from tests.unit.cli.conftest import Process
from tests.unit.cli.terminal import DEADLINE_S, Terminal
from tests.unit.client.fake_labd import FakeLabd, make_bench

HINT = b"Ctrl-] leaves"


@pytest.fixture
def device(tmp_path: Path) -> Iterator[SerialDevice]:
    device = SerialDevice(tmp_path / "ttyLinux")
    yield device
    device.unplug()


@pytest.fixture
def agent_file(tmp_path: Path, device: SerialDevice) -> AgentFile:
    entry = bench_entry("bench-1", ecus=False)
    entry["consoles"] = [{"name": "linux", "port": str(device.link), "newline": "\r\n"}]
    return AgentFile(tmp_path, [entry])


@pytest.fixture(autouse=True)
def agent(labd: FakeLabd, start_agent: StartAgent, signer: Signer, device: SerialDevice) -> RunningAgent:  # noqa: F811
    running = start_agent()
    labd.token = signer.token()
    consoles = [{"name": "linux", "port": str(device.link), "baudrate": 115200}]
    equipment = {"consoles": consoles, "power": [], "adapters": []}
    labd.benches["bench-1"] = make_bench(address=running.address, equipment=equipment)
    return running


@pytest.fixture
def on_terminal(labctl_process: Process, terminal: Terminal) -> Iterator["subprocess.Popen[str]"]:
    """labctl console, up to where it talks."""
    streams = {"stdin": terminal.far, "stdout": terminal.far, "stderr": terminal.far}
    with labctl_process("console", "bench-1", "linux", **streams) as process:
        terminal.until(HINT)
        yield process


def in_raw_mode(terminal: Terminal, device: SerialDevice) -> None:
    """Returns once keys arrive at the device, one by one."""
    device.say(b"up\r\n")
    terminal.until(b"up\r\n")
    assert not terminal.restored


def test_a_conversation_on_a_terminal(
    on_terminal: "subprocess.Popen[str]", terminal: Terminal, device: SerialDevice, labd: FakeLabd
) -> None:
    in_raw_mode(terminal, device)
    terminal.type(b"ls\x03\r")  # Ctrl-C is the console's
    assert device.hear(b"\n") == b"ls\x03\r\n"
    device.say(b"\x1b[1mbin\x1b[0m\n")
    terminal.until(b"\x1b[1mbin\x1b[0m\n")
    assert b"ls" not in terminal.screen  # no echo but the device's own
    terminal.type(b"bye\x1dnot for the console")
    assert on_terminal.wait(DEADLINE_S) == 0
    assert device.hear(b"bye") == b"bye"
    assert terminal.restored
    assert labd.leases["lease-1"]["state"] == "ENDED"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_a_signal_leaves_the_terminal_as_it_was(
    on_terminal: "subprocess.Popen[str]",
    terminal: Terminal,
    device: SerialDevice,
    number: signal.Signals,
    labd: FakeLabd,
) -> None:
    in_raw_mode(terminal, device)
    on_terminal.send_signal(number)
    assert on_terminal.wait(DEADLINE_S) == 128 + number
    assert terminal.restored
    assert labd.leases["lease-1"]["state"] == "ENDED"


def test_the_end_of_the_lease_ends_it_and_says_so(
    on_terminal: "subprocess.Popen[str]", terminal: Terminal, device: SerialDevice, agent: RunningAgent
) -> None:
    in_raw_mode(terminal, device)
    agent.fence(1, "revoked")
    terminal.until(b"Error: ")
    terminal.until(b"lease")
    assert on_terminal.wait(DEADLINE_S) == 65
    assert terminal.restored


def test_a_port_that_is_unplugged_ends_it_and_says_so(
    on_terminal: "subprocess.Popen[str]", terminal: Terminal, device: SerialDevice
) -> None:
    in_raw_mode(terminal, device)
    device.say(b"x" * 3000 + b"last words")
    terminal.until(b"last words")
    device.unplug()
    terminal.until(b"Error: console linux: serial port ")
    assert on_terminal.wait(DEADLINE_S) == 69
    assert terminal.restored


def test_with_stay_it_waits_for_the_port(labctl_process: Process, terminal: Terminal, device: SerialDevice) -> None:
    streams = {"stdin": terminal.far, "stdout": terminal.far, "stderr": terminal.far}
    with labctl_process("console", "bench-1", "linux", "--stay", **streams) as process:
        terminal.until(HINT)
        in_raw_mode(terminal, device)
        device.unplug()
        terminal.until(b"waiting: ")
        device.plug()
        terminal.until(b"it is there again")
        terminal.type(b"hello\r")
        assert device.hear(b"\n") == b"hello\r\n"
        terminal.type(b"\x1d")
        assert process.wait(DEADLINE_S) == 0


def test_a_break_is_sent_and_logged(
    on_terminal: "subprocess.Popen[str]", terminal: Terminal, device: SerialDevice, agent: RunningAgent, labd: FakeLabd
) -> None:
    in_raw_mode(terminal, device)
    terminal.type(b"\x1cb\x1d")
    assert on_terminal.wait(DEADLINE_S) == 0
    with BenchClient(agent.address, "bench-1", labd.token) as bench:
        assert b"- break of 250 ms" in b"".join(bench.console("linux").log())


def test_pipes_go_through_as_they_are(labctl_process: Process, device: SerialDevice, tmp_path: Path) -> None:
    log = tmp_path / "boot.log"
    log.write_bytes(b"earlier\n")
    options = ("console", "bench-1", "linux", "--log", str(log))
    with labctl_process(*options, stdin=subprocess.PIPE) as process:
        assert process.stdin and process.stdout and process.stderr
        assert "Ctrl-C leaves" in process.stderr.readline()
        process.stdin.write("version\x1d\n")
        process.stdin.close()  # what is piped in ends here, what comes out goes on
        assert device.hear(b"\n") == b"version\x1d\n"
        device.say(b"U-Boot\r\n")
        assert os.read(process.stdout.fileno(), 100) == b"U-Boot\r\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE_S) == 0
    assert log.read_bytes() == b"earlier\nU-Boot\r\n"


def test_a_second_one_is_told_who_writes_and_can_watch(
    on_terminal: "subprocess.Popen[str]",
    terminal: Terminal,
    device: SerialDevice,
    labctl_process: Process,
    labd: FakeLabd,
) -> None:
    in_raw_mode(terminal, device)
    held = ("--lease", next(iter(labd.leases)))
    with labctl_process("console", "bench-1", "linux", *held, "--holder", "bob") as second:
        assert second.stderr is not None
        assert second.wait(DEADLINE_S) == 65
        assert "console linux is in use: labctl console of " in second.stderr.read()
    watching = ("console", "bench-1", "linux", *held, "--watch", "--from-start", "--duration", "20s")
    with labctl_process(*watching) as watcher:
        assert watcher.stdout is not None
        assert os.read(watcher.stdout.fileno(), 4) == b"up\r\n"
        watcher.send_signal(signal.SIGINT)
        assert watcher.wait(DEADLINE_S) == 0


def test_the_log_of_the_lease_is_printed(
    on_terminal: "subprocess.Popen[str]",
    terminal: Terminal,
    device: SerialDevice,
    labctl_process: Process,
    labd: FakeLabd,
) -> None:
    in_raw_mode(terminal, device)
    terminal.type(b"ls\r")
    assert device.hear(b"\n") == b"ls\r\n"
    with labctl_process("trace", "console", "bench-1", "linux", "--lease", next(iter(labd.leases))) as process:
        said, _ = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0
    assert [line.split("Z ", 1)[1] for line in said.splitlines()] == ["< up", "> ls"]


def test_an_unknown_console_is_refused_before_the_bench_is_leased(labctl_process: Process, labd: FakeLabd) -> None:
    with labctl_process("console", "bench-1", "linus") as process:
        assert process.stderr is not None
        assert process.wait(DEADLINE_S) == 65
        assert "bench bench-1 has no console 'linus'; it has linux" in process.stderr.read()
    assert not labd.leases
