"""labd:// against a real agent with a device on a pty."""

import os
import pty
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import serial

from bench_agent.client import BenchClient
from labd.pyserial_handlers.protocol_labd import Serial
from tests.unit.bench_agent.conftest import signer, start_agent  # noqa: F401 - fixtures
from tests.unit.bench_agent.harness import AgentFile, RunningAgent, Signer, StartAgent, bench_entry
from tests.unit.bench_agent.serial_device import SerialDevice
from tests.unit.client.fake_labd import FakeLabd, make_bench

DEADLINE_S = 60.0
URL = "labd://bench-1/linux"

Open = Callable[..., Serial]


@pytest.fixture
def device(tmp_path: Path) -> Iterator[SerialDevice]:
    device = SerialDevice(tmp_path / "ttyLinux")
    yield device
    device.unplug()


@pytest.fixture
def agent_file(tmp_path: Path, device: SerialDevice) -> AgentFile:
    entry = bench_entry("bench-1", ecus=False)
    entry["consoles"] = [{"name": "linux", "port": str(device.link)}, {"name": "echo", "port": "loop://"}]
    return AgentFile(tmp_path, [entry])


@pytest.fixture
def agent(start_agent: StartAgent) -> RunningAgent:  # noqa: F811
    return start_agent()


@pytest.fixture(autouse=True)
def labd(agent: RunningAgent, signer: Signer, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeLabd]:  # noqa: F811
    with FakeLabd() as fake:
        fake.token = signer.token()
        fake.benches["bench-1"] = make_bench(address=agent.address)
        monkeypatch.setenv("LABD_URL", fake.url)
        monkeypatch.setenv("LABD_HOLDER", "tester")
        monkeypatch.delenv("LABD_LEASE", raising=False)
        monkeypatch.setattr(serial, "protocol_handler_packages", ["serial.urlhandler", "labd.pyserial_handlers"])
        fake.grant(fake.add_lease(holder="tester"))
        yield fake


@pytest.fixture
def opened() -> Iterator[Open]:
    ports: list[Serial] = []

    def open_one(url: str = URL, **settings: Any) -> Serial:
        port = serial.serial_for_url(url, **{"timeout": DEADLINE_S, **settings})
        assert isinstance(port, Serial)
        ports.append(port)
        return port

    yield open_one
    for port in ports:
        port.close()


def test_a_conversation(opened: Open, device: SerialDevice) -> None:
    port = opened(baudrate=115200)
    assert port.write(b"version\n") == 8
    assert device.hear(b"\n") == b"version\n"
    device.say(b"1.2\r\nready # ")
    assert port.readline() == b"1.2\r\n"
    assert port.read_until(b"# ") == b"ready # "


def test_timeouts(opened: Open, device: SerialDevice) -> None:
    port = opened(timeout=0)
    assert port.read(1) == b""
    device.say(b"abc")
    end = time.monotonic() + DEADLINE_S
    while port.in_waiting < 3:
        assert time.monotonic() < end
        time.sleep(0.01)
    assert (port.read(2), port.read(2), port.read(2)) == (b"ab", b"c", b"")
    port.timeout = 0.05
    began = time.monotonic()
    assert port.read(1) == b""
    assert time.monotonic() - began >= 0.05
    port.timeout, port.inter_byte_timeout = None, 0.05
    device.say(b"xyz")
    assert port.read(100) == b"xyz"  # for ever for the first, and briefly for each further
    port.timeout, port.inter_byte_timeout = DEADLINE_S, None
    device.say(b"gone")
    while port.in_waiting < 4:
        time.sleep(0.01)
    port.reset_input_buffer()
    assert port.in_waiting == 0


def test_a_read_without_end_can_be_cancelled(opened: Open, device: SerialDevice) -> None:
    port = opened(timeout=None)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(port.read(10)))
    reader.start()
    device.say(b"half")
    while port.in_waiting or not reader.is_alive():
        time.sleep(0.01)
    port.cancel_read()
    reader.join(DEADLINE_S)
    assert read in ([b"half"], [b""])  # cancelled before or after it came


