"""What the services of the simulated ECU do, on virtual time; how they refuse is in test_ecu_refusals."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ecu_adapters.description import load_ecu
from ecu_adapters.simulator import UdsServer, VirtualClock
from ecu_adapters.simulator.state import Communication
from tests.unit.ecu_adapters.full_ecu import FULL


class Ecu:
    def __init__(self, path: Path, **changes: Any) -> None:
        description = load_ecu(path)
        self.ecu = description.model_copy(update=changes)
        self.clock = VirtualClock()
        self.said: list[str] = []
        self.frames: list[str] = []
        self.communication: list[Communication] = []
        self.server = UdsServer(
            self.ecu,
            self.clock,
            lambda pdu: self.said.append(pdu.hex(" ").upper()),
            random_bytes=lambda length: bytes(range(1, length + 1)),
            on_communication=self.communication.append,
            transmit_periodic=lambda data: self.frames.append(data.hex(" ").upper()),
        )
        self.state = self.server.state

    def ask(self, request: str, *, functional: bool = False) -> str:
        """The answer; empty when there is none."""
        before = len(self.said)
        self.server.receive(bytes.fromhex(request), functional)
        assert len(self.said) - before < 2
        return self.said[-1] if len(self.said) > before else ""

    def wait(self, seconds: float) -> list[str]:
        """What the ECU says by itself meanwhile."""
        before = len(self.said)
        self.clock.advance(seconds)
        return self.said[before:]

    def extended(self) -> None:
        self.ask("10 03")
        self.ask("27 01")
        assert self.ask("27 02 A4 A7 A6 A1") == "67 02"


@pytest.fixture
def make(write: Callable[[str], Path]) -> Callable[..., Ecu]:
    return lambda **changes: Ecu(write(FULL), **changes)


@pytest.fixture
def ecu(make: Callable[..., Ecu]) -> Ecu:
    return make()


# How a diagnostic session can end: by request, by S3, by a reset.
ENDS: dict[str, Callable[[Ecu], object]] = {
    "request": lambda ecu: ecu.ask("10 01"),
    "S3": lambda ecu: ecu.wait(5.1),
    "reset": lambda ecu: (ecu.ask("11 01"), ecu.wait(0.2)),
}


@pytest.mark.parametrize("end", ENDS)
def test_what_a_tester_changed_ends_with_its_session(ecu: Ecu, end: str) -> None:
    ecu.extended()
    assert ecu.ask("2F 0500 03 63") == "6F 05 00 03 63"
    assert ecu.ask("2A 03 01") == "6A"
    assert ecu.ask("28 03 01") == "68 03"
    assert ecu.ask("85 02") == "C5 02"
    assert ecu.ask("86 01 02 FF 19 02 FF") == "C6 01 00 02 FF 19 02 FF"
    assert ecu.ask("86 05 02") == "C6 05 00 02"
    assert ecu.communication == [Communication(receives=False, sends=False)]
    assert ecu.state.dtcs.frozen
    ENDS[end](ecu)
    assert ecu.state.session == 1
    assert ecu.ask("22 0500") == "62 05 00 00"
    assert not ecu.state.periodic.scheduled
    assert ecu.communication[1:] == [Communication()]
    assert not ecu.state.dtcs.frozen
    ecu.state.dtcs.passed(0x030100)
    assert ecu.wait(10) == []


def test_another_diagnostic_session_does_not_end_them(ecu: Ecu) -> None:
    ecu.extended()
    ecu.ask("28 01 01")
    ecu.ask("85 02")
    ecu.ask("10 02")
    assert ecu.state.dtcs.frozen
    assert ecu.communication == [Communication(sends=False)]


class TestCommunicationControl:
    def test_network_management_is_another_matter(self, ecu: Ecu) -> None:
        ecu.ask("10 03")
        assert ecu.ask("28 03 02") == "68 03"
        assert ecu.communication == []
        ecu.ask("28 01 03")
        ecu.ask("28 00 01")
        assert ecu.communication == [Communication(sends=False), Communication()]

    def test_by_a_functional_request_without_answer(self, ecu: Ecu) -> None:
        ecu.ask("10 83", functional=True)
        assert ecu.ask("28 81 01", functional=True) == ""
        assert ecu.communication == [Communication(sends=False)]


class TestPeriodicReading:
    def test_sends_at_the_period_of_its_mode(self, ecu: Ecu) -> None:
        ecu.ask("10 03")
        assert ecu.ask("2A 02 01") == "6A"
        assert ecu.wait(0.95) == ["6A 01 00 07"] * 4
        ecu.ask("2A 01 01")
        assert ecu.wait(2.5) == ["6A 01 00 07"] * 3
        assert ecu.ask("2A 04 01") == "6A"
        assert ecu.wait(2) == []

    def test_stops_all_without_a_list(self, ecu: Ecu) -> None:
        ecu.extended()
        ecu.ask("2A 03 01 02")
        assert sorted(ecu.wait(0.01)) == ["6A 01 00 07", "6A 02 00"]
        ecu.ask("2A 04")
        assert ecu.wait(1) == []

    def test_can_have_frames_of_its_own(self, make: Callable[..., Ecu]) -> None:
        ecu = make()
        ecu.ecu.periodic.response_id = 0x6E8
        ecu.ask("10 03")
        ecu.ask("2A 03 01")
        assert ecu.wait(0.04) == []
        assert ecu.frames == ["01 00 07"]

    def test_takes_dynamic_identifiers(self, ecu: Ecu) -> None:
        ecu.ask("10 03")
        assert ecu.ask("2C 01 F2 33 F190 01 02 0200 01 02") == "6C 01 F2 33"
        ecu.ask("2A 03 33")
        assert ecu.wait(0.01) == ["6A 33 57 56 03 20"]
        ecu.ask("2C 03 F2 33")
        assert ecu.wait(1) == []
        assert not ecu.state.periodic.scheduled


class TestDynamicIdentifiers:
    def test_are_read_like_others(self, ecu: Ecu) -> None:
        assert ecu.ask("2C 01 F3 00 F190 02 03") == "6C 01 F3 00"
        assert ecu.ask("22 F300") == "62 F3 00 56 57 5A"
        assert ecu.ask("2C 01 F3 00 0200 02 01") == "6C 01 F3 00"
        assert ecu.ask("22 F300") == "62 F3 00 56 57 5A 20", "definitions add up"
        assert ecu.ask("2C 03 F3 00") == "6C 03 F3 00"
        assert ecu.ask("22 F300") == "7F 22 31"

    def test_show_memory(self, ecu: Ecu) -> None:
        ecu.state.memory.write(0x4000, b"\xca\xfe")
        assert ecu.ask("2C 02 F3 01 22 4000 0002") == "6C 02 F3 01"
        assert ecu.ask("22 F301") == "62 F3 01 CA FE"
        assert ecu.ask("2C 03") == "6C 03"
        assert ecu.ask("22 F301") == "7F 22 31"

    def test_open_no_back_door(self, ecu: Ecu) -> None:
        ecu.extended()
        assert ecu.ask("2C 01 F3 00 0300 01 04") == "6C 01 F3 00"
        assert ecu.ask("22 F300") == "62 F3 00 DE AD BE EF"
        ecu.ask("10 01")
        assert ecu.ask("22 F300") == "7F 22 31"
        ecu.ask("10 03")
        assert ecu.ask("22 F300") == "7F 22 33"


class TestInputOutputControl:
    def test_adjusts_freezes_resets_and_returns(self, ecu: Ecu) -> None:
        ecu.extended()
        assert ecu.ask("2F 0500 03 32") == "6F 05 00 03 32"
        assert ecu.ask("22 0500") == "62 05 00 32"
        assert ecu.ask("2F 0500 02") == "6F 05 00 02 32"
        assert ecu.ask("2F 0500 01") == "6F 05 00 01 00"
        ecu.state.data.write(0x0500, b"\x07")
        assert ecu.ask("22 0500") == "62 05 00 00", "the ECU's own value waits"
        assert ecu.ask("2F 0500 00") == "6F 05 00 00 07"

    def test_a_mask_names_the_fields(self, ecu: Ecu) -> None:
        ecu.ask("10 03")
        assert ecu.ask("2F 0501 03 22 80") == "6F 05 01 03 21"
        assert ecu.ask("2F 0501 03 02 40") == "6F 05 01 03 22"
        assert ecu.ask("2F 0501 03 10") == "6F 05 01 03 10"


class TestMemory:
    def test_is_read_and_written_by_address(self, ecu: Ecu) -> None:
        assert ecu.ask("3D 22 4000 0002 CAFE") == "7D 22 40 00 00 02"
        assert ecu.ask("23 44 00004000 00000003") == "63 CA FE FF"
        assert ecu.ask("3D 22 3000 0001 00") == "7F 3D 72"


class TestAuthentication:
    def test_opens_what_needs_it_until_given_up(self, ecu: Ecu) -> None:
        assert ecu.ask("22 0301") == "7F 22 34"
        assert ecu.ask("29 08") == "69 08 04"
        challenge = bytes(range(1, 17))
        assert (
            ecu.ask("29 05" + "00" * 17) == "69 05 00" + " 00" * 16 + " 00 10 " + challenge.hex(" ").upper() + " 00 00"
        )
        proof = bytes(byte ^ 0xA5 for byte in challenge)
        assert ecu.ask("29 06" + "00" * 16 + "0010" + proof.hex() + "0000 0000") == "69 06 12" + " 00" * 18
        assert ecu.ask("22 0301") == "62 03 01 00"
        assert ecu.ask("29 00") == "69 00 10"
        assert ecu.ask("22 0301") == "7F 22 34"

    def test_takes_a_challenge_once(self, ecu: Ecu) -> None:
        ecu.ask("29 05" + "00" * 17)
        assert ecu.ask("29 06" + "00" * 16 + "0001 00 0000 0000") == "7F 29 58"
        assert ecu.ask("29 06" + "00" * 16 + "0001 00 0000 0000") == "7F 29 24"


class TestScaling:
    @pytest.mark.parametrize(
        ("did", "answer"),
        [
            ("0200", "64 02 00 02"),
            ("F190", "64 F1 90 6F 62"),
            ("0400", "64 04 00" + " 8F" * 40),
            ("0501", "64 05 01 81"),
        ],
    )
    def test_says_what_the_bytes_are(self, ecu: Ecu, did: str, answer: str) -> None:
        assert ecu.ask(f"24 {did}") == answer

    def test_gives_the_formula(self, write: Callable[[str], Path]) -> None:
        ecu = Ecu(
            write(
                """\
