import json
import signal
import threading

import pytest

from labd.cli.uds_text import dtc, explain, identifiers, value
from labd.cli.uds_words import Named, parse_words
from tests.unit.cli.conftest import Labctl, Process
from tests.unit.cli.fake_agent import FakeAgent
from tests.unit.client.fake_labd import FakeLabd

VIN_RESPONSE = "62 F1 90 57 56 57 5A 5A 5A 31 4B 5A 36 57 30 30 30 30 30 31"


@pytest.mark.parametrize("words", [["22F190"], ["22", "F1", "90"], ["0x22", "0xf190"], ["22 F1 90"]])
def test_a_known_did_is_decoded_and_the_bench_released(
    labctl: Labctl, labd: FakeLabd, agent: FakeAgent, words: list[str]
) -> None:
    result = labctl("uds", "bench-1", "ECM", *words)
    assert result.exit_code == 0
    shown = {line.split(maxsplit=1)[0]: line.split(maxsplit=1)[1] for line in result.stdout.splitlines()}
    assert shown == {
        "request": "22 F1 90  (ReadDataByIdentifier)",
        "response": VIN_RESPONSE,
        "VIN": "WVWZZZ1KZ6W000001",
        "time": "1.2 ms",
    }
    assert labd.asked("POST", "/leases")[0]["selector"] == "name=bench-1"
    assert labd.leases["lease-1"]["state"] == "ENDED"


def test_json(labctl: Labctl, agent: FakeAgent) -> None:
    agent.pending_us = [700, 900]
    document = json.loads(labctl("uds", "bench-1", "ECM", "22F190", "-o", "json").stdout)
    assert document == {
        "bench": "bench-1",
        "ecu": "ECM",
        "request": "22F190",
        "response": VIN_RESPONSE.replace(" ", ""),
        "positive": True,
        "negative": None,
        "decoded": {"VIN": "WVWZZZ1KZ6W000001"},
        "pending_count": 2,
        "pending_ms": [0.7, 0.9],
        "pending_last_ms": 0.9,
        "pending_longest_gap_ms": 4950.0,
        "elapsed_ms": 1.234,
    }


@pytest.mark.parametrize("request_pdu", ["22F190", "2EF190"])
def test_a_negative_response_is_explained_and_ends_with_1(
    labctl: Labctl, labd: FakeLabd, agent: FakeAgent, request_pdu: str
) -> None:
    agent.responses[request_pdu] = bytes.fromhex(f"7F{request_pdu[:2]}33")
    result = labctl("uds", "bench-1", "ECM", request_pdu)
    assert result.exit_code == 1
    name = {"22": "ReadDataByIdentifier", "2E": "WriteDataByIdentifier"}[request_pdu[:2]]
    meaning = "securityAccessDenied (NRC 0x33): locked; unlock with SecurityAccess first"
    assert f"{name} (0x{request_pdu[:2]}): {meaning}" in result.stdout
    assert labd.leases["lease-1"]["state"] == "ENDED"


@pytest.mark.parametrize("request_pdu", ["22F190", "2EF190"])  # by name, and as it is
def test_names_and_meaning_are_the_agents(labctl: Labctl, agent: FakeAgent, request_pdu: str) -> None:
    agent.service_names[int(request_pdu[:2], 16)] = "ServiceOfTheAgent"
    agent.refusals[0xF3] = ("codeOfTheAgent", "what it means to the agent")
    agent.responses[request_pdu] = bytes.fromhex(f"7F{request_pdu[:2]}F3")
    shown = labctl("uds", "bench-1", "ECM", request_pdu).stdout
    assert "(ServiceOfTheAgent)\n" in shown
    assert f"ServiceOfTheAgent (0x{request_pdu[:2]}): codeOfTheAgent (NRC 0xF3): what it means to the agent" in shown
    document = json.loads(labctl("uds", "bench-1", "ECM", request_pdu, "-o", "json").stdout)
    assert document["positive"] is False
    assert document["negative"] == {
        "service": int(request_pdu[:2], 16),
        "service_name": "ServiceOfTheAgent",
        "nrc": 0xF3,
        "nrc_name": "codeOfTheAgent",
        "meaning": "what it means to the agent",
    }


def test_a_positive_response_of_no_known_format_is_named_by_its_service(labctl: Labctl, agent: FakeAgent) -> None:
    agent.responses["14FFFFFF"] = b"\x54"
    assert "ClearDiagnosticInformation done\n" in labctl("uds", "bench-1", "ECM", "14FFFFFF").stdout


