"""Every service by name against the simulated ECU: through agent and client, in bytes, and from Lua.

What a service does with its arguments and with responses of any kind is in test_ecu_services.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pytest

from bench_agent.client import BenchClient, NegativeResponse
from ecu_adapters.uds.services import SERVICES
from tests.unit.bench_agent.harness import AgentFile, bench_entry
from tests.unit.bench_agent.uds_stories import ECU, MASK, REFUSALS, STORIES, Masked, Refusal, Step
from tests.unit.scenarios.conftest import Play, Played
from tests.unit.scenarios.conftest import play as play_script  # noqa: F401 - a fixture

Run = Callable[[str], Played]
STEPS = [step for story in STORIES.values() for step in story]
FIRST = {step.service: step for step in reversed(STEPS)}
_SNAPSHOT_RECORD = Step("snapshot_record", {"record": 1}, None)
ASKING = {
    name: step for name, step in (FIRST | {"snapshot_record": _SNAPSHOT_RECORD}).items() if SERVICES[name].exchanges
}
"""Of every service that asks the ECU for something, one example."""
_NOTHING_LEFT = "".join(f"  0x{service:02X}: false\n" for service in (
    0x10, 0x11, 0x14, 0x19, 0x22, 0x23, 0x24, 0x27, 0x28, 0x29, 0x2A, 0x2C, 0x2E, 0x2F, 0x31, 0x34, 0x35, 0x36, 0x37,
    0x38, 0x3D, 0x3E, 0x83, 0x85, 0x86, 0x87,
))  # fmt: skip
"""An ECU that has no service refuses each in the same way."""


@pytest.fixture
def agent_file(tmp_path: Path) -> AgentFile:
    (tmp_path / "ecm.yaml").write_text(ECU)
    empty = ECU.partition("services:\n")[0] + "services:\n" + _NOTHING_LEFT
    empty = empty.replace("name: ECM", "name: EMPTY").replace("0x7E0", "0x7E1").replace("0x7E8", "0x7E9")
    (tmp_path / "empty.yaml").write_text(empty)
    entry = bench_entry("bench-1")
    entry["ecus"].append({"file": "empty.yaml", "bus": "powertrain", "simulated": True})
    return AgentFile(tmp_path, [entry])


@pytest.fixture
def run(play_script: Play, bench: BenchClient) -> Run:  # noqa: F811
    needed = "\n".join(f'local {name} = require("{name}")' for name in ("test", "uds"))
    mask = f"""
        local function masked(hex)
          return (hex:gsub("%x%x", function(byte) return ("%02X"):format(tonumber(byte, 16) ~ {MASK}) end))
        end
    """
    return lambda script: play_script(f'{needed}\n{mask}test.case("it", function()\n{script}\nend)', bench=bench)


def test_every_service_is_in_a_story() -> None:
    assert set(SERVICES) - set(FIRST) == {"snapshot_record"}  # the simulated ECU has no DTCStoredDataRecords


@pytest.mark.parametrize("story", STORIES)
def test_services_by_name(bench: BenchClient, story: str) -> None:
    ecm, last = bench.ecu("ECM"), None
    for step in STORIES[story]:
        ecm.last = None
        arguments: dict[str, Any] = {n: v.of(last) if isinstance(v, Masked) else v for n, v in step.arguments.items()}
        last = ecm.call(step.service, **arguments)
        assert last == step.result, step
        if not step.raw:
            continue
        assert ecm.last is not None
        assert ecm.last.negative is None
        if isinstance(step.raw[-1], str):
            assert ecm.last.request == bytes.fromhex(step.raw[-1]), step
        if step.response is not None:
            assert ecm.last.response == bytes.fromhex(step.response), step


@pytest.mark.parametrize("story", STORIES)
def test_services_in_bytes(bench: BenchClient, story: str) -> None:
    ecm, last = bench.ecu("ECM"), b""
    for step in STORIES[story]:
        for raw in step.raw:
            exchange = ecm.raw(bytes.fromhex(raw if isinstance(raw, str) else raw(last)))
            last = exchange.response
            assert exchange.negative is None, step
            assert last[0] == exchange.request[0] + 0x40, step
        if step.raw and step.response is not None:
            assert last == bytes.fromhex(step.response), step


@pytest.mark.parametrize("story", STORIES)
def test_services_from_lua(run: Run, story: str) -> None:
    script = ["local ecm, last = uds.ecu('ECM')"]
    for step in STORIES[story]:
        script.append(f"last = ecm:call({lua(step.service)}, {lua(step.arguments)})")
        if repr(ANY) not in repr(step.result):
            script.append(f"test.equal(last, {lua(step.result)}, {lua(step.service)})")
        elif isinstance(step.result, list):
            script.append(f"test.equal(#last, {len(step.result)}, {lua(step.service)})")
    played = run("\n".join(script))
    assert played.verdict == "passed", played.failure


@pytest.mark.parametrize("service", ASKING)
def test_a_refusal_of_any_service_is_an_error(bench: BenchClient, service: str) -> None:
    step, empty = ASKING[service], bench.ecu("EMPTY")
    arguments: dict[str, Any] = {n: bytes(4) if isinstance(v, Masked) else v for n, v in step.arguments.items()}
    with pytest.raises(NegativeResponse) as refused:
        empty.call(service, **arguments)
    assert empty.last is not None
    assert empty.last.negative is not None
    assert (refused.value.nrc, refused.value.nrc_name) == (0x11, "serviceNotSupported")
    assert refused.value.service == empty.last.request[0] == empty.last.response[1]


def test_a_refusal_of_any_service_is_an_error_in_lua(run: Run) -> None:
    script = ["local empty = uds.ecu('EMPTY')"]
    for service, step in ASKING.items():
        arguments = {n: bytes(4) if isinstance(v, Masked) else v for n, v in step.arguments.items()}
        call = f"function() empty:call({lua(service)}, {lua(arguments)}) end"
        script.append(f'test.negative("serviceNotSupported", {call})')
    played = run("\n".join(script))
    assert played.verdict == "passed", played.failure


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: f"{refusal.service}-{refusal.nrc:02X}")
def test_refusals(bench: BenchClient, refusal: Refusal) -> None:
    ecm = bench.ecu("ECM")
    for step in refusal.before:
        ecm.call(step.service, **step.arguments)
    with pytest.raises(NegativeResponse) as refused:
        ecm.call(refusal.service, **refusal.arguments)
    assert f"{refused.value.nrc:02X}" == f"{refusal.nrc:02X}"
    assert ecm.last is not None
    if not ecm.last.hidden:
        exchange = ecm.raw(ecm.last.request)
        assert exchange.negative is not None
        assert exchange.negative.nrc == refusal.nrc


def lua(value: Any) -> str:
    """A value as Lua source; bytes as the hexadecimal text that scripts see."""
    match value:
        case None:
            return "nil"
        case bool():
            return str(value).lower()
        case Masked():
            return f"masked(last{'.' if value.field else ''}{value.field})"
        case bytes():
            return f'"{value.hex().upper()}"'
        case str():
            return f'"{value}"'
        case list():
            return "{" + ", ".join(map(lua, value)) + "}"
        case dict():
            return "{" + ", ".join(f"[{lua(name)}] = {lua(item)}" for name, item in value.items()) + "}"
    return repr(value)
