"""Power, console and lasting memory of the simulated ECU."""

import asyncio
import json
import multiprocessing
import os
import queue
import signal
from collections.abc import Callable
from pathlib import Path

import can
import pytest
import serial

from ecu_adapters.bus import BusHub
from ecu_adapters.dbc import Database
from ecu_adapters.description import EcuDescription, load_ecu
from ecu_adapters.simulation import Power
from ecu_adapters.simulator import SimulatedEcu, VirtualClock
from ecu_adapters.simulator.memory import Range
from ecu_adapters.simulator.nvm import NvmError, NvmFolder
from ecu_adapters.simulator.power_input import PowerSwitch
from ecu_adapters.simulator.pty_port import PtyPort
from ecu_adapters.simulator.shell import Shell
from ecu_adapters.uds.tester import UdsTester, UdsTimeout
from ecu_adapters.yaml_file import ConfigError

pytestmark = pytest.mark.anyio

Hubs = tuple[BusHub, BusHub]
WAIT_S = 30.0
POWERTRAIN = Database.load(Path(__file__).parents[3] / "dbc" / "powertrain.dbc")
HEAD = "name: ECM\naddressing: {request_id: 0x7E0, response_id: 0x7E8}\ntiming: {p2_ms: 20, transit_ms: 50}\n"


async def until(condition: Callable[[], bool]) -> None:
    """Fails when it does not come true."""
    async with asyncio.timeout(WAIT_S):
        while True:
            if condition():
                return
            await asyncio.sleep(0.002)


def test_brown_out_has_a_hysteresis() -> None:
    told: list[bool] = []
    switch = PowerSwitch(Power(brown_out_v=6, on_v=7), told.append, told.append)
    for volts in (12, 6.5, 6.0, 5.9, 6.5, 6.9, 7.0, 3, 0, 13):
        switch.set_voltage("kl30", volts)
    assert told == [False, True, False, True]


async def test_without_power_there_is_silence_and_with_it_a_new_start(hubs: Hubs, write: Callable[[str], Path]) -> None:
    ecu = load_ecu(
        write(
            HEAD
            + """\
dids: {Code: {did: 1, type: uint, length: 1, write: {}}}
dtcs: [{code: P0301, status: 0x2F}]
cyclic: [{message: EngineInfo, period_ms: 10}]
simulation: {power: {boot_ms: 50}}
"""
        )
    )
    simulated = SimulatedEcu(ecu, hubs[1], POWERTRAIN)
    await simulated.start()
    tester = UdsTester(hubs[0], ecu)
    await tester.request(b"\x10\x03", timeout_s=WAIT_S)
    await tester.request(b"\x2e\x00\x01\x2a", timeout_s=WAIT_S)
    simulated.power.set_voltage("kl30", 0)
    sent = simulated.cyclic["EngineInfo"].stats.sent
    with pytest.raises(UdsTimeout):
        await tester.request(b"\x22\x00\x01", timeout_s=WAIT_S)
    assert simulated.cyclic["EngineInfo"].stats.sent == sent
    # No flow control either: the transport is off, too.
    with pytest.raises(Exception, match="flow control"):
        await tester.request(b"\x22" + b"\x00\x01" * 10, timeout_s=WAIT_S)
    simulated.power.set_voltage("kl30", 12)
    assert simulated.server.booting
    await until(lambda: not simulated.server.booting)
    assert (await tester.request(b"\x22\x00\x01", timeout_s=WAIT_S)).response == b"\x62\x00\x01\x2a"
    assert simulated.server.state.session == 1
    assert simulated.server.state.dtcs.status(0x030100) == 0x6D, "a new operation cycle has begun"
    await until(lambda: simulated.cyclic["EngineInfo"].stats.sent > sent)
    await tester.close()
    await simulated.stop()


async def test_the_ignition_wakes_the_application_and_begins_a_cycle(hubs: Hubs, write: Callable[[str], Path]) -> None:
    text = "dtcs: [{code: P0301, status: 0x2F}]\ncyclic: [{message: EngineInfo, period_ms: 10}]\n"
    ecu = load_ecu(write(HEAD + text + "simulation: {power: {kl15: ignition}}\n"))
    simulated = SimulatedEcu(ecu, hubs[1], POWERTRAIN, clock=(clock := VirtualClock()))
    await simulated.start()
    simulated.power.set_voltage("kl15", 0)
    sent = simulated.cyclic["EngineInfo"].stats.sent
    clock.advance(1)
    assert simulated.cyclic["EngineInfo"].stats.sent == sent
    assert simulated.server.state.dtcs.status(0x030100) == 0x2F
    simulated.power.set_voltage("kl15", 12)
    clock.advance(1)
    assert simulated.cyclic["EngineInfo"].stats.sent == sent + 100
    assert simulated.server.state.dtcs.status(0x030100) == 0x6D
    await simulated.stop()