def test_break_and_modem_lines(opened: Open, agent: RunningAgent, labd: FakeLabd) -> None:
    port = opened()
    port.send_break(0.01)
    with pytest.raises(serial.SerialException, match=r"call send_break\(duration\)"):
        port.break_condition = True
    with pytest.raises(serial.SerialException, match="has no modem lines"):
        assert port.cts
    with BenchClient(agent.address, "bench-1", labd.token) as bench:
        assert b"- break of 10 ms" in b"".join(bench.console("linux").log())
    echo = opened("labd://bench-1/echo")
    echo.rts = False
    assert (echo.cts, echo.dsr) == (False, True)


def test_one_writes_and_a_second_one_is_told_who_and_may_watch(opened: Open, device: SerialDevice) -> None:
    first = opened()
    with pytest.raises(serial.SerialException, match=r"console linux is in use: .* has opened it for writing"):
        opened()
    watcher = opened(f"{URL}?watch")
    device.say(b"seen\n")
    assert watcher.readline() == first.readline() == b"seen\n"
    with pytest.raises(serial.SerialException, match="only watches"):
        watcher.write(b"x")
    first.close()
    first.close()
    with pytest.raises(serial.PortNotOpenError):
        first.read()


def test_closed_it_can_be_opened_again(opened: Open, device: SerialDevice) -> None:
    port = opened()
    port.close()
    end = time.monotonic() + DEADLINE_S
    while not port.is_open:
        try:
            port.open()
        except serial.SerialException:  # the agent has not heard of the end yet
            assert time.monotonic() < end
    port.write(b"x")
    assert device.hear(b"x") == b"x"


def test_unplugged_is_an_error_after_what_came_before(opened: Open, device: SerialDevice) -> None:
    port = opened(timeout=None)
    device.say(b"last words")
    while port.in_waiting < 10:
        time.sleep(0.01)
    device.unplug()
    with pytest.raises(serial.SerialException, match="console linux: serial port"):
        while port.read(1):
            pass
    with pytest.raises(serial.SerialException, match="console linux: serial port"):
        port.read(1)
    with pytest.raises(serial.SerialException, match="console linux: serial port"):
        port.write(b"anybody?")


def test_the_end_of_the_lease_is_an_error_not_silence(opened: Open, agent: RunningAgent) -> None:
    port = opened(timeout=None)
    agent.fence(1)
    with pytest.raises(serial.SerialException, match="lease"):
        port.read(1)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("labd://bench-1", r"port is 'labd://bench-1'; it must be labd://BENCH/CONSOLE"),
        ("labd://bench-1/linux?hodler=bob", "there is no option 'hodler'"),
        ("labd://bench-1/linus", r"no console 'linus'; did you mean linux\?"),
        ("labd://bench-2/linux", "hold no lease of bench bench-2: nobody holds it"),
        ("labd://bench-1/linux?holder=bob", r"you \(bob\) hold no lease of bench bench-1: it is leased by tester"),
        ("labd://bench-1/linux?url=http://127.0.0.1:9", "127.0.0.1:9 cannot be reached"),
    ],
)
def test_what_cannot_be_opened_is_named(opened: Open, url: str, message: str) -> None:
    with pytest.raises(serial.SerialException, match=message):
        opened(url)


def test_miniterm_unchanged(device: SerialDevice) -> None:
    child, terminal = pty.fork()
    if child == 0:
        command = ["-m", "labd.pyserial_handlers", "serial.tools.miniterm", "--raw", URL]
        os.execve(sys.executable, [sys.executable, *command], os.environ)  # noqa: S606
    screen, end = b"", time.monotonic() + DEADLINE_S

    def until(text: bytes) -> None:
        nonlocal screen
        while text not in screen:
            ready, _, _ = select.select([terminal], [], [], max(end - time.monotonic(), 0))
            assert ready, screen
            screen += os.read(terminal, 4096)

    try:
        until(b"--- Miniterm on labd://bench-1/linux")
        os.write(terminal, b"ls\n")
        assert device.hear(b"\n").startswith(b"ls")
        device.say(b"bin etc\r\n")
        until(b"bin etc")
        os.write(terminal, b"\x1d")
        until(b"--- exit ---")
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        os.close(terminal)


def test_running_without_a_module_says_how() -> None:
    command = [sys.executable, "-m", "labd.pyserial_handlers"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=DEADLINE_S)
    assert done.returncode == 1
    assert "usage: python -m labd.pyserial_handlers MODULE" in done.stderr
