"""The UDS server of the simulated ECU, on virtual time: sessions, security, 0x78, suppression, functional requests."""

from collections.abc import Callable
from typing import Any

import pytest

from ecu_adapters.description import EcuDescription
from ecu_adapters.simulator import UdsServer, VirtualClock

SEED = bytes((1, 2, 3, 4))


class Bench:
    """A server, its clock, and what it has said."""

    def __init__(self, ecu: EcuDescription, **simulation: Any) -> None:
        if simulation:
            ecu = ecu.model_copy(update={"simulation": ecu.simulation.model_copy(update=simulation)})
        self.ecu = ecu
        self.clock = VirtualClock()
        self.said: list[tuple[float, str]] = []
        self.silences: list[bool] = []
        self.server = UdsServer(
            ecu, self.clock, self._hear, random_bytes=lambda length: SEED[:length], on_silence=self.silences.append
        )

    def _hear(self, pdu: bytes) -> None:
        self.said.append((round(self.clock.now(), 6), pdu.hex(" ").upper()))

    def ask(self, request: str, *, functional: bool = False) -> list[str]:
        """What the server answers at once."""
        before = len(self.said)
        self.server.receive(bytes.fromhex(request), functional)
        return [answer for _, answer in self.said[before:]]

    def unlock(self) -> None:
        self.ask("10 03")
        self.ask("27 01")
        assert self.ask("27 02 A4 A7 A6 A1") == ["67 02"]


@pytest.fixture
def bench(ecu: EcuDescription) -> Bench:
    return Bench(ecu)


@pytest.fixture
def slow(ecu: EcuDescription) -> Callable[..., Bench]:
    return lambda **simulation: Bench(ecu, **simulation)


@pytest.mark.parametrize(
    ("request_hex", "answer"),
    [
        ("10", "7F 10 13"),
        ("10 05", "7F 10 12"),
        ("10 01 00", "7F 10 13"),
        ("3E 01", "7F 3E 12"),
        ("3E 00 00", "7F 3E 13"),
        ("BA", "7F BA 11"),
        ("27 01", "7F 27 7F"),
        ("10 03", "50 03 00 32 00 32"),
        ("3E 00", "7E 00"),
        ("22 F1 90", "62 F1 90 57 56 57 5A 5A 5A 31 4B 5A 36 57 30 30 30 30 30 31"),
        ("22 FF FF 02 01", "62 02 01 03"),
        ("22 02 01 02 00", "62 02 01 03 02 00 03 20"),
        ("19 01 FF", "59 01 2F 01 00 02"),
        ("19 02 04", "59 02 2F 03 01 00 2F"),
        ("19 02 40", "59 02 2F"),
        ("19 0A", "59 0A 2F 03 01 00 2F C1 00 00 28 04 20 00 00"),
        ("14 FF FF FF", "54"),
    ],
)
def test_requests_and_answers(bench: Bench, request_hex: str, answer: str) -> None:
    assert bench.ask(request_hex) == [answer]


def test_a_cleared_code_keeps_only_bits_that_the_ecu_supports(bench: Bench) -> None:
    assert bench.ask("14 03 01 00") == ["54"]
    assert bench.ask("19 02 FF") == ["59 02 2F C1 00 00 28"]
    assert bench.server.state.dtcs.status(0x030100) == 0x50


class TestSession:
    def test_ends_after_s3_of_silence(self, bench: Bench) -> None:
        bench.unlock()
        bench.clock.advance(4.99)
        assert bench.server.state.session == 3
        bench.clock.advance(0.02)
        assert bench.server.state.session == 1
        assert bench.ask("27 01") == ["7F 27 7F"]
        assert bench.server.stats.session_timeouts == 1

    @pytest.mark.parametrize("keep_alive", ["3E 80", "3E 00", "22 F1 90", "BA"])
    def test_lives_as_long_as_any_request_comes(self, bench: Bench, keep_alive: str) -> None:
        bench.ask("10 03")
        for _ in range(5):
            bench.clock.advance(4)
            bench.ask(keep_alive)
        assert bench.server.state.session == 3

    def test_the_default_session_has_no_end(self, bench: Bench) -> None:
        bench.ask("22 F1 90")
        bench.clock.advance(100)
        assert bench.server.stats.session_timeouts == 0

    def test_s3_stands_still_while_a_request_is_in_work(self, slow: Callable[..., Bench]) -> None:
        bench = slow(service_delay_ms={0x14: 8000})
        bench.ask("10 03")
        bench.clock.advance(4)
        bench.ask("14 FF FF FF")
        bench.clock.advance(8)
        assert bench.said[-1][1] == "54"
        bench.clock.advance(4.9)
        assert bench.server.state.session == 3
        bench.clock.advance(0.2)
        assert bench.server.state.session == 1

    @pytest.mark.parametrize("change", ["10 01", "10 02", "10 03"])
    def test_any_change_relocks_security(self, bench: Bench, change: str) -> None:
        bench.unlock()
        bench.ask(change)
        bench.ask("10 03")
        assert bench.ask("22 03 00") == ["7F 22 33"]

    def test_some_sessions_are_entered_from_some_only(self, bench: Bench) -> None:
        assert bench.ask("10 02") == ["7F 10 7E"]
        bench.ask("10 03")
        assert bench.ask("10 02") == ["50 02 00 32 00 32"]
        assert bench.ask("10 02") == ["50 02 00 32 00 32"]

    def test_announces_its_timing(self, ecu: EcuDescription) -> None:
        timing = ecu.timing.model_copy(update={"p2_ms": 50, "p2_star_ms": 5000})
        assert Bench(ecu.model_copy(update={"timing": timing})).ask("10 03") == ["50 03 00 32 01 F4"]


