import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bench_agent.client import (
    BenchClient,
    BenchUnavailable,
    ConsoleTimeout,
    InUse,
    InvalidRequest,
    NotFound,
)
from bench_agent.server import pattern_search
from tests.unit.bench_agent.harness import AgentFile, OpenBench, RunningAgent, bench_entry
from tests.unit.bench_agent.serial_device import DEADLINE_S, SerialDevice


@pytest.fixture
def device(tmp_path: Path) -> Iterator[SerialDevice]:
    device = SerialDevice(tmp_path / "ttyLinux")
    yield device
    device.unplug()


@pytest.fixture
def agent_file(tmp_path: Path, device: SerialDevice) -> AgentFile:
    entry = bench_entry("bench-1", ecus=False)
    entry["consoles"] = [
        {"name": "linux", "port": str(device.link), "newline": "\r"},
        {"name": "echo", "port": "loop://"},
    ]
    return AgentFile(tmp_path, [entry])


def eventually(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < end, "it never came so"
        time.sleep(0.01)


def test_a_conversation(bench: BenchClient, device: SerialDevice) -> None:
    with bench.console("linux") as linux:
        device.say(b"Linux 6.1\r\nbuild 1234\r\nlogin: ")
        found = linux.expect(r"build (\d+).*\s+(?P<prompt>login|sh)", DEADLINE_S)
        assert (found.groups, found.named, found.before) == (("1234", "login"), {"prompt": "login"}, "Linux 6.1\r\n")
        linux.send_line("root")
        assert device.hear(b"\r") == b"root\r"
        device.say("Gruß\nready # ".encode())
        assert linux.read_until("# ", DEADLINE_S) == ": Gruß\nready # "


def test_what_was_met_once_is_not_met_again(bench: BenchClient, device: SerialDevice) -> None:
    with bench.console("linux") as linux:
        device.say(b"# ")
        linux.expect("# ", DEADLINE_S)
        with pytest.raises(ConsoleTimeout):
            linux.expect("# ", 0.05)


def test_the_leftmost_of_several_patterns_counts(bench: BenchClient, device: SerialDevice) -> None:
    with bench.console("linux") as linux:
        device.say(b"panic then login: ")
        assert linux.expect(["login:", "panic"], DEADLINE_S).index == 1


def test_a_console_that_says_something_else_is_quoted(bench: BenchClient, device: SerialDevice) -> None:
    with bench.console("linux") as linux, bench.console("linux").watch() as seen:
        device.say(b"one\r\nKernel panic\xff\r\n")
        while (output := seen.read(DEADLINE_S)) is not None and b"panic" not in output.data:
            pass
        with pytest.raises(ConsoleTimeout, match=r"console linux: 'login:' did not come within 0\.3 s") as failure:
            linux.expect("login:", 0.3)
        assert failure.value.last_lines == ("one", "Kernel panic\\xff")


def test_a_long_output_is_searched_as_a_whole(bench: BenchClient, device: SerialDevice) -> None:
    """A match that is far behind the window of one search, while the output is still coming."""
    with bench.console("linux") as linux, ThreadPoolExecutor() as pool:
        said = pool.submit(device.say, b"x" * 300_000 + b"needle" + b"y" * 100_000)
        linux.expect("x{3}needle", 3 * DEADLINE_S)
        said.result(DEADLINE_S)


def test_one_writes_and_the_other_is_told_who(bench: BenchClient, device: SerialDevice) -> None:
    first, second = bench.console("linux", "labctl of alice"), bench.console("linux", "bob")
    first.open()
    with pytest.raises(InUse, match="console linux is in use: labctl of alice has opened it for writing"):
        second.open()
    with second.watch() as watcher:
        device.say(b"seen")
        output = watcher.read(DEADLINE_S)
        assert output is not None and output.data.startswith(b"s")
        with pytest.raises(InvalidRequest, match="only watches"):
            watcher.write(b"x")
            watcher.read(DEADLINE_S)
    first.close()
    eventually(lambda: _opens(second))


def _opens(console: object) -> bool:
    try:
        console.open()  # type: ignore[attr-defined]
    except InUse:
        return False
    return True


def test_a_reader_that_comes_back_goes_on_where_it_was(bench: BenchClient, device: SerialDevice) -> None:
    console = bench.console("linux")
    with console.watch() as first:
        device.say(b"0123456789")
        seen = b""
        while len(seen) < 10:
            output = first.read(DEADLINE_S)
            assert output is not None
            assert output.offset == first.offset + len(seen)
            seen += output.data
    device.say(b"meanwhile")
    with console.watch(from_start=True) as second:
        again = b""
        while len(again) < 19:
            output = second.read(DEADLINE_S)
            assert output is not None
            again += output.data
    assert again == b"0123456789meanwhile"


def test_unplugged_in_use_is_told_and_plugged_in_again_it_goes_on(
    bench: BenchClient, running: RunningAgent, device: SerialDevice
) -> None:
    with bench.console("linux") as linux:
        device.say(b"up\n")
        linux.expect("up", DEADLINE_S)
        device.unplug()
        eventually(lambda: "console linux" in running.health("bench-1"))
        with pytest.raises(BenchUnavailable, match="console linux: serial port"):
            linux.send("anybody?")
        with pytest.raises(ConsoleTimeout, match=r"serial port .*ttyLinux"):
            linux.expect("login", 0.05)
        device.plug()
        eventually(lambda: running.health("bench-1") == "")
        device.say(b"back again\n")
        linux.expect("back again", DEADLINE_S)


def test_the_next_lease_sees_nothing_of_the_last(open_bench: OpenBench, device: SerialDevice) -> None:
    first = open_bench(epoch=1)
    with first.console("linux") as linux:
        device.say(b"secret\n")
        linux.expect("secret", DEADLINE_S)
    second = open_bench(epoch=2)
    with second.console("linux") as linux:
        linux.open(from_start=True)
        device.say(b"fresh\n")
        assert linux.read_until("fresh", DEADLINE_S) == "fresh"


def test_the_log_has_both_directions_with_times(bench: BenchClient, device: SerialDevice) -> None:
    with bench.console("linux") as linux:
        device.say(b"login: root\r\n")
        linux.expect("root", DEADLINE_S)
        linux.send("whoami\n")
        device.hear(b"\n")
        linux.send_break(0.01)
        lines = b"".join(linux.log()).decode().splitlines()
    assert [line.split("Z ", 1)[1] for line in lines] == ["< login: root", "> whoami", "- break of 10 ms"]
    assert all(line.startswith("20") for line in lines)


def test_a_bad_pattern_is_named_with_its_place(bench: BenchClient) -> None:
    with (
        bench.console("linux") as linux,
        pytest.raises(InvalidRequest, match=r"pattern 'log\(in' .*unterminated subpattern at position 3: '\(in'"),
    ):
        linux.expect("log(in", 1)


def test_a_pattern_without_end_costs_only_its_owner(
    bench: BenchClient, device: SerialDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pattern_search, "SEARCH_S", 0.5)
    with bench.console("linux") as linux, bench.console("echo") as echo:
        device.say(b"a" * 40 + b"!\n")
        linux.expect("a", DEADLINE_S)
        refused: list[Exception] = []

        def hopeless() -> None:
            try:
                linux.expect("(a+)+$", DEADLINE_S)
            except InvalidRequest as error:
                refused.append(error)

        thread = threading.Thread(target=hopeless)
        thread.start()
        echo.send("still there\n")
        echo.expect("still there", DEADLINE_S)  # the agent answers meanwhile
        thread.join(DEADLINE_S)
        assert "backtracks" in str(refused[0])
        linux.expect("!", DEADLINE_S)


def test_an_unknown_console_suggests_the_nearest(bench: BenchClient) -> None:
    with pytest.raises(NotFound, match=r"no console 'linus'; did you mean linux\?"):
        bench.console("linus")


def test_modem_lines_of_a_pty_are_none(bench: BenchClient) -> None:
    with bench.console("linux").stream() as stream, pytest.raises(BenchUnavailable, match="has no modem lines"):
        stream.lines()
    with bench.console("echo").stream() as stream:
        stream.control(rts=False)
        assert not stream.lines().cts
        stream.control(rts=True)
        assert stream.lines().cts
