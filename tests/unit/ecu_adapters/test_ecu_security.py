"""Where keys come from: installed algorithms and commands; and that nobody but the ECU gets to see one."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ecu_adapters.bus import BusHub
from ecu_adapters.description import load_ecu
from ecu_adapters.simulator import SimulatedEcu
from ecu_adapters.uds import secret, security, services
from ecu_adapters.uds.key_command import key_from
from ecu_adapters.uds.services import NegativeResponse, UdsInvalid
from ecu_adapters.uds.tester import UdsTester
from ecu_adapters.yaml_file import ConfigError

Hubs = tuple[BusHub, BusHub]
Write = Callable[[str], Path]
WAIT_S = 30.0
HEAD = "name: ECM\naddressing: {request_id: 0x7E0, response_id: 0x7E8}\ntiming: {transit_ms: 500}\n"
SECRET = "5EC2E700"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package with algorithms."""
    site = tmp_path / "site"
    info = site / "acme_keys-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "acme_keys.py").write_text(
        "def rotate(secret, seed, level):\n"
        "    return bytes((a + b + level) & 0xFF for a, b in zip(secret, seed))\n"
        "def leaky(secret, seed, level):\n"
        "    raise RuntimeError(secret.hex())\n"
        "def text(secret, seed, level):\n"
        "    return 'AA'\n"
        "number = 7\n"
    )
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-keys\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        f"[{security.GROUP}]\nacme = acme_keys:rotate\nacme-leaky = acme_keys:leaky\nacme-text = acme_keys:text\n"
        "acme-number = acme_keys:number\nacme-absent = acme_absent:nothing\n"
    )
    monkeypatch.syspath_prepend(str(site))
    security.algorithm.cache_clear()
    yield
    security.algorithm.cache_clear()
    sys.modules.pop("acme_keys", None)


def _script(folder: Path, body: str) -> Path:
    path = folder / "seedkey"
    path.write_text(f"#!{sys.executable}\nimport os, sys, time\n{body}\n")
    path.chmod(0o755)
    return path


