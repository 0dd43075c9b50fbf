"""Tools made for python-can, unchanged, on a leased bench: logger, player, viewer, udsoncan, can-isotp, cantools."""

import itertools
import os
import pty
import select
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

import can
import isotp
import pytest
import udsoncan
from can.typechecking import CanFilters
from udsoncan.client import Client
from udsoncan.connections import PythonIsoTpConnection

from deploy.demo.lab import DEMO_AGENT, ROOT, Lab, running_lab
from labd.client import LabClient, Lease
from labd.python_can import LabdBus

CHANNEL = "bench-1/powertrain"
DEADLINE_S = 90.0


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with running_lab(tmp_path_factory.mktemp("lab"), DEMO_AGENT) as running:
        running.wait_for_benches("bench-1")
        yield running


@pytest.fixture(scope="module")
def declared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for PYTHONPATH in which the entry points of pyproject.toml are installed, as they stand there now."""
    folder = tmp_path_factory.mktemp("site")
    info = folder / "labd_entry_points-0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: labd-entry-points\nVersion: 0\n")
    points = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["can.interface"]
    (info / "entry_points.txt").write_text(
        "[can.interface]\n" + "".join(f"{name} = {target}\n" for name, target in points.items())
    )
    return folder


@pytest.fixture
def lease(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lease]:
    with lab.client() as client:
        asked = client.create_lease(selector="name=bench-1", holder="tester", duration_s=600, ttl_s=120)
        lab.wait_for("lease", lambda: client.lease(asked["id"])["state"] == "GRANTED")
        monkeypatch.setenv("LABD_URL", lab.http)
        monkeypatch.setenv("LABD_HOLDER", "tester")
        monkeypatch.delenv("LABD_LEASE", raising=False)
        yield client.lease(asked["id"])
        client.release(asked["id"])
        lab.wait_for_benches("bench-1")


def environment(declared: Path) -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": f"{declared}{os.pathsep}{ROOT}",
        "TERM": "xterm",
        "LINES": "40",
        "COLUMNS": "120",
    }


def tool(declared: Path, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", *arguments], env=environment(declared), text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def identifiers(path: Path) -> list[int]:
    with can.LogReader(path) as reader:
        return [message.arbitration_id for message in reader]


def test_logger_and_player(lease: Lease, declared: Path, tmp_path: Path) -> None:
    drive = tmp_path / "drive.log"
    drive.write_text("".join(f"({number * 0.002:.6f}) can0 {0x500 + number:03X}#AA55\n" for number in range(50)))
    seen = tmp_path / "seen.log"
    # The player's frames are the agent's own on the bus.
    options = ("-i", "labd", "-c", CHANNEL, "--bus-kwargs", "receive_own_messages=True")
    with LabdBus(CHANNEL, receive_own_messages=True) as watch:
        logger = tool(declared, "can.logger", *options, "-f", str(seen))
        try:
            assert logger.stdout is not None
            while "Can Logger" not in (line := logger.stdout.readline()):
                assert line, f"the logger ended with {logger.wait()}"
            with tool(declared, "can.player", "-i", "labd", "-c", CHANNEL, str(drive)) as player:
                assert player.wait(DEADLINE_S) == 0, player.communicate()[0]
            wanted = (
                message for message in iter(lambda: watch.recv(DEADLINE_S), None) if message.arbitration_id >= 0x500
            )
            got = [message.arbitration_id for message in itertools.islice(wanted, 50)]
        finally:
            logger.send_signal(signal.SIGINT)
            said = logger.communicate(timeout=DEADLINE_S)[0]
    assert got == list(range(0x500, 0x500 + 50))
    logged = identifiers(seen)
    assert [one for one in logged if one >= 0x500] == got, said
    assert [one for one in logged if one < 0x500], "none of the ECU's own frames"


def test_udsoncan_over_can_isotp(lease: Lease) -> None:
    config = udsoncan.configs.default_client_config.copy()
    config["data_identifiers"] = {0xF190: udsoncan.AsciiCodec(17)}
    config["use_server_timing"] = False  # 50 ms are too few for a busy machine
    with LabdBus(CHANNEL) as bus:
        address = isotp.Address(isotp.AddressingMode.Normal_11bits, txid=0x7E0, rxid=0x7E8)
        stack = isotp.CanStack(bus, address=address, params={"tx_padding": 0xCC, "blocking_send": True})
        with Client(PythonIsoTpConnection(stack), config=config, request_timeout=10) as client:
            client.config["p2_timeout"] = 5
            assert client.change_session(3).positive
            response = client.read_data_by_identifier(0xF190)
            assert len(response.service_data.values[0xF190]) == 17
            with pytest.raises(udsoncan.exceptions.NegativeResponseException, match="OutOfRange"):
                client.config["data_identifiers"][0x1234] = udsoncan.AsciiCodec(1)
                client.read_data_by_identifier(0x1234)


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        (("can.viewer", "-i", "labd", "-c", CHANNEL), b"ID"),
        (("cantools", "monitor", "-i", "labd", "-c", CHANNEL, "dbc/powertrain.dbc"), b"EngineSpeed"),
    ],
    ids=["viewer", "cantools"],
)
def test_full_screen_tools(lease: Lease, declared: Path, command: Sequence[str], shown: bytes) -> None:
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(ROOT)
        os.execve(sys.executable, [sys.executable, "-m", *command], environment(declared))  # noqa: S606
    screen, deadline = b"", time.monotonic() + DEADLINE_S
    try:
        while shown not in screen:
            ready, _, _ = select.select([terminal], [], [], max(deadline - time.monotonic(), 0))
            assert ready, screen
            try:
                screen += os.read(terminal, 65536)
            except OSError:
                pytest.fail(f"{command[0]} ended: {screen.decode(errors='replace')}")
        os.write(terminal, b"q")
    finally:
        os.kill(child, signal.SIGKILL if shown not in screen else signal.SIGTERM)
        os.close(terminal)
        os.waitpid(child, 0)


def test_filters_work_on_the_agent_and_can_change(lease: Lease) -> None:
    only_status: CanFilters = [{"can_id": 0x7E8, "can_mask": 0x7FF, "extended": False}]
    with LabdBus(CHANNEL, can_filters=only_status) as bus:
        assert bus.recv(0.3) is None  # the ECU's cyclic frames do not pass
        bus.send(can.Message(arbitration_id=0x7E0, is_extended_id=False, data=bytes.fromhex("023E00CCCCCCCCCC")))
        answer = bus.recv(5)
        assert answer is not None
        assert (answer.arbitration_id, bytes(answer.data[:3])) == (0x7E8, bytes.fromhex("027E00"))
        assert abs(answer.timestamp - time.time()) < 60
        assert answer.is_rx
        bus.set_filters(None)
        cyclic = bus.recv(5)
        assert cyclic is not None
        assert cyclic.arbitration_id != 0x7E8
        assert bus.state is can.BusState.ACTIVE


def test_own_frames_are_told_when_asked_for(lease: Lease) -> None:
    own_only: CanFilters = [{"can_id": 0x500, "can_mask": 0x7FF}]
    with (
        LabdBus(CHANNEL, can_filters=own_only, receive_own_messages=True) as hears,
        LabdBus(CHANNEL, can_filters=own_only) as deaf,
    ):
        hears.send(can.Message(arbitration_id=0x500, is_extended_id=False, data=b"\x01"))
        own = hears.recv(5)
        assert own is not None
        assert not own.is_rx
        assert deaf.recv(0.2) is None


def test_periodic_sending(lease: Lease) -> None:
    with LabdBus(CHANNEL, receive_own_messages=True) as bus:
        bus.set_filters([{"can_id": 0x501, "can_mask": 0x7FF}])
        task = bus.send_periodic(can.Message(arbitration_id=0x501, is_extended_id=False), 0.02)
        assert all(bus.recv(5) is not None for _ in range(5))
        task.stop()


def test_what_cannot_be_opened_or_sent_is_named(lab: Lab, lease: Lease, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="channel is 'bench-1'; it must be BENCH/BUS"):
        LabdBus("bench-1")
    with pytest.raises(can.CanInitializationError, match="bench-1 has no bus 'body'; it has powertrain"):
        LabdBus("bench-1/body")
    with pytest.raises(can.CanInitializationError, match="hold no lease of bench bench-2: nobody holds it"):
        LabdBus("bench-2/powertrain")
    with pytest.raises(can.CanInitializationError, match=r"you \(bob\) hold no lease .* leased by tester"):
        LabdBus(CHANNEL, holder="bob")
    with pytest.raises(can.CanInitializationError, match=r"127\.0\.0\.1:9 cannot be reached"):
        LabdBus(CHANNEL, url="http://127.0.0.1:9")
    with LabdBus(CHANNEL) as bus:
        with pytest.raises(can.CanOperationError, match="CAN FD"):
            bus.send(can.Message(arbitration_id=1, is_fd=True, data=bytes(12)))
        with pytest.raises(can.CanOperationError, match="error frame"):
            bus.send(can.Message(is_error_frame=True))
    with LabdBus(CHANNEL, address=lease["address"], token=lease.get("token")) as bus:
        assert bus.recv(5) is not None
    monkeypatch.setenv("LABD_LEASE", "L-unknown")
    with pytest.raises(can.CanInitializationError, match="L-unknown"):
        LabdBus(CHANNEL)


def test_the_end_of_the_lease_is_an_error_not_silence(lab: Lab, lease: Lease) -> None:
    with LabClient(lab.http) as client, LabdBus(CHANNEL) as bus:
        client.release(lease["id"])
        with pytest.raises(can.CanOperationError, match="lease"):
            while bus.recv(DEADLINE_S) is not None:
                pass
        assert bus.state is can.BusState.ERROR


def test_buses_of_leased_benches_are_detected(lease: Lease) -> None:
    assert {"interface": "labd", "channel": CHANNEL} in LabdBus._detect_available_configs()
