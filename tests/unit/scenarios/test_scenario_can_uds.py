"""The modules bench, can and uds: what reaches the bench client, and what comes back."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench_agent.client import (
    BenchUnavailable,
    BusFault,
    Compare,
    Equals,
    Expectation,
    Frame,
    FunctionalAnswer,
    InvalidRequest,
    LeaseRefused,
    NegativeResponse,
    UdsExchange,
    UdsInvalid,
    UdsTimeout,
    UdsTransport,
    UdsUnexpected,
    Within,
)
from tests.unit.scenarios.conftest import FakeBench, FakeBus, FakeEcu

if TYPE_CHECKING:
    from tests.unit.scenarios.conftest import Play

HEAD = "local test, can, uds, bench = require('test'), require('can'), require('uds'), require('bench')\n"


def met(time_ns: int = 2_000_000_000, data: bytes = b"\x01\xff", **signals: object) -> Expectation:
    return Expectation(True, Frame(time_ns, 0x200, 0, data), dict(signals), 1, ())  # type: ignore[arg-type]


def test_the_issues_example(play: "Play") -> None:
    bench = FakeBench()
    bench.ecu_fake.answers["read"] = "WVWZZZ1KZ6W000001"
    bench.bus_fake.expectations = [met(EngineSpeed=1498.5)]
    played = play(
        """
local test, uds, can = require("test"), require("uds"), require("can")

test.case("the ECU names itself", function()
  local ecm = uds.ecu("ECM")
  ecm:session("extended")
  test.equal(ecm:read("VIN"), "WVWZZZ1KZ6W000001")
end)