def test_an_unknown_did_goes_out_as_it_is(labctl: Labctl, agent: FakeAgent) -> None:
    agent.responses["22F195"] = b"\x62\xf1\x95V1.2"
    shown = labctl("uds", "bench-1", "ECM", "22F195").stdout
    assert "F195 = 56 31 2E 32 ('V1.2')" in shown
    assert agent.requests[0].pdu.hex() == "22f195"


def test_the_0x78s_on_the_way_are_shown(labctl: Labctl, agent: FakeAgent) -> None:
    agent.pending_us = [48_000, 4_900_000]
    assert "48.0 ms, 4900.0 ms" in labctl("uds", "bench-1", "ECM", "22F190").stdout
    agent.pending_us = [48_000 + 4_900_000 * number for number in range(40)]
    shown = labctl("uds", "bench-1", "ECM", "22F190").stdout
    assert "40 times: 48.0 ms .. 191148.0 ms, at most 4950.0 ms apart" in shown


def test_a_silent_ecu_ends_with_2(labctl: Labctl, labd: FakeLabd, agent: FakeAgent) -> None:
    result = labctl("uds", "bench-1", "ECM", "3E00")
    assert (result.exit_code, result.stderr) == (2, "Error: ECM did not answer within 50 ms\n")
    assert labd.leases["lease-1"]["state"] == "ENDED"


def test_an_unknown_ecu_or_bench_is_told_before_anything_is_leased(labctl: Labctl, labd: FakeLabd) -> None:
    result = labctl("uds", "bench-1", "ECX", "22F190")
    assert (result.exit_code, result.stderr) == (65, "Error: bench bench-1 has no ECU 'ECX'; it has ECM\n")
    assert labctl("uds", "nix", "ECM", "22F190").exit_code == 65
    assert labd.leases == {}


def test_a_lease_at_hand_is_used_and_kept(labctl: Labctl, labd: FakeLabd, agent: FakeAgent) -> None:
    labd.grant(labd.add_lease())
    assert labctl("uds", "bench-1", "ECM", "22F190", "--lease", "lease-1").exit_code == 0
    assert labd.leases["lease-1"]["state"] == "GRANTED"
    assert len(labd.leases) == 1


def test_a_lease_that_does_not_fit_is_refused(labctl: Labctl, labd: FakeLabd) -> None:
    labd.add_lease()
    waiting = labctl("uds", "bench-1", "ECM", "22F190", "--lease", "lease-1")
    assert (
        "lease lease-1 is QUEUED (position 2 in the queue); only a GRANTED or ACTIVE one can be used" in waiting.stderr
    )
    labd.grant(labd.leases["lease-1"])
    labd.leases["lease-1"]["benches"][0]["name"] = "rig-2"
    other = labctl("uds", "bench-1", "ECM", "22F190", "--lease", "lease-1")
    assert "lease lease-1 is of bench rig-2, not of bench-1" in other.stderr
    assert (waiting.exit_code, other.exit_code) == (65, 65)


def test_a_token_that_the_agent_refuses(labctl: Labctl, labd: FakeLabd, agent: FakeAgent) -> None:
    labd.token = "forged"
    result = labctl("uds", "bench-1", "ECM", "22F190")
    assert (result.exit_code, result.stderr) == (65, "Error: the lease token is not valid\n")
    assert labd.leases["lease-1"]["state"] == "ENDED"


def test_an_agent_that_cannot_be_reached(labctl: Labctl, labd: FakeLabd) -> None:
    result = labctl("uds", "bench-1", "ECM", "22F190")
    assert result.exit_code == 69
    assert "bench bench-1 at 127.0.0.1:1" in result.stderr
    assert labd.leases["lease-1"]["state"] == "ENDED"


def test_a_bench_in_use_is_waited_for_up_to_the_timeout(labctl: Labctl, labd: FakeLabd, agent: FakeAgent) -> None:
    labd.free = False
    result = labctl("uds", "bench-1", "ECM", "22F190", "--timeout", "100ms")
    assert result.exit_code == 75
    assert "name=bench-1" in result.stderr