class TestSecurity:
    def test_unlocks_what_was_locked(self, bench: Bench) -> None:
        bench.ask("10 03")
        assert bench.ask("22 03 00") == ["7F 22 33"]
        assert bench.ask("27 01") == ["67 01 01 02 03 04"]
        assert bench.ask("27 02 A4 A7 A6 A1") == ["67 02"]
        assert bench.ask("22 03 00") == ["62 03 00 DE AD BE EF"]
        assert bench.ask("2E F1 98 78 79 7A 20 20 20") == ["6E F1 98"]
        assert bench.ask("22 F1 98") == ["62 F1 98 78 79 7A 20 20 20"]

    def test_an_unlocked_level_gives_a_seed_of_zeros(self, bench: Bench) -> None:
        bench.unlock()
        assert bench.ask("27 01") == ["67 01 00 00 00 00"]
        assert bench.ask("22 03 00") == ["62 03 00 DE AD BE EF"]

    def test_a_locked_level_never_gives_a_seed_of_zeros(self, ecu: EcuDescription) -> None:
        drawn = iter([bytes(4), bytes(4), SEED])
        said: list[bytes] = []
        server = UdsServer(ecu, VirtualClock(), said.append, random_bytes=lambda _length: next(drawn))
        server.receive(b"\x10\x03")
        server.receive(b"\x27\x01")
        assert said[-1] == b"\x67\x01" + SEED

    def test_one_level_at_a_time(self, bench: Bench) -> None:
        bench.unlock()
        seed = bytes.fromhex(bench.ask("27 03")[0].replace(" ", ""))[2:]
        key = bench.ecu.security[3].key_for(seed, 3)
        assert bench.ask("27 04" + key.hex()) == ["67 04"]
        assert bench.ask("22 03 00") == ["7F 22 33"]

    def test_a_wrong_key_voids_its_seed(self, bench: Bench) -> None:
        bench.ask("10 03")
        bench.ask("27 01")
        assert bench.ask("27 02 00 00 00 00") == ["7F 27 35"]
        assert bench.ask("27 02 A4 A7 A6 A1") == ["7F 27 24"]

    def test_locks_out_after_too_many_wrong_keys_until_the_delay_is_over(self, bench: Bench) -> None:
        bench.ask("10 03")
        answers = []
        for _ in range(3):
            bench.ask("27 01")
            answers += bench.ask("27 02 00 00 00 00")
        assert answers == ["7F 27 35", "7F 27 35", "7F 27 36"]
        assert bench.ask("27 01") == ["7F 27 37"]
        # The other level is no part of it, and neither session change nor reset shorten it.
        assert bench.ask("27 03")[0].startswith("67 03")
        bench.clock.advance(4)
        bench.ask("11 01")
        bench.clock.advance(4)
        bench.ask("10 03")
        assert bench.ask("27 01") == ["7F 27 37"]
        bench.clock.advance(2.1)
        assert bench.ask("27 01") == ["67 01 01 02 03 04"]
        assert bench.ask("27 02 A4 A7 A6 A1") == ["67 02"]

    def test_the_right_key_forgives_the_wrong_ones(self, bench: Bench) -> None:
        bench.ask("10 03")
        for _ in range(3):
            for key in ("00 00 00 00", "00 00 00 00", "A4 A7 A6 A1"):
                bench.ask("27 01")
                answer = bench.ask(f"27 02 {key}")
            assert answer == ["67 02"]
            bench.ask("10 03")

    def test_a_key_of_the_wrong_length_costs_no_attempt(self, bench: Bench) -> None:
        bench.ask("10 03")
        bench.ask("27 01")
        for _ in range(5):
            assert bench.ask("27 02 A4 A7") == ["7F 27 13"]
        assert bench.ask("27 02 A4 A7 A6 A1") == ["67 02"]