name: ECM
addressing: {request_id: 1, response_id: 2}
dids:
  Voltage: {did: 1, type: uint, length: 2, scale: 0.001}
  Temperature: {did: 2, type: int, length: 1, scale: 0.5, offset: -40}
"""
            )
        )
        # y = C0 * x + C1: 1 * 10^-3 and 0; 5 * 10^-1 and -4 * 10^1
        assert ecu.ask("24 0001") == "64 00 01 02 95 00 D0 01 00 00"
        assert ecu.ask("24 0002") == "64 00 02 11 95 00 F0 05 1F FC"


class TestTiming:
    def test_is_read_set_and_given_up(self, make: Callable[..., Ecu]) -> None:
        ecu = make(services={})
        ecu.ask("10 03")
        assert ecu.ask("83 03") == "C3 03 00 32 01 F4"
        assert ecu.ask("83 04 0064 03E8") == "C3 04"
        assert ecu.ask("83 03") == "C3 03 00 64 03 E8"
        assert ecu.ask("83 01") == "C3 01 00 32 01 F4"
        assert ecu.ask("83 02") == "C3 02"
        assert ecu.ask("83 03") == "C3 03 00 32 01 F4"
        ecu.ask("83 04 0064 03E8")
        ecu.ask("10 01")
        assert (ecu.state.p2_ms, ecu.state.p2_star_ms) == (50, 5000)


class TestLinkControl:
    def test_switches_what_was_verified(self, make: Callable[..., Ecu]) -> None:
        ecu = make(services={})
        ecu.ask("10 03")
        assert ecu.ask("87 01 13") == "C7 01"
        assert ecu.ask("87 03") == "C7 03"
        assert ecu.state.bitrate == 1_000_000
        assert ecu.ask("87 03") == "7F 87 24"
        ecu.ask("10 01")
        assert ecu.state.bitrate is None


class TestResponseOnEvent:
    def test_answers_when_a_status_changes(self, ecu: Ecu) -> None:
        ecu.ask("10 03")
        ecu.ask("86 01 02 01 19 02 01")
        ecu.state.dtcs.failed(0x042000)
        assert ecu.wait(0) == [], "not started yet"
        ecu.ask("86 05 02")
        assert ecu.ask("86 04 02") == "C6 04 01 01 02 01 19 02 01"
        ecu.state.dtcs.passed(0x030100)
        assert ecu.wait(0) == ["59 02 2F 04 20 00 2F"]
        ecu.ask("86 00 02")
        ecu.state.dtcs.passed(0x042000)
        assert ecu.wait(0) == []

    def test_answers_when_a_value_changes(self, ecu: Ecu) -> None:
        ecu.ask("10 03")
        ecu.ask("86 03 02 0200 22 0200")
        ecu.ask("86 05 02")
        assert ecu.ask("2E 0200 0384") == "6E 02 00"
        assert ecu.wait(0) == ["62 02 00 03 84"]
        ecu.ask("2E 0200 0384")
        assert ecu.wait(0) == []
        ecu.ask("86 06 02")
        ecu.ask("2E 0200 0385")
        assert ecu.wait(0) == []


class TestFiles:
    def test_are_read(self, ecu: Ecu) -> None:
        ecu.ask("10 03")
        path = b"log.txt".hex()
        assert ecu.ask(f"38 04 0007 {path} 00") == "78 04 02 00 12 00 00 04 00 00 00 03 00 00 00 03"
        assert ecu.ask("36 01") == "76 01 41 42 43"
        assert ecu.ask("37") == "77"

    def test_are_added_replaced_listed_and_deleted(self, ecu: Ecu) -> None:
        ecu.ask("10 03")
        path = b"a/b.bin".hex()
        assert ecu.ask(f"38 01 0007 {path} 00 01 14 14") == "78 01 02 00 12 00"
        ecu.ask("36 01" + "11" * 16)
        assert ecu.ask("37") == "7F 37 24"
        assert "a/b.bin" not in ecu.state.files.files  # type: ignore[union-attr]
        ecu.ask("36 02" + "22" * 4)
        assert ecu.ask("37") == "77"
        assert ecu.state.files.files["a/b.bin"] == b"\x11" * 16 + b"\x22" * 4  # type: ignore[union-attr]
        assert ecu.ask(f"38 03 0007 {path} 00 01 01 01") == "78 03 02 00 12 00"
        ecu.ask("36 01 33")
        ecu.ask("37")
        assert ecu.ask("38 05 0001 2F") == "78 05 02 00 12 00 00 04 00 00 00 10"
        assert bytes.fromhex(ecu.ask("36 01"))[2:] == b"a/b.bin\nlog.txt\n"
        ecu.ask("37")
        assert ecu.ask(f"38 02 0007 {path}") == "78 02"
        assert ecu.ask(f"38 04 0007 {path} 00") == "7F 38 31"


class TestTroubleCodes:
    @pytest.mark.parametrize(
        ("request_hex", "answer"),
        [
            ("19 01 FF", "59 01 2F 01 00 02"),
            ("19 02 04", "59 02 2F 03 01 00 2F"),
            ("19 02 40", "59 02 2F"),
            ("19 03", "59 03 03 01 00 01"),
            (
                "19 04 030100 01",
                "59 04 03 01 00 2F 01 02 F1 90 57 56 57 5A 5A 5A 31 4B 5A 36 57 30 30 30 30 30 31 02 00 03 20",
            ),
            ("19 04 030100 02", "59 04 03 01 00 2F"),
            ("19 06 030100 01", "59 06 03 01 00 2F 01 01"),
            ("19 06 042000 FF", "59 06 04 20 00 00 01 00"),
            ("19 16 01", "59 16 01 03 01 00 2F 01 C1 00 00 28 01"),
            ("19 07 E0 FF", "59 07 2F 01 00 02"),
            ("19 07 80 FF", "59 07 2F 01 00 01"),
            ("19 08 20 FF", "59 08 2F 20 00 C1 00 00 28"),
            ("19 09 030100", "59 09 2F 80 00 03 01 00 2F"),
            ("19 0A", "59 0A 2F 03 01 00 2F C1 00 00 28 04 20 00 00"),
            ("19 0B", "59 0B 2F 03 01 00 2F"),
            ("19 0E", "59 0E 2F C1 00 00 28"),
            ("19 14", "59 14"),
            ("19 15", "59 15 2F"),
            ("19 42 33 FF E0", "59 42 33 2F E0 01 80 03 01 00 2F 20 C1 00 00 28"),
            ("19 55 33", "59 55 33 2F 01"),
        ],
    )
    def test_are_reported(self, ecu: Ecu, request_hex: str, answer: str) -> None:
        assert ecu.ask(request_hex) == answer

    def test_freeze_on_request(self, ecu: Ecu) -> None:
        ecu.ask("10 03")
        ecu.ask("85 02")
        ecu.state.dtcs.failed(0x042000)
        assert ecu.ask("19 02 01") == "59 02 2F 03 01 00 2F"
        ecu.ask("85 01")
        ecu.state.dtcs.failed(0x042000)
        assert ecu.ask("19 02 01") == "59 02 2F 03 01 00 2F 04 20 00 2F"

    def test_detection_counters_on_their_way_are_reported(self, ecu: Ecu) -> None:
        ecu.state.dtcs.detected(0x042000, 42)
        assert ecu.ask("19 14") == "59 14 04 20 00 2A"