@pytest.mark.anyio
@pytest.mark.usefixtures("installed")
async def test_an_installed_algorithm_serves_tester_and_simulated_ecu(hubs: Hubs, write: Write) -> None:
    ecu = load_ecu(write(HEAD + f"security: {{3: {{algorithm: acme, key: {SECRET}}}}}"))
    assert ecu.security[3].key_for(bytes(4), 3) == bytes((0x61, 0xC5, 0xEA, 0x03))
    simulated = SimulatedEcu(ecu, hubs[1])
    await simulated.start()
    tester = UdsTester(hubs[0], ecu)
    try:
        await services.call(tester, "session", {"session": "extended"}, timeout_s=WAIT_S)
        await services.call(tester, "unlock", {"level": 3}, timeout_s=WAIT_S)
        assert (await services.call(tester, "seed", {"level": 3}, timeout_s=WAIT_S)).result == bytes(4)
    finally:
        await tester.close()
        await simulated.stop()


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("acne", "unknown algorithm 'acne'; did you mean acme"),
        ("acme-absent", "cannot be loaded: No module named 'acme_absent'"),
        ("acme-number", "is no function of secret, seed and level"),
    ],
)
def test_algorithms_that_cannot_be_used_are_found_with_the_file(write: Write, name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        load_ecu(write(HEAD + f"security: {{3: {{algorithm: {name}, key: {SECRET}}}}}"))
    assert SECRET.lower() not in str(caught.value).lower()


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("name", "message"), [("acme-leaky", "raised RuntimeError$"), ("acme-text", "returned no bytes$")]
)
def test_what_an_algorithm_says_is_not_passed_on(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        security.algorithm(name)(bytes.fromhex(SECRET), bytes(4), 1)
    assert SECRET.lower() not in str(caught.value)


@pytest.mark.anyio
async def test_a_command_gets_seed_and_level_and_gives_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABD_TOKEN", "agents-own")
    body = "seed = bytes.fromhex(sys.stdin.read())\nassert 'LABD_TOKEN' not in os.environ, os.environ\n"
    path = _script(tmp_path, body + "print(bytes(b ^ int(sys.argv[1]) for b in seed).hex())")
    assert await key_from([str(path), "{level}"], b"\x01\x02", 5, WAIT_S) == b"\x04\x07"


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("body", "timeout_s", "message"),
    [
        (
            "sys.stderr.write('5EC2E7')\nprint('5EC2E7')\nsys.exit(3)",
            WAIT_S,
            "ended with exit code 3; its",
        ),
        ("print('5EC2E7 or so')", WAIT_S, "printed 13 bytes that are no hexadecimal text"),
        ("", WAIT_S, "printed no key"),
        ("os.fork() or time.sleep(60)\ntime.sleep(60)", 0.5, "did not end within 0.5 s"),
        ("print('00' * 100000)", WAIT_S, "printed no key"),
    ],
)
async def test_commands_that_fail_say_how_and_nothing_else(
    tmp_path: Path, body: str, timeout_s: float, message: str
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        await key_from([str(_script(tmp_path, body))], b"\x01", 1, timeout_s)
    assert "5EC2E7" not in str(caught.value)


@pytest.mark.anyio
async def test_a_command_unlocks_an_ecu(hubs: Hubs, write: Write, tmp_path: Path) -> None:
    _script(tmp_path, "print(bytes(b ^ 0xA5 for b in bytes.fromhex(sys.stdin.read())).hex())")
    path = write(HEAD + "security: {1: {algorithm: xor, key: A5, command: [./seedkey]}}")
    ecu = load_ecu(path)
    assert ecu.security[1].command == [str(tmp_path / "seedkey")]
    simulated = SimulatedEcu(ecu, hubs[1])
    await simulated.start()
    tester = UdsTester(hubs[0], ecu)
    try:
        await services.call(tester, "session", {"session": "extended"}, timeout_s=WAIT_S)
        await services.call(tester, "unlock", {"level": 1}, timeout_s=WAIT_S)
        _script(tmp_path, "print('5EC2E700')")
        await services.call(tester, "session", {"session": "extended"}, timeout_s=WAIT_S)
        with pytest.raises(NegativeResponse) as refused:
            await services.call(tester, "unlock", {"level": 1}, timeout_s=WAIT_S)
        assert refused.value.nrc_name == "invalidKey"
        _script(tmp_path, "sys.exit(1)")
        with pytest.raises(UdsInvalid, match=r"key for level 1: command .*seedkey ended with exit code 1"):
            await services.call(tester, "unlock", {"level": 1}, timeout_s=WAIT_S)
    finally:
        await tester.close()
        await simulated.stop()


@pytest.mark.parametrize(
    ("level", "message"),
    [
        ("{}", "algorithm: is missing: an algorithm with its key, or a command"),
        ("{algorithm: xor}", "key: is missing: algorithm and key go together"),
        ("{key: A5}", "algorithm: is missing"),
        ("{command: []}", "command"),
        ("{command: [./absent]}", "/absent is no program that can be run"),
    ],
)
def test_levels_that_cannot_be_unlocked_are_mistakes(write: Write, level: str, message: str) -> None:
    path = write(HEAD + f"security: {{1: {level}}}")
    with pytest.raises(ConfigError, match=message) as caught:
        load_ecu(path)
    assert f"{path}:4: security.1" in str(caught.value)


@pytest.mark.anyio
async def test_an_ecu_with_nothing_but_a_command_cannot_be_simulated(hubs: Hubs, write: Write) -> None:
    ecu = load_ecu(write(HEAD + "security: {1: {command: [sh]}}"))
    with pytest.raises(ValueError, match="security level 1 has a command, which is the tester's"):
        await SimulatedEcu(ecu, hubs[1]).start()


@pytest.mark.parametrize(
    ("pdu", "shown"),
    [
        ("27 01", "27 01"),
        ("27 02 5E C2", "27 02 ..."),
        ("27 82 5E C2", "27 82 ..."),
        ("29 03 00 02 5E C2 00 00", "29 03 ..."),
        ("69 03 12 00 02 5E C2", "69 03 12 ..."),
        ("29 01 00 00 01 AA 00 00", "29 01 00 00 01 AA 00 00"),
        ("36 01" + " 00" * 10, "36 01 00 00 00 00 00 00 ..."),
        ("27", "27"),
    ],
)
def test_what_may_be_shown_of_a_pdu(pdu: str, shown: str) -> None:
    assert secret.shown(bytes.fromhex(pdu)) == shown