async def test_data_identifiers_carry_the_voltage(hubs: Hubs, write: Callable[[str], Path]) -> None:
    ecu = load_ecu(
        write(
            HEAD
            + """\
dids:
  Fine: {did: 1, type: uint, length: 2, scale: 0.001, unit: V}
  Coarse: {did: 2, type: uint, length: 1, scale: 0.1, unit: V}
simulation: {power: {measured: [Fine, Coarse]}}
"""
        )
    )
    simulated = SimulatedEcu(ecu, hubs[1], volts={"kl30": 13.4999})
    await simulated.start()
    data = simulated.server.state.data
    assert (data.read(1), data.read(2)) == ((13500).to_bytes(2, "big"), b"\x87")
    simulated.power.set_voltage("kl30", 40)
    assert (data.read(1), data.read(2)) == ((40000).to_bytes(2, "big"), b"\x87"), "40 V do not fit one byte"
    await simulated.stop()


@pytest.mark.parametrize(
    ("measured", "message"),
    [("Fin", r"unknown data identifier 'Fin'; did you mean Fine\?"), ("Name", "Name is of type ascii; a voltage is")],
)
async def test_what_cannot_carry_a_voltage_is_named(write: Callable[[str], Path], measured: str, message: str) -> None:
    dids = "dids: {Fine: {did: 1, type: uint, length: 2}, Name: {did: 2, type: ascii, length: 1}}\n"
    with pytest.raises(ConfigError, match=message):
        load_ecu(write(f"{HEAD}{dids}simulation: {{power: {{measured: [{measured}]}}}}\n"))


async def test_flash_is_written_only_within_the_voltages_for_it(hubs: Hubs, write: Callable[[str], Path]) -> None:
    ecu = load_ecu(write(HEAD + "memory: {programming_v: [9, 16], regions: {flash: {address: 0x1000, size: 64}}}\n"))
    simulated = SimulatedEcu(ecu, hubs[1], volts={"kl30": 8.9})
    await simulated.start()
    tester = UdsTester(hubs[0], ecu)
    for request in ("10 03", "34 00 22 1000 0010"):
        await tester.request(bytes.fromhex(request), timeout_s=WAIT_S)
    block = b"\x36\x01" + bytes(16)
    for volts, response in ((None, "7F 36 93"), (16.1, "7F 36 92"), (12.0, "76 01")):
        if volts is not None:
            simulated.power.set_voltage("kl30", volts)
        assert (await tester.request(block, timeout_s=WAIT_S)).response == bytes.fromhex(response)
    await tester.close()
    await simulated.stop()


async def test_communication_control_stops_the_cyclic_frames(hubs: Hubs, write: Callable[[str], Path]) -> None:
    ecu = load_ecu(write(HEAD + "cyclic: [{message: EngineInfo, period_ms: 10}]\n"))
    simulated = SimulatedEcu(ecu, hubs[1], POWERTRAIN, clock=(clock := VirtualClock()))
    await simulated.start()
    heard: queue.Queue[can.Message] = queue.Queue()
    hubs[0].subscribe(heard.put, ids={POWERTRAIN.can_id("EngineInfo")})
    simulated.server.receive(b"\x10\x03")
    simulated.server.receive(b"\x28\x01\x01")
    sent = simulated.cyclic["EngineInfo"].stats.sent
    clock.advance(4.9)
    assert simulated.cyclic["EngineInfo"].stats.sent == sent
    clock.advance(0.2)
    assert simulated.server.state.session == 1
    assert simulated.cyclic["EngineInfo"].stats.sent > sent, "S3 has ended the session and brought the frames back"
    await simulated.stop()