def test_ctrl_c_releases_the_bench(labd: FakeLabd, agent: FakeAgent, labctl_process: Process) -> None:
    asked, go_on = threading.Event(), threading.Event()

    def slow(key: str, default: object = None) -> bytes:
        asked.set()
        go_on.wait(10)
        return b"\x7e\x00"

    agent.responses = type("Slow", (dict,), {"get": staticmethod(slow)})()
    with labctl_process("uds", "bench-1", "ECM", "3E00") as process:
        assert asked.wait(10)
        process.send_signal(signal.SIGINT)
        labd.wait_for(lambda: labd.leases["lease-1"]["state"] == "ENDED")
        go_on.set()
        assert process.wait(10) == 130
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()


@pytest.mark.parametrize(
    ("response", "said"),
    [
        ("5003003201F4", "session extended, P2 50 ms, P2* 5000 ms"),
        ("5902FF0301002F C1000008", "P0301 status 0x2F\nU0100 status 0x08"),
        ("590AFF", "no DTCs"),
        ("5901FF010003", "3 DTCs"),
        ("6701A1B2", "seed A1 B2"),
        ("67010000", "level 1 is unlocked already"),
        ("6702", "level 1 unlocked"),
        ("54", "ClearDiagnosticInformation done"),
        ("", ""),
    ],
)
def test_positive_responses_in_words(response: str, said: str) -> None:
    assert explain(bytes.fromhex(response), "ClearDiagnosticInformation") == said


def test_the_words_of_uds() -> None:
    assert identifiers(bytes.fromhex("22F190F195")) == [0xF190, 0xF195]
    assert identifiers(bytes.fromhex("22F1")) == identifiers(bytes.fromhex("2EF190")) == []
    assert dtc(bytes.fromhex("4A9B1C")) == "C0A9B-1C"
    assert value(b"\x00\x01") == "00 01"


@pytest.mark.parametrize(
    ("words", "request_"),
    [
        ("22F190", b"\x22\xf1\x90"),
        ("BA", b"\xba"),
        ("22 F1 90", b"\x22\xf1\x90"),
        ("read VIN", Named("read", {"did": "VIN"})),
        ("read VIN 0xF187", Named("read", {"did": ["VIN", 0xF187]})),
        ("dtcs", Named("read_dtcs", {})),
        ("dtcs 0x08", Named("read_dtcs", {"mask": 8})),
        ("write Limit 2.5", Named("write", {"did": "Limit", "value": 2.5})),
        ("read_memory 0x8000 16", Named("read_memory", {"address": 0x8000, "size": 16})),
        ("read_memory address=0x8000 size=16", Named("read_memory", {"address": 0x8000, "size": 16})),
        ("routine start EraseMemory address=0x8000 size=256",
         Named("routine", {"action": "start", "routine": "EraseMemory", "options": {"address": 0x8000, "size": 256}})),
        ("routine results 0x0203", Named("routine", {"action": "results", "routine": 0x0203})),
        ('define_did did=0xF301 sources=["Speed"]', Named("define_did", {"did": 0xF301, "sources": ["Speed"]})),
        ("tester_present", Named("tester_present", {})),
    ],
)  # fmt: skip
def test_a_request_is_bytes_or_a_service_with_arguments(words: str, request_: bytes | Named) -> None:
    assert parse_words(tuple(words.split())) == request_


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["22F19"], "has an odd number of digits"),
        (["22G190"], "is not hexadecimal"),
        (["session", "extended", "now"], "session takes SESSION, not 'now' as well"),
        (["tester_present", "1"], "tester_present takes only NAME=VALUE, not 1 as well"),
    ],
)
def test_a_request_that_cannot_be_is_told_before_anything_is_leased(
    labctl: Labctl, labd: FakeLabd, words: list[str], message: str
) -> None:
    result = labctl("uds", "bench-1", "ECM", *words)
    assert result.exit_code == 64
    assert message in " ".join(result.stderr.split())
    assert labd.leases == {}


def test_a_service_by_name_shows_its_result_and_no_key(labctl: Labctl, agent: FakeAgent) -> None:
    agent.results["unlock"] = None
    shown = labctl("uds", "bench-1", "ECM", "unlock", "1").stdout
    assert "27 02 + 4 bytes not shown" in shown
    assert agent.requests[0].call.arguments["level"].integer == 1