test.case("engine speed follows the request", function()
  local bus = can.bus("powertrain")
  bus:send("EngineControl", { TargetSpeed = 1500 })
  bus:expect("EngineStatus", { EngineSpeed = test.within(1500, 50) }, "2s")
end)
""",
        bench=bench,
    )
    assert played.verdict == "passed"
    assert bench.ecu_fake.calls == [("session", {"session": "extended"}), ("read", {"did": "VIN"})]
    assert bench.bus_fake.sent == [("EngineControl", {"TargetSpeed": 1500})]
    assert bench.bus_fake.asked == [("EngineStatus", [Within("EngineSpeed", 1450.0, 1550.0)], 2.0, 1_000_001_000)]


def test_conditions_reach_the_agent_with_their_types(play: "Play") -> None:
    bench = FakeBench()
    bench.bus_fake.expectations = [met()]
    play(
        HEAD
        + """
        can.bus():expect("M", {
          A = 1, B = 1.5, C = "Park", D = true, E = test.between(-1, 2), F = test.above(3), G = test.at_most(4.5),
          H = test.differs("Park"),
        })
        """,
        bench=bench,
    )
    ((name, conditions, timeout_s, since_ns),) = bench.bus_fake.asked
    assert (name, timeout_s, since_ns) == ("M", 1.0, 0)
    assert sorted(conditions, key=lambda condition: str(condition.signal)) == [
        Equals("A", 1),
        Equals("B", 1.5),
        Equals("C", "Park"),
        Equals("D", True),
        Within("E", -1.0, 2.0),
        Compare("F", ">", 3),
        Compare("G", "<=", 4.5),
        Compare("H", "!=", "Park"),
    ]


def test_expect_returns_signals_and_time(play: "Play") -> None:
    bench = FakeBench()
    bench.bus_fake.expectations = [met(1_500_000_000, Speed=12.5, Gear="Park", On=True)]
    played = play(HEAD + "local s, at = can.bus():expect('M') print(s.Speed, s.Gear, s.On, at)", bench=bench)
    assert played.text[0] == "12.5\tPark\ttrue\t1.5"


def test_each_expect_of_a_message_meets_a_later_frame(play: "Play") -> None:
    bench = FakeBench()
    bench.bus_fake.expectations = [met(2_000_000_000), met(3_000_000_000), met(4_000_000_000)]
    play(HEAD + "local b = can.bus() b:send('C', {}) b:expect('M') b:expect('M') b:expect('N')", bench=bench)
    assert [asked[3] for asked in bench.bus_fake.asked] == [1_000_001_000, 2_000_000_000, 1_000_001_000]


def test_an_unmet_expect_fails_with_the_values_seen(play: "Play") -> None:
    bench = FakeBench()
    bench.bus_fake.expectations = [
        Expectation(False, Frame(1, 0x200, 0, b"\x01"), {}, 57, ("EngineSpeed = 812.5, expected 1450 .. 1550",))
    ]
    played = play(
        HEAD + "test.case('c', function()\n can.bus():expect('EngineStatus', { EngineSpeed = 1 }, '50ms') end)",
        bench=bench,
    )
    assert played.verdict == "failed"
    assert played.failure["message"] == (
        "powertrain: no EngineStatus met the conditions within 50 ms; 57 seen, the last: "
        "EngineSpeed = 812.5, expected 1450 .. 1550"
    )
    assert played.failure["line"] == 3


def test_an_expect_of_a_silent_message_says_so(play: "Play") -> None:
    bench = FakeBench()
    bench.bus_fake.expectations = [Expectation(False, None)]
    played = play(HEAD + "can.bus():expect(0x123, 'AA', 2)", bench=bench)
    assert played.verdict == "failed"
    assert played.failure["message"] == "powertrain: no frame 0x123 with data AA was seen within 2 s"


@pytest.mark.parametrize(
    ("arguments", "frame"),
    [
        ("0x123, '11 22 33'", Frame(0, 0x123, 0, b"\x11\x22\x33")),
        ("0x123", Frame(0, 0x123, 0, b"")),
        ("0x18DA10F1, 'aa'", Frame(0, 0x98DA10F1, 0, b"\xaa")),
        ("0x123, 'aa', { extended = true }", Frame(0, 0x80000123, 0, b"\xaa")),
        ("0x123, 'aa', { fd = true }", Frame(0, 0x123, 0x04, b"\xaa")),
        ("0x123, 'aa', { fd = true, brs = true }", Frame(0, 0x123, 0x05, b"\xaa")),
        ("0x123, ('00 '):rep(12)", Frame(0, 0x123, 0x04, bytes(12))),
    ],
)
def test_frames_are_sent_as_written(play: "Play", arguments: str, frame: Frame) -> None:
    played = play(HEAD + f"print(can.bus():send({arguments}))")
    assert played.bench.bus_fake.frames == [frame]
    assert float(played.text[0]) == pytest.approx(1.000001)


def test_a_raw_expect_returns_data_and_time(play: "Play") -> None:
    bench = FakeBench()
    bench.bus_fake.expectations = [met(), met()]
    played = play(
        HEAD + "local b = can.bus() print(b:expect(0x200)) print(b:expect(0x200, '01 FF', '1s', { extended = true }))",
        bench=bench,
    )
    assert played.text[:2] == ["01FF\t2.0"] * 2
    assert bench.bus_fake.asked == [(0x200, None, 1.0, 0), (0x80000200, b"\x01\xff", 1.0, 0)]


BAD_CALLS = {
    "can.bus('chassis')": "bench b1 has no bus 'chassis'; it has powertrain",
    "can.bus({})": "the name of a bus is a table; it must be text or a number",
    "can.bus().send('M', {})": "call it with a colon",
    "can.bus():send({}, {})": "is neither a message name nor an arbitration ID",
    "can.bus():send('M', 'x')": 'signals are "x"; they must be a table',
    "can.bus():send('M', { 1, 2 })": "signals are a list",
    "can.bus():send('M', { A = print })": "a function cannot be sent to the bench",
    "can.bus():send('M', { [true] = 1 })": "a key of a table is a boolean; it must be text",
    "can.bus():send(0x123, 'xyz')": "data is 'xyz'; write bytes as hexadecimal digits",
    "can.bus():send(0x123, '1')": "data is '1'; write bytes as hexadecimal digits",
    "can.bus():send(-1, '')": "arbitration ID is 0x-1; it must be between 0 and 0x7FF",
    "can.bus():send(0x800, '', { extended = false })": "arbitration ID is 0x800; it must be between 0 and 0x7FF",
    "can.bus():send(1 << 29, '')": "it must be between 0 and 0x1FFFFFFF",
    "can.bus():send(1, '', { fast = true })": 'unknown option "fast"',
    "can.bus():send(1, '', { fd = 1 })": "option fd is 1; it must be true or false",
    "can.bus():send(1, '', 'fd')": 'options are "fd"; they must be a table',
    "can.bus():expect('M', 1)": "conditions are 1; they must be a table",
    "can.bus():expect('M', { A = {} })": "the condition on signal A must be",
    "can.bus():expect('M', nil, 'soon')": "timeout is 'soon'; write '500ms'",
    "can.bus():expect('M', nil, 0)": "timeout is 0; it must be at least 1 ms",
    "uds.ecu('BCM')": "bench b1 has no ECU 'BCM'; it has ECM",
    "uds.ecu('ECM', 'x')": "timeout is 'x'",
    "uds.ecu().read('VIN')": "call it with a colon",
    "uds.ecu():read()": "the data identifier is missing",
    "uds.ecu():write('A')": "the value is missing",
    "uds.ecu():session()": "the session is missing",
    "uds.ecu():unlock()": "the security level is missing",
    "uds.ecu():unlock(1, 'key')": "it must be a function from seed to key",
    "uds.ecu():raw()": "the request is missing",
    "uds.ecu():raw('')": "the request is empty",
    "uds.ecu():raw('2')": "the request is '2'; write bytes as hexadecimal digits",
    "uds.ecu():raw({})": "the request is a table",
    "uds.ecu():raw('27 02 5E C')": "the request is not in whole bytes of hexadecimal digits",
    "uds.ecu():routine()": "the routine is missing",
    "uds.ecu():routine('Erase').start()": "call it with a colon on a routine",
    "uds.ecu():read_memory(1)": "read_memory takes a table of arguments",
    "uds.ecu():events({ timeout = 'x' })": "timeout is 'x'",
    "uds.ecu():periodic()": "the table with dids and rate is missing",
    "uds.functional()": "the request is a nil",
    "bench.name = 'x'": "bench.name cannot be set",
}


@pytest.mark.parametrize(("call", "message"), BAD_CALLS.items())
def test_a_bad_call_is_an_error_that_says_what_would_be_right(play: "Play", call: str, message: str) -> None:
    played = play(HEAD + call)
    assert played.verdict == "error"
    assert message in played.failure["message"]
    assert (played.failure["file"], played.failure["line"]) == ("s.lua", 2)


@pytest.mark.parametrize(
    ("call", "service", "arguments"),
    [
        ("session(3)", "session", {"session": 3}),
        ("read(0xF190)", "read", {"did": 0xF190}),
        ("read({ 'VIN', 0xF187 })", "read", {"did": ["VIN", 0xF187]}),
        ("write('VIN', 'W')", "write", {"did": "VIN", "value": "W"}),
        ("write('Limit', 2.5)", "write", {"did": "Limit", "value": 2.5}),
        ("write(0xF190, 'AA')", "write", {"did": 0xF190, "value": "AA"}),
        ("write(0x1234, 'AA BB')", "write", {"did": 0x1234, "value": "AA BB"}),
        ("unlock(1)", "unlock", {"level": 1}),
        ("dtcs()", "read_dtcs", {}),
        ("dtcs(0x08)", "read_dtcs", {"mask": 8}),
        ("clear_dtcs()", "clear_dtcs", {}),
        ("clear_dtcs(0x123456)", "clear_dtcs", {"group": 0x123456}),
        ("reset()", "reset", {"kind": "hard"}),
        ("reset('soft')", "reset", {"kind": "soft"}),
        ("tester_present()", "tester_present", {}),
        ("dtc_snapshot('P0301')", "dtc_snapshot", {"dtc": "P0301"}),
        ("dtc_extended_data(0x030100, 1)", "dtc_extended_data", {"dtc": 0x030100, "record": 1}),
        ("io_control('Valve', 'adjust', 60)", "io_control", {"did": "Valve", "action": "adjust", "value": 60}),
        (
            "routine('Erase'):start({ size = 2 })",
            "routine",
            {"routine": "Erase", "action": "start", "options": {"size": 2}},
        ),
        ("routine(0x0203):results()", "routine", {"routine": 0x0203, "action": "results"}),
        ("periodic({ dids = { 'Speed' }, rate = 'fast' })", "read_periodic", {"dids": ["Speed"], "rate": "fast"}),
        ("read_memory({ address = 0x8000, size = 4 })", "read_memory", {"address": 0x8000, "size": 4}),
        ("communication_control({ control = 'disable' })", "communication_control", {"control": "disable"}),
        ("call('link_control', { action = 'transition' })", "link_control", {"action": "transition"}),
        ("raw('22 f1 90')", "raw", {"pdu": b"\x22\xf1\x90"}),
    ],
)
def test_a_service_reaches_the_agent(play: "Play", call: str, service: str, arguments: dict[str, object]) -> None:
    played = play(HEAD + f"uds.ecu():{call}")
    assert played.verdict == "passed", played.result["reason"]
    assert played.bench.ecu_fake.calls == [(service, arguments)]
    assert played.bench.ecu_fake.timeouts == [pytest.approx(10, abs=0.1)]


SCALARS = st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text()


def holding(inner: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return st.lists(inner, min_size=1, max_size=4) | st.dictionaries(st.text(), inner, max_size=4)


PLAIN = SCALARS | holding(SCALARS | holding(SCALARS))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(value=PLAIN)
def test_a_value_survives_the_way_to_lua_and_back(play: "Play", value: object) -> None:
    bench = FakeBench()
    bench.ecu_fake.answers["read"] = value
    played = play(HEAD + "local e = uds.ecu() e:write('A', e:read('A'))", bench=bench)
    assert played.verdict == "passed", played.result["reason"]
    assert bench.ecu_fake.calls[-1] == ("write", {"did": "A", "value": value})


def test_values_come_back_as_lua_values(play: "Play") -> None:
    bench = FakeBench()
    bench.ecu_fake.answers["read"] = {"text": 'a"\\\n\0µ', "raw": b"\x00\xff", "float": 2.0, "int": -3, "no": None}
    bench.ecu_fake.answers["read_dtcs"] = [{"code": "P0301", "confirmed": True}, {"code": "U0100", "confirmed": False}]
    bench.ecu_fake.answers["raw"] = b"\x7f\x22\x31"
    played = play(
        HEAD
        + r"""
        local e = uds.ecu("ECM", "5s")
        local v = e:read({ "a", "b" })
        print(v.text == "a\"\\\n\0µ", v.raw, math.type(v.float), math.type(v.int), v.no)
        for _, dtc in ipairs(e:dtcs()) do print(dtc.code, dtc.confirmed) end
        print(e:raw("22 00 01"))
        """,
        bench=bench,
    )
    assert played.text[:4] == ["true\t00FF\tfloat\tinteger\tnil", "P0301\ttrue", "U0100\tfalse", "7F2231"]
    assert bench.ecu_fake.timeouts[0] == pytest.approx(5, abs=0.1)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        ("write(0xF190, 'ABC')", "ECM write 0xF190 ABC: "),
        ("write(0x1234, 'AABB')", "ECM write 0x1234 AABB: "),
        ("read(0xF190)", "ECM read 0xF190: "),
        ("dtcs(0x08)", "ECM read_dtcs 0x08: "),
        ("session('extended')", "ECM session extended: "),
        ("raw('3E80')", "ECM raw: 3E80 -> no response (1.5 ms)"),
    ],
)
def test_an_exchange_is_a_step_that_people_can_read(play: "Play", call: str, text: str) -> None:
    bench = FakeBench()
    bench.ecu_fake.answers["write"] = None
    bench.ecu_fake.answers["raw"] = b""
    played = play(HEAD + f"test.case('c', function() uds.ecu():{call} end)", bench=bench)
    assert played.case["steps"][0]["text"].startswith(text)


def test_a_key_can_be_computed_in_the_scenario(play: "Play") -> None:
    bench = FakeBench()
    bench.ecu_fake.answers["seed"] = b"\x12\x34\x56\x78"
    played = play(
        HEAD
        + """
        print(uds.ecu():unlock(1, function(seed)
          return string.format("%08X", tonumber(seed, 16) ~ 0xA5A5A5A5)
        end))
        """,
        bench=bench,
    )
    assert played.text[0] == "true"
    assert bench.ecu_fake.calls == [("seed", {"level": 1}), ("key", {"level": 1, "key": "B791F3DD"})]


def test_no_step_shows_a_key_or_a_proof(play: "Play") -> None:
    bench = FakeBench()
    bench.ecu_fake.answers["raw"] = bytes.fromhex("6903120002B791F3DD")
    played = play(
        HEAD
        + """
        test.case("c", function()
          local e = uds.ecu()
          e:key({ level = 1, key = "B791F3DD" })
          e:authenticate({ task = "proof_of_ownership", proof = "B791F3DD" })
          e:raw("29 01 00")
          uds.functional("27 02 B7 91 F3 DD")
        end)
        """,
        bench=bench,
    )
    assert played.verdict == "passed", played.result["reason"]
    said = str(played.result) + str(played.log)
    assert "B791" not in said.replace(" ", "").upper()
    assert "ECM key 1 key not shown: " in said
    assert "691203" not in said
    assert "690312 + 6 bytes not shown" in said


def test_a_functional_request_brings_a_table_by_ecu(play: "Play") -> None:
    bench = FakeBench()
    refused = NegativeResponse(0x22, 0x31, "ReadDataByIdentifier", "requestOutOfRange", "unknown")
    bench.functional_answers = {
        "ECM": FunctionalAnswer(UdsExchange(b"\x22", b"\x62\x01", (), 900, "Read", None), "VIN1"),
        "TCM": FunctionalAnswer(UdsExchange(b"\x22", b"\x7f\x22\x31", (), 900, "Read", refused), error=refused),
        "BCM": FunctionalAnswer(),
        "GW": FunctionalAnswer(error=UdsTimeout("nothing came")),
    }
    played = play(
        HEAD
        + """
        local all = uds.functional("read", { did = "VIN", timeout = "200ms", bus = "powertrain" })
        print(all.ECM.result, all.ECM.response, all.ECM.silent, all.TCM.nrc, all.TCM.nrc_name, all.BCM.silent)
        print(all.TCM.error, all.GW.error, all.GW.silent)
        uds.functional("22 F1 90")
        """,
        bench=bench,
    )
    assert played.text[:2] == [
        "VIN1\t6201\tfalse\t49\trequestOutOfRange\ttrue",
        "ReadDataByIdentifier (0x22) refused: requestOutOfRange (NRC 0x31)\tnothing came\tfalse",
    ]
    assert bench.functional_asked == [
        ("read", "powertrain", pytest.approx(0.2), {"did": "VIN"}),
        (b"\x22\xf1\x90", None, pytest.approx(1.0), {}),
    ]


def test_waiting_for_what_the_ecu_says_unasked_has_a_time(play: "Play") -> None:
    bench = FakeBench()
    bench.ecu_fake.answers["events"] = [{"service": 0x22, "raw": b"\x62"}]
    played = play(HEAD + "print(uds.ecu():events({ count = 2, timeout = '1s' })[1].raw)", bench=bench)
    assert played.text[0] == "62"
    assert bench.ecu_fake.calls == [("events", {"count": 2, "wait_ms": 1000})]
    assert bench.ecu_fake.timeouts == [pytest.approx(1, abs=0.1)]


def test_an_all_zero_seed_needs_no_key(play: "Play") -> None:
    bench = FakeBench()
    bench.ecu_fake.answers["seed"] = bytes(4)
    played = play(HEAD + "print(uds.ecu():unlock(1, function() error('asked') end))", bench=bench)
    assert played.text[0] == "false"
    assert bench.ecu_fake.calls == [("seed", {"level": 1})]


def test_a_negative_response_is_an_error_with_fields(play: "Play") -> None:
    bench = FakeBench()
    bench.ecu_fake.answers["write"] = NegativeResponse(
        0x2E, 0x33, "WriteDataByIdentifier", "securityAccessDenied", "locked; unlock first"
    )
    played = play(
        HEAD
        + """local ok, err = pcall(function() uds.ecu():write("A", 1) end)
        print(ok, err.nrc == 0x33, err.nrc_name, err.service == 0x2E, err.service_name, err.kind)
        print(err.meaning)
        print(err.message)
        print(tostring(err))
        print("it said: " .. err)
        uds.ecu():write("A", 1)""",
        bench=bench,
    )
    message = "WriteDataByIdentifier (0x2E) refused: securityAccessDenied (NRC 0x33)"
    assert played.text[:5] == [
        "false\ttrue\tsecurityAccessDenied\ttrue\tWriteDataByIdentifier\tnegative_response",
        "locked; unlock first",
        message,
        f"s.lua:2: {message}",
        f"it said: s.lua:2: {message}",
    ]
    assert played.verdict == "failed"
    assert played.result["reason"] == f"s.lua:8: {message}"


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (NegativeResponse(0x22, 0x31, "ReadDataByIdentifier", "requestOutOfRange", "unknown"), "failed"),
        (UdsTimeout("ECM did not answer"), "failed"),
        (UdsUnexpected("not an answer to this"), "failed"),
        (UdsTransport("flow control timed out"), "error"),
        (UdsInvalid("unknown data identifier 'VNI'"), "error"),
        (BenchUnavailable("bench b1 at 1.2.3.4: connection refused"), "error"),
    ],
)
def test_what_the_ecu_does_fails_what_breaks_is_an_error(play: "Play", error: Exception, verdict: str) -> None:
    bench = FakeBench()
    bench.ecu_fake.answers["read"] = error
    played = play(HEAD + "test.case('c', function()\n uds.ecu():read('VIN') end)", bench=bench)
    assert played.case["verdict"] == verdict
    assert played.failure["message"] == str(error)
    assert played.failure["line"] == 3


def test_a_lost_pdu_tells_how_and_by_which_frame(play: "Play") -> None:
    bench = FakeBench()
    bench.ecu_fake.answers["read"] = UdsTransport("out of order", "wrong_sequence_number", "7E8#2201020304050607")
    played = play(
        HEAD
        + """local ok, err = pcall(function() uds.ecu():read('VIN') end)
        test.equal(err.transport, "wrong_sequence_number")
        test.equal(err.frame, "7E8#2201020304050607")
        test.equal(err.kind, "bench")""",
        bench=bench,
    )
    assert played.verdict == "passed"


@pytest.mark.parametrize("error", [InvalidRequest("signal Speed: 9000 is above 8000"), BusFault("no buffer space")])
def test_what_the_bus_refuses_is_an_error(play: "Play", error: Exception) -> None:
    bench = FakeBench()
    bench.bus_fake.error = error
    played = play(HEAD + "can.bus():send('M', { Speed = 9000 })", bench=bench)
    assert played.verdict == "error"
    assert played.failure["message"] == str(error)


def test_a_lost_lease_ends_the_run_and_cannot_be_caught(play: "Play") -> None:
    bench = FakeBench()
    bench.ecu_fake.answers["read"] = LeaseRefused("lease ended: expired")
    played = play(
        HEAD
        + """
        test.case("a", function() while true do pcall(function() uds.ecu():read("VIN") end) end end)
        test.case("b", function() end)
        """,
        bench=bench,
    )
    assert [case["name"] for case in played.result["cases"]] == ["a"]
    assert played.verdict == "error"
    assert played.result["reason"].endswith("the bench no longer accepts this run's lease: lease ended: expired")


def test_waits_end_with_the_run(play: "Play") -> None:
    bench = FakeBench()
    bench.bus_fake.expectations = [met()]
    play(HEAD + "can.bus():expect('M', nil, '1h')", bench=bench, timeout_s=60)
    assert 30 < bench.bus_fake.asked[0][2] <= 60


def test_the_only_bus_or_ecu_needs_no_name_but_one_of_many_does(play: "Play") -> None:
    bench = FakeBench(buses={"a": FakeBus("a"), "b": FakeBus("b")}, ecus={"X": FakeEcu("X"), "Y": FakeEcu("Y")})
    assert (
        "can.bus() needs a name: the bench has more than one bus: a, b"
        in play(HEAD + "can.bus()", bench=bench).failure["message"]
    )
    assert (
        "uds.ecu() needs a name: the bench has more than one ECU: X, Y"
        in play(HEAD + "uds.ecu()", bench=bench).failure["message"]
    )
    nothing = FakeBench(buses={}, ecus={})
    assert "uds.ecu(): the bench has no ECU" in play(HEAD + "uds.ecu()", bench=nothing).failure["message"]


def test_bench_facts(play: "Play") -> None:
    played = play(
        HEAD
        + """
        print(bench.name, bench.labels.platform, bench.lease.id, bench.lease.run, bench.nothing)
        print(bench.buses[1].name, bench.buses[1].messages[1], bench.ecus[1].name, bench.ecus[1].dids[1].did)
        """
    )
    assert played.text[:2] == ["b1\tmeb\tlease-1\trun-1\tnil", "powertrain\tEngineStatus\tECM\t61840"]


def test_the_bench_is_not_opened_before_it_is_used(play: "Play") -> None:
    class NoBench(FakeBench):
        describe: Callable[..., None] = property(lambda _: pytest.fail("asked"))  # type: ignore[assignment]

    assert play(HEAD + "print(bench.name) test.is_true(true)", bench=NoBench()).verdict == "passed"