async def test_messages_that_stay_away_or_go_astray_set_trouble_codes(hubs: Hubs, write: Callable[[str], Path]) -> None:
    ecu = load_ecu(
        write(
            HEAD
            + """\
dtcs:
  - {code: U0100, status: 0, monitor: {message: EngineControl, timeout_ms: 200}}
  - {code: P0219, status: 0, monitor: {message: EngineControl, signal: TargetSpeed, max: 5000}}
"""
        )
    )
    simulated = SimulatedEcu(ecu, hubs[1], POWERTRAIN, clock=(clock := VirtualClock()))
    await simulated.start()
    dtcs = simulated.server.state.dtcs

    async def send(speed: float) -> None:
        before = hubs[1].stats.received
        hubs[0].send(POWERTRAIN.encode("EngineControl", {"TargetSpeed": speed}))
        await until(lambda: hubs[1].stats.received > before)
        clock.advance(0.1)

    await send(800)
    assert (dtcs.status(0xC10000), dtcs.status(0x021900)) == (0, 0)
    await send(6000)
    assert (dtcs.status(0xC10000) & 1, dtcs.status(0x021900) & 1) == (0, 1)
    clock.advance(0.3)
    assert dtcs.status(0xC10000) & 1
    await send(800)
    assert (dtcs.status(0xC10000) & 1, dtcs.status(0x021900) & 1) == (0, 0)
    await simulated.stop()


CONSOLE = """\
dtcs: [{code: P0301, status: 0x2F}]
simulation:
  reset_ms: 10
  console:
    prompt: "ECM> "
    version: ECM 1.2.3
    boot: [{text: "Boot ROM v1"}, {text: "Application starts", after_ms: 20}]
"""


async def test_the_console_is_a_serial_port_with_a_boot_log(hubs: Hubs, write: Callable[[str], Path]) -> None:
    port = PtyPort()
    simulated = SimulatedEcu(load_ecu(write(HEAD + CONSOLE)), hubs[1], port=port)
    # As with a real ECU: who wants the boot log whole listens before power comes.
    line = await asyncio.to_thread(lambda: serial.Serial(port.path, timeout=WAIT_S))
    await simulated.start()
    assert simulated.serial_port == port.path

    def talk() -> list[bytes]:
        with line:
            said = [line.read_until(b"ECM> ")]
            for command in (b"version\r", b"dtc\r", b"nonsense\r", b"reset\r"):
                line.write(command)
                said.append(line.read_until(b"ECM> "))
            said.append(line.read_until(b"ECM> "))
        return said

    boot, version, dtc, nonsense, reset, again = await asyncio.to_thread(talk)
    assert boot == b"Boot ROM v1\r\nApplication starts\r\nECM> "
    assert version == b"version\r\nECM 1.2.3\r\nECM> "
    assert b"P0301 2F" in dtc
    assert b"unknown command 'nonsense'; known: dtc, help, reset, version" in nonsense
    assert b"resetting" in reset
    assert again == boot
    await simulated.stop()
    port.close()
    port.close()


async def test_a_console_that_nobody_reads_drops_and_counts() -> None:
    port = PtyPort()
    for _ in range(40):
        port.write(b"x" * 4096)
    assert port.dropped > 0
    port.close()
    port.write(b"x")


def test_the_shell_knows_backspace_and_bounds_its_line() -> None:
    shell = Shell({"ok": lambda: "fine\nindeed"}, "$ ", echo=False)
    assert shell.feed(b"oj\x7fk\n") == b"fine\r\nindeed\r\n$ "
    assert shell.feed(b"\n") == b"$ "
    assert len(shell.feed(b"z" * 5000 + b"\r")) < 400


LASTING = """\
dids: {Code: {did: 1, type: uint, length: 1, write: {}}}
dtcs: [{code: P0301, status: 0}]
security: {1: {algorithm: xor, key: A5, attempts: 1, delay_s: 100}}
memory:
  regions:
    flash: {address: 0x1000, size: 64}
    eeprom: {address: 0x2000, size: 4, kind: eeprom}
    ram: {address: 0x3000, size: 4, kind: ram, fill: 0}
simulation: {nvm: keep}
"""


async def ask(hub: BusHub, ecu: EcuDescription, *requests: str) -> None:
    """One after the other, whatever is answered."""
    tester = UdsTester(hub, ecu)
    for request in requests:
        await tester.request(bytes.fromhex(request), timeout_s=WAIT_S)
    await tester.close()


