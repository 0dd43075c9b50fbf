"""The Lua modules serial and power against a real agent with a pty and a supply behind a TCP port."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench_agent.client import BenchClient
from tests.unit.bench_agent.harness import AgentFile, OpenBench, bench_entry
from tests.unit.bench_agent.serial_device import SerialDevice
from tests.unit.scenarios.conftest import Play, Played
from tests.unit.scenarios.conftest import play as play_script  # noqa: F401 - a fixture
from tests.unit.scpi_supply import FakeScpiSupply

Run = Callable[[str], Played]


@pytest.fixture
def device(tmp_path: Path) -> Iterator[SerialDevice]:
    device = SerialDevice(tmp_path / "ttyLinux")
    yield device
    device.unplug()


@pytest.fixture
def supply() -> Iterator[FakeScpiSupply]:
    fake = FakeScpiSupply()
    yield fake
    fake.close()


@pytest.fixture
def agent_file(tmp_path: Path, device: SerialDevice, supply: FakeScpiSupply) -> AgentFile:
    entry = bench_entry("bench-1", ecus=False)
    entry["consoles"] = [{"name": "linux", "port": str(device.link)}]
    channels = {"kl30": {"output": 1, "voltage": 13.5, "current_limit": 5}, "kl15": {"output": 2}}
    entry["power"] = [
        {"name": "main", "driver": "scpi", "port": supply.port, "dialect": "nsel", "poll_s": 60, "channels": channels}
    ]
    return AgentFile(tmp_path, [entry])


@pytest.fixture
def run(play_script: Play, bench: BenchClient) -> Callable[[str], Played]:  # noqa: F811
    needed = "\n".join(f'local {name} = require("{name}")' for name in ("test", "serial", "power"))
    return lambda script: play_script(f'{needed}\ntest.case("it", function()\n{script}\nend)', bench=bench)


@pytest.fixture
def answering(device: SerialDevice) -> Iterator[SerialDevice]:
    """Boots when it is told "go"."""

    def boot() -> None:
        device.hear(b"go\n")
        device.say(b"boot build 12 debug ready\n# ")

    thread = threading.Thread(target=boot)
    thread.start()
    yield device
    thread.join(10)


def steps(played: Played) -> list[str]:
    return [step["text"] for step in played.case["steps"]]


def test_what_is_sent(run: Run, device: SerialDevice) -> None:
    played = run("""
        local con = serial.console()
        con:send_line("version")
        con:send_bytes("1B 03")
        con:send_break("10ms")
        con:close()
    """)
    assert device.hear(b"\x03") == b"version\n\x1b\x03"
    assert steps(played) == ["linux <- 'version'", "linux <- 1B 03", "linux <- break of 10 ms"]


def test_what_is_expected_and_captured(run: Run, answering: SerialDevice) -> None:
    played = run("""
        local con = serial.console("linux", { from_start = true })
        con:send("go\\n")
        local text, captures, before, which = con:expect({ "panic", [[build (\\d+) (?P<flavour>\\w+)]] }, "10s")
        test.equal(captures[1], "12")
        test.equal(captures.flavour, "debug")
        test.equal(text .. before, "build 12 debugboot ")
        test.equal(which, 2)
        test.equal(con:read_until("# ", "10s"), " ready\\n# ")
    """)
    assert played.verdict == "passed", played.failure


def test_a_failing_expect_shows_the_last_lines(run: Run, answering: SerialDevice) -> None:
    played = run("""
        local con = serial.console("linux")
        con:send("go\\n")
        con:expect("ready\\n# ", "10s")
        con:expect("login:", "50ms")
    """)
    assert played.verdict == "failed"
    assert played.failure["message"] == (
        "console linux: 'login:' did not come within 0.05 s; the last lines:\n  boot build 12 debug ready\n  # "
    )


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ('serial.console("linus")', "bench bench-1 has no console 'linus'; did you mean linux?"),
        ('serial.console("linux"):expect("(")', "no regular expression: missing ), unterminated subpattern"),
        ('serial.console("linux", { from = 1 })', 'unknown option "from"; there is from_start'),
        ('power.channel("kl30"):set{ voltage = 20 }', "voltage is 20 V; channel kl30 is limited to 13.5 V"),
        ('power.channel("kl30"):set{ volt = 20 }', "unknown setting 'volt'; there are voltage and current"),
        ('power.channel("kl31"):on()', "no power channel 'kl31'; did you mean kl30"),
        ('power.profile("cranking")', "there is no power profile 'cranking'"),
        ("power.ignition()", "power.ignition is nil; it must be true or false"),
    ],
)
def test_a_bad_call_is_an_error_that_says_what_would_be_right(run: Run, script: str, message: str) -> None:
    played = run(script)
    assert played.verdict == "error"
    assert message in played.failure["message"]


def test_the_bench_tells_what_it_carries(run: Run, device: SerialDevice) -> None:
    played = run("""
        local bench = require("bench")
        test.equal(bench.consoles[1].name, "linux")
        test.equal(bench.consoles[1].baudrate, 115200)
        test.equal(bench.power[2].name, "kl15")
        test.equal(bench.power[1].supply .. " " .. bench.power[1].terminal, "main kl30")
        test.equal(#bench.power, 2)
        test.equal(#bench.adapters, 0)
    """)
    assert played.verdict == "passed", played.failure


def test_a_console_that_somebody_else_writes_to_is_an_error_that_names_them(
    run: Run, open_bench: OpenBench, device: SerialDevice
) -> None:
    with open_bench().console("linux", "labctl console of bob"):
        played = run('serial.console("linux"):send_line("mine")')
    assert played.verdict == "error"
    assert "console linux is in use: labctl console of bob has opened it" in played.failure["message"]


def test_a_supply_that_answers_nonsense_is_an_error_with_its_words(run: Run, supply: FakeScpiSupply) -> None:
    supply.nonsense["MEAS:VOLT?"] = b"???\n"
    played = run('power.channel("kl30"):measure()')
    assert played.verdict == "error"
    assert "answered 'MEAS:VOLT?' with '???'; expected a number" in played.failure["message"]


def test_power(run: Run, supply: FakeScpiSupply) -> None:
    played = run("""
        local kl30 = power.channel("kl30")
        test.equal(kl30:on().state, "on")
        power.ignition(true)
        kl30:set{ voltage = 9, current = 2 }
        local now = kl30:measure()
        test.near(now.voltage, 9, 0.01)
        test.near(now.current, 0.25, 0.01)
        kl30:cycle("10ms")
        local played = kl30:profile({ { 0, 12 }, { 40, 6 }, { 80, 12 } }, "20ms")
        test.equal(played.steps + played.skipped, 5)
        test.equal(power.channels()[2].state, "on")
        kl30:off()
    """)
    assert played.verdict == "passed", played.failure
    assert supply.outputs[1].history[:4] == ["off", "13.5", "on", "9"]
    assert "power kl30 measured: 9 V, 0.25 A" in steps(played)