class TestSuppressedPositive:
    def test_positive_answers_are_not_sent(self, bench: Bench) -> None:
        assert bench.ask("3E 80") == []
        assert bench.ask("10 83") == []
        assert bench.server.state.session == 3
        assert bench.server.stats.unanswered == 2

    def test_negative_answers_are(self, bench: Bench) -> None:
        assert bench.ask("10 85") == ["7F 10 12"]

    def test_services_without_sub_function_have_no_such_bit(self, bench: Bench) -> None:
        assert bench.ask("22 81 90") == ["7F 22 31"]

    def test_after_a_0x78_the_final_answer_is_sent(self, slow: Callable[..., Bench]) -> None:
        bench = slow(service_delay_ms={0x10: 100})
        bench.ask("10 83")
        bench.clock.advance(1)
        assert [answer for _, answer in bench.said] == ["7F 10 78", "50 03 00 32 00 32"]


class TestResponsePending:
    def test_comes_within_p2_then_within_p2_star_and_ends_with_an_answer(self, slow: Callable[..., Bench]) -> None:
        bench = slow(service_delay_ms={0x14: 1000})
        bench.ask("14 FF FF FF")
        bench.clock.advance(5)
        times = [at for at, answer in bench.said if answer == "7F 14 78"]
        assert times[0] <= 0.05
        assert all(later - earlier <= 0.5 for earlier, later in zip(times, [*times[1:], 1.0], strict=True))
        assert bench.said[-1] == (1.0, "54")

    def test_quick_requests_go_without(self, slow: Callable[..., Bench]) -> None:
        bench = slow(response_delay_ms=40)
        bench.ask("22 F1 90")
        assert bench.said == []
        bench.clock.advance(0.04)
        assert [at for at, _ in bench.said] == [0.04]

    def test_a_refusal_needs_no_time(self, slow: Callable[..., Bench]) -> None:
        assert slow(service_delay_ms={0x14: 1000}).ask("14 00 00 00") == ["7F 14 31"]

    def test_other_requests_meet_a_busy_ecu_but_tester_present_is_taken(self, slow: Callable[..., Bench]) -> None:
        bench = slow(service_delay_ms={0x14: 1000})
        bench.ask("14 FF FF FF")
        assert bench.ask("3E 80", functional=True) == []
        assert bench.ask("3E 80") == []
        assert bench.ask("22 F1 90") == ["7F 22 21"]
        assert bench.ask("22 F1 90", functional=True) == []
        bench.clock.advance(1)
        assert bench.said[-1][1] == "54"
        assert bench.ask("22 02 01") == ["62 02 01 03"]

    def test_stopping_leaves_nothing_behind(self, slow: Callable[..., Bench]) -> None:
        bench = slow(service_delay_ms={0x14: 1000})
        bench.ask("14 FF FF FF")
        bench.server.stop()
        bench.clock.advance(10)
        assert bench.said == []


class TestFunctionalRequests:
    @pytest.mark.parametrize("request_hex", ["BA", "10 05", "22 FF FF", "27 01", "10 02"])
    def test_are_not_answered_with_not_me(self, bench: Bench, request_hex: str) -> None:
        assert len(bench.ask(request_hex)) == 1
        assert bench.ask(request_hex, functional=True) == []

    @pytest.mark.parametrize(("request_hex", "answer"), [("10", "7F 10 13"), ("22 02 01", "62 02 01 03")])
    def test_are_answered_otherwise(self, bench: Bench, request_hex: str, answer: str) -> None:
        assert bench.ask(request_hex, functional=True) == [answer]

    def test_security_refusals_are_sent(self, bench: Bench) -> None:
        bench.ask("10 03")
        assert bench.ask("22 03 00", functional=True) == ["7F 22 33"]

    def test_after_a_0x78_every_refusal_is_sent(self, slow: Callable[..., Bench]) -> None:
        bench = slow(response_delay_ms=100)
        bench.ask("22 FF FF", functional=True)
        bench.clock.advance(1)
        assert [answer for _, answer in bench.said] == ["7F 22 78", "7F 22 31"]


class TestReset:
    def test_is_answered_first_then_there_is_silence_then_the_default_session(self, bench: Bench) -> None:
        bench.unlock()
        bench.ask("2E F1 98 78 79 7A 20 20 20")
        assert bench.ask("11 01") == ["51 01"]
        assert bench.silences == [True]
        assert bench.ask("22 F1 90") == []
        bench.clock.advance(0.11)
        assert bench.silences == [True, False]
        assert bench.ask("27 01") == ["7F 27 7F"]
        assert bench.ask("22 F1 98") == ["62 F1 98 78 79 7A 20 20 20"], "written values survive"

    def test_happens_with_the_answer_suppressed_too(self, bench: Bench) -> None:
        bench.ask("10 03")
        assert bench.ask("11 81") == []
        assert bench.server.booting
        assert bench.server.state.session == 1


def test_answers_beyond_the_transport_are_refused(bench: Bench) -> None:
    assert bench.ask("22" + "0400" * 7) == ["7F 22 14"]
    assert len(bench.ask("22" + "0400" * 6)[0]) > 3000


def test_empty_requests_are_ignored(bench: Bench) -> None:
    assert bench.ask("") == []