def test_trouble_codes_are_listed_for_people(labctl: Labctl, agent: FakeAgent) -> None:
    agent.results["read_dtcs"] = [
        {"code": "P0301", "dtc": 0x030100, "text": "Cylinder 1 misfire", "status": 9, "test_failed": True,
         "confirmed": True, "pending": False},
        {"code": "U0100", "dtc": 0xC10000, "text": "", "status": 0x40, "test_failed": False},
    ]  # fmt: skip
    shown = labctl("uds", "bench-1", "ECM", "dtcs").stdout
    assert "P0301 status 0x09 (test failed, confirmed): Cylinder 1 misfire\n" in shown
    assert "U0100 status 0x40\n" in shown
    document = json.loads(labctl("uds", "bench-1", "ECM", "dtcs", "-o", "json").stdout)
    assert document["result"][0]["code"] == "P0301"


def test_a_structure_is_shown_field_by_field(labctl: Labctl, agent: FakeAgent) -> None:
    agent.decoded["22F190"] = {"Speed": 800.5, "Raw": b"\x01\x02", "Deep": {"a": 1, "b": "x"}}
    shown = labctl("uds", "bench-1", "ECM", "22F190").stdout
    assert "Speed: 800.5\n" in shown
    assert "Raw: 01 02\n" in shown
    assert "Deep: a 1, b x\n" in shown


def test_all_ecus_of_a_bus_are_asked_at_once(labctl: Labctl, labd: FakeLabd, agent: FakeAgent) -> None:
    answers = agent.diagnostics.reply.answers
    answers["ECM"].request, answers["ECM"].response, answers["ECM"].elapsed_us = b"\x22", b"\x62\xf1\x90A", 900
    answers["ECM"].result.text = "A"
    answers["TCM"].request, answers["TCM"].response = b"\x22", b"\x7f\x22\x22"
    answers["TCM"].negative.nrc, answers["TCM"].negative.nrc_name = 0x22, "conditionsNotCorrect"
    answers["TCM"].negative.meaning = "a condition for it is not met now"
    answers["BCM"].SetInParent()
    result = labctl("uds", "bench-1", "--functional", "--bus", "powertrain", "read", "VIN")
    assert result.exit_code == 0
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert lines == [
        "ECU ANSWER MEANS TIME",
        "BCM - no answer -",
        "ECM 62 F1 90 41 A 0.9 ms",
        "TCM 7F 22 22 conditionsNotCorrect (NRC 0x22): a condition for it is not met now 0.0 ms",
    ]
    assert agent.diagnostics.asked == [("powertrain", "read", {"did": "VIN"})]
    document = json.loads(labctl("uds", "bench-1", "--functional", "22F190", "-o", "json").stdout)
    assert agent.diagnostics.asked[1] == ("", b"\x22\xf1\x90", {})
    assert agent.diagnostics.functional_ids == [0, 0]
    assert document["answers"]["BCM"] == {
        "silent": True, "response": "", "result": None, "nrc": None, "nrc_name": None, "error": None,
        "elapsed_ms": None,
    }  # fmt: skip
    assert document["answers"]["TCM"]["nrc_name"] == "conditionsNotCorrect"
    del answers["ECM"]
    assert labctl("uds", "bench-1", "--functional", "22F190").exit_code == 1
    del answers["TCM"]
    assert labctl("uds", "bench-1", "--functional", "22F190").exit_code == 2
    assert all(lease["state"] == "ENDED" for lease in labd.leases.values())


def test_one_of_several_functional_addresses(labctl: Labctl, labd: FakeLabd, agent: FakeAgent) -> None:
    agent.diagnostics.reply.answers["ECM"].result.text = "A"
    for given in ("18DB33F1", "0x18db33f1"):
        labctl("uds", "bench-1", "--functional", "--functional-id", given, "read", "VIN")
    assert agent.diagnostics.functional_ids == [0x18DB33F1, 0x18DB33F1]
    wrong = labctl("uds", "bench-1", "--functional", "--functional-id", "VIN", "22F190")
    assert (wrong.exit_code, "'VIN' is not hexadecimal" in wrong.stderr) == (64, True)


@pytest.mark.parametrize(
    "words", [["ECM"], ["ECM", "22F190", "--bus", "powertrain"], ["ECM", "22F190", "--functional-id", "7DF"]]
)
def test_words_that_are_missing_or_too_many(labctl: Labctl, labd: FakeLabd, words: list[str]) -> None:
    assert labctl("uds", "bench-1", *words).exit_code == 64
    assert labd.leases == {}