async def test_lasting_memory_outlives_the_ecu(hubs: Hubs, write: Callable[[str], Path], tmp_path: Path) -> None:
    ecu = load_ecu(write(HEAD + LASTING))
    first = SimulatedEcu(ecu, hubs[1], nvm=tmp_path / "nvm")
    await first.start()
    await ask(
        hubs[0],
        ecu,
        "2E 0001 2A",
        "3D 22 1000 0002 CAFE",
        "3D 22 2000 0001 EE",
        "3D 22 3000 0001 33",
        "10 03",
        "27 01",
        "27 02 00000000",
    )
    first.server.state.dtcs.failed(0x030100)
    await first.stop()
    second = SimulatedEcu(ecu, hubs[1], nvm=tmp_path / "nvm")
    await second.start()
    state = second.server.state
    assert state.data.read(1) == b"\x2a"
    assert state.dtcs.status(0x030100) == 0x2F
    assert state.seeds.is_locked_out(1)
    assert state.memory.read(Range(0x1000, 3)) == b"\xca\xfe\xff"
    assert state.memory.read(Range(0x2000, 1)) == b"\xee"
    assert state.memory.read(Range(0x3000, 1)) == b"\x00"
    await second.stop()


async def test_a_positive_answer_means_that_it_is_written(
    hubs: Hubs, write: Callable[[str], Path], tmp_path: Path
) -> None:
    ecu = load_ecu(write(HEAD + LASTING))
    simulated = SimulatedEcu(ecu, hubs[1], nvm=tmp_path / "nvm")
    await simulated.start()
    tester = UdsTester(hubs[0], ecu)
    for value in range(20):
        request = bytes((0x2E, 0, 1, value))
        assert (await tester.request(request, timeout_s=WAIT_S)).response == b"\x6e\x00\x01"
        kept, _ = NvmFolder(tmp_path / "nvm").load()
        assert kept is not None
        assert kept["data"].get("1", "00") == f"{value:02x}"
    (tmp_path / "nvm" / "state.json").unlink()
    (tmp_path / "nvm" / "state.json").mkdir()
    (tmp_path / "nvm" / "state.json" / "in the way").touch()
    refused = await tester.request(b"\x2e\x00\x01\xff", timeout_s=WAIT_S)
    assert refused.response == b"\x7f\x2e\x72", "what could not be written is no success"
    assert simulated.memory_fault is not None
    (tmp_path / "nvm" / "state.json" / "in the way").unlink()
    (tmp_path / "nvm" / "state.json").rmdir()
    assert (await tester.request(b"\x2e\x00\x01\xfe", timeout_s=WAIT_S)).response == b"\x6e\x00\x01"
    assert simulated.memory_fault is None
    await tester.close()
    await simulated.stop()


async def test_it_survives_a_changed_description(hubs: Hubs, write: Callable[[str], Path], tmp_path: Path) -> None:
    ecu = load_ecu(write(HEAD + LASTING))
    first = SimulatedEcu(ecu, hubs[1], nvm=tmp_path)
    await first.start()
    await ask(hubs[0], ecu, "2E 0001 2A", "3D 22 1000 0002 CAFE")
    await first.stop()
    other = LASTING.replace("length: 1", "length: 2").replace("P0301", "P0302").replace("size: 64", "size: 32")
    second = SimulatedEcu(load_ecu(write(HEAD + other)), hubs[1], nvm=tmp_path)
    await second.start()
    assert second.server.state.data.read(1) == b"\0\0"
    assert second.server.state.memory.read(Range(0x1000, 1)) == b"\xff"
    await second.stop()


async def test_what_is_no_lasting_memory_is_said(hubs: Hubs, write: Callable[[str], Path], tmp_path: Path) -> None:
    ecu = load_ecu(write(HEAD + LASTING))
    for content, message in (("nonsense", "not JSON"), ("[]", "not a JSON object"), ('{"data": 1}', "what was kept")):
        (tmp_path / "state.json").write_text(content)
        with pytest.raises(NvmError, match=message):
            await SimulatedEcu(ecu, hubs[1], nvm=tmp_path).start()


def _write_for_ever(folder: str) -> None:
    nvm = NvmFolder(Path(folder))
    number = 0
    while True:
        number += 1
        nvm.save({"number": number}, {"flash": bytes((number & 0xFF,)) * 200_000})


def test_a_killed_writer_leaves_whole_files(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    for _ in range(3):
        writer = context.Process(target=_write_for_ever, args=(str(tmp_path),))
        writer.start()
        while not (tmp_path / "state.json").exists():
            assert writer.is_alive()
        assert writer.pid is not None
        os.kill(writer.pid, signal.SIGKILL)
        writer.join(WAIT_S)
        document, regions = NvmFolder(tmp_path).load()
        assert document is not None
        assert json.loads((tmp_path / "state.json").read_text()) == document
        assert len(set(regions["flash"])) == 1
        assert len(regions["flash"]) == 200_000
