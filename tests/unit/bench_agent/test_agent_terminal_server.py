"""Consoles behind a terminal server."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bench_agent.client import BenchClient, BenchUnavailable
from tests.unit.bench_agent.harness import AgentFile, RunningAgent, bench_entry
from tests.unit.bench_agent.serial_device import DEADLINE_S
from tests.unit.bench_agent.terminal_server import TerminalServer
from tests.unit.bench_agent.test_agent_console import eventually

pytestmark = pytest.mark.filterwarnings("ignore:set(Daemon|Name)")  # pyserial 3.5 calls them for rfc2217


@pytest.fixture(params=["socket", "rfc2217"])
def server(request: pytest.FixtureRequest) -> Iterator[TerminalServer]:
    serving = TerminalServer(request.param)
    yield serving
    serving.close()


@pytest.fixture
def agent_file(tmp_path: Path, server: TerminalServer) -> AgentFile:
    entry = bench_entry("bench-1", ecus=False)
    entry["consoles"] = [{"name": "linux", "port": server.url, "baudrate": 19200, "parity": "even"}]
    return AgentFile(tmp_path, [entry])


def test_a_conversation(bench: BenchClient, running: RunningAgent, server: TerminalServer) -> None:
    eventually(lambda: running.health("bench-1") == "")
    with bench.console("linux") as linux:
        linux.send(b"\xff\x00ready\n")  # 0xFF is Telnet's escape
        assert linux.read_until("ready\n", DEADLINE_S).endswith("ready\n")
    if server.url.startswith("rfc2217"):
        assert (server.device.baudrate, server.device.parity) == (19200, "E")


@pytest.mark.parametrize("server", ["rfc2217"], indirect=True)
def test_lines_are_driven_by_who_writes_until_they_end_it_or_are_gone(
    bench: BenchClient, running: RunningAgent, server: TerminalServer
) -> None:
    eventually(lambda: running.health("bench-1") == "")
    with bench.console("linux").stream() as stream:
        stream.control(dtr=False, rts=False)
        eventually(lambda: (server.device.dtr, server.device.rts) == (False, False))
    eventually(lambda: (server.device.dtr, server.device.rts) == (True, True))


def test_a_server_that_hangs_up_is_told_and_opened_again(
    bench: BenchClient, running: RunningAgent, server: TerminalServer
) -> None:
    eventually(lambda: running.health("bench-1") == "")
    with bench.console("linux") as linux:
        linux.send("up\n")
        linux.expect("up", DEADLINE_S)
        with linux.watch() as watcher:
            server.hang_up()
            eventually(lambda: watcher.read(0) is None and watcher.fault.startswith("console linux: serial port"))
        eventually(lambda: running.health("bench-1") == "")
        linux.send("up again\n")
        linux.expect("up again", DEADLINE_S)


@pytest.mark.parametrize("server", ["socket"], indirect=True)  # pyserial's rfc2217 forgets what was not read by then
def test_last_words_come_before_the_news_of_the_end(
    bench: BenchClient, running: RunningAgent, server: TerminalServer
) -> None:
    eventually(lambda: running.health("bench-1") == "")
    with bench.console("linux").watch() as watcher:
        server.hang_up(b"last words")
        seen = b""
        while not watcher.fault or watcher.waiting:
            output = watcher.read(DEADLINE_S)
            seen += output.data if output is not None else b""
    assert seen == b"last words"


def test_a_server_that_is_gone_makes_the_bench_unhealthy(
    bench: BenchClient, running: RunningAgent, server: TerminalServer
) -> None:
    eventually(lambda: running.health("bench-1") == "")
    server.close()
    eventually(lambda: "console linux" in running.health("bench-1"))
    with pytest.raises(BenchUnavailable, match="console linux: serial port"):
        bench.console("linux").send("anybody?")
