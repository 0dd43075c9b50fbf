"""J1939 from Lua, played against a real agent."""

from typing import TYPE_CHECKING

import pytest

from bench_agent.client import BenchClient
from tests.unit.bench_agent.conftest import (  # noqa: F401 - fixtures
    agent_file,
    open_bench,
    running,
    signer,
    start_agent,
)
from tests.unit.bench_agent.harness import ROOT, AgentFile, OpenBench, bench_entry

if TYPE_CHECKING:
    from tests.unit.scenarios.conftest import Play

HEAD = """
local test, can = require('test'), require('can')
local bus = can.bus()
local tool = bus:j1939{ address = 0xF9 }
local engine = bus:j1939{ address = 0x00, answers = { [0xFEDA] = "03 01 02 03 04 05 06 07 08 09" } }
"""


@pytest.fixture
def truck(agent_file: AgentFile) -> AgentFile:  # noqa: F811
    entry = bench_entry("bench-4", ecus=False)
    entry["can"][0]["dbc"] = str(ROOT / "dbc/truck.dbc")
    agent_file.benches = [entry]
    return agent_file


@pytest.fixture
def bench(truck: AgentFile, open_bench: OpenBench) -> BenchClient:  # noqa: F811
    return open_bench(bench="bench-4")


def test_messages_requests_and_expectations(play: "Play", bench: BenchClient) -> None:
    played = play(
        HEAD
        + """
        test.case("truck", function()
        local sent = engine:send("EEC1", { EngineSpeed = 1500 })
        test.equal({ sent.pgn, sent.priority, sent.data }, { 0xF004, 3, "FFFFFFE02EFFFFFF" })
        local eec1 = tool:expect("EEC1", { EngineSpeed = test.within(1500, 1) }, { from = 0x00, timeout = "20s" })
        test.equal({ eec1.name, eec1.source, eec1.destination }, { "EEC1", 0, 255 })
        test.equal(eec1.signals, { EngineSpeed = 1500.0 })

        tool:send(0xEF00, string.rep("AB", 300), { to = 0x00 })
        test.equal(engine:expect(0xEF00, nil, { from = 0xF9, to = 0x00, timeout = "20s" }).data, string.rep("AB", 300))

        local soft = tool:request("SOFT", { to = 0x00, timeout = "20s" })
        test.equal({ soft.signals.Fields, soft.data }, { 3, "03010203040506070809" })
        test.equal(engine:state().sent, 2)
        tool:close()
        end)
        """,
        bench=bench,
    )
    assert played.verdict == "passed", played.result
    steps = [step["text"] for step in played.case["steps"]]
    assert any("powertrain 0x00 <- PGN 0xF004 EEC1 0x00 -> 0xFF FFFFFFE02EFFFFFF" in step for step in steps), steps


@pytest.mark.parametrize(
    ("line", "verdict", "reason"),
    [
        ('tool:expect("EEC1", nil, { timeout = "50ms" })', "failed", "no EEC1 was seen within 50 ms"),
        ('engine:send("EEC1", { EngineSpeed = 8 }) '
         'tool:expect("EEC1", { EngineSpeed = 9 }, { timeout = "50ms" })',
         "failed", "no EEC1 met the conditions within 50 ms; 1 seen, the last: EngineSpeed = 8, expected 9"),
        ('tool:request(0xFECA, { to = 0x00, timeout = "20s" })', "failed",
         "0x00 refused the request for PGN 0xFECA: negative acknowledgement (control byte 1)"),
        ('tool:request(0xFECA, { to = 0x21, timeout = "50ms" })', "failed",
         "no answer of 0x21 to the request for PGN 0xFECA within 0.05 s"),
        ('tool:send(0xEF00, "00 01 02 03 04 05 06 07 08", { to = 0x21 })', "failed", "within 1250 ms (T3)"),
        ("tool:send(0xEF01)", "error", "PGN is 0xEF01"),
        ('tool:send("EEC2")', "error", "unknown message 'EEC2'"),
        ("bus:j1939{}", "error", "option address is missing"),
        ("bus:j1939{ address = 254 }", "error", "address is 254; it must be 0 .. 253"),
        ("bus:j1939{ adress = 1 }", "error", "unknown option \"adress\"; it takes address, answers, bam_spacing"),
        ('bus:j1939{ address = "1" }', "error", 'option address is "1"; it must be a whole number'),
        ("bus:j1939{ address = 1, answers = { 5 } }", "error", "answers are a table of hexadecimal text by PGN"),
        ("tool:expect({})", "error", "is neither a PGN nor the name of a message"),
        ('tool:expect("EEC1", { 1 })', "error", "they must be a table such as { EngineSpeed = 1500 }"),
        ("tool.send(1)", "error", "call it with a colon on a J1939 node"),
        ("tool:close() tool:send(0xFEF1)", "error", "the lease has no J1939 node 1"),
    ],
)  # fmt: skip
def test_what_fails_says_why(play: "Play", bench: BenchClient, line: str, verdict: str, reason: str) -> None:
    played = play(HEAD + line, bench=bench)
    assert played.verdict == verdict, played.result
    assert reason in played.failure["message"], played.failure


def test_error_has_fields(play: "Play", bench: BenchClient) -> None:
    played = play(
        HEAD
        + """
        local ok, err = pcall(function() tool:request(0xFECA, { to = 0x00, timeout = "20s" }) end)
        test.equal({ ok, err.kind, err.reason, err.code, err.frame },
          { false, "unexpected", "refused", 1, "18E8FF00#01FFFFFFF9CAFE00" })
        """,
        bench=bench,
    )
    assert played.verdict == "passed", played.result
