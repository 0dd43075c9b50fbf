"""What cyclic messages carry: counters and checksums, checked with other people's code, and their corruption."""

from collections.abc import Callable
from pathlib import Path

import can
import pytest
from cantools.autosar.end_to_end import check_profile2_crc, check_profile5_crc
from crccheck.crc import Crc8Autosar, Crc8SaeJ1850, Crc16CcittFalse  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st

from ecu_adapters.cyclic.bits import Bits
from ecu_adapters.cyclic.e2e import Checksum
from ecu_adapters.cyclic.payload import Corruption, Counter, Recipe
from ecu_adapters.dbc import Database, DatabaseError

POWERTRAIN = Database.load(Path(__file__).parents[3] / "dbc" / "powertrain.dbc")


def frame(data: bytes, *, fd: bool = False) -> can.Message:
    return can.Message(arbitration_id=0x123, is_extended_id=False, is_fd=fd, data=data)


def control(**signals: float) -> Recipe:
    return Recipe.of_message(
        POWERTRAIN, "EngineControl", signals, Counter("Alive"), Checksum("crc8_j1850", "CRC", data_ids=(0x1A,))
    )


def test_counter_and_checksum_in_every_state() -> None:
    frames = control(TargetSpeed=1500).frames()
    assert len(frames) == 16
    for index, sent in enumerate(frames):
        decoded = POWERTRAIN.decode(sent)
        assert decoded is not None
        assert decoded[1]["TargetSpeed"] == 1500
        assert decoded[1]["Alive"] == index
        assert decoded[1]["CRC"] == Crc8SaeJ1850.calc(bytes(sent.data[:7]) + b"\x1a")


@given(
    data=st.binary(min_size=8, max_size=8),
    data_id=st.integers(0, 255),
    first=st.integers(0, 6),
    initial=st.none() | st.integers(0, 255),
)
def test_plain_checksums_agree_with_their_definitions(
    data: bytes, data_id: int, first: int, initial: int | None
) -> None:
    covered = data[first:7] + bytes([data_id])
    xor = initial or 0
    for byte in covered:
        xor ^= byte
    expected: dict[str, Callable[[], int]] = {
        "xor8": lambda: xor,
        "sum8": lambda: (sum(covered) + (initial or 0)) % 256,
        "crc8_j1850": lambda: int(Crc8SaeJ1850.calc(covered, initvalue=initial)),
        "crc8_8h2f": lambda: int(Crc8Autosar.calc(covered, initvalue=initial)),
    }
    for algorithm, compute in expected.items():
        checksum = Checksum(algorithm, bits=Bits(56, 8), first=first, initial=initial, data_ids=(data_id,))
        (sent,) = Recipe.of_frame(frame(data), checksum=checksum).frames()
        assert sent.data[7] == compute(), algorithm
        assert sent.data[:7] == data[:7]


@given(st.binary(min_size=4, max_size=64), st.integers(0, 0xFFFF))
def test_profile_5_is_what_cantools_checks(data: bytes, data_id: int) -> None:
    length = min(size for size in (4, 8, 16, 32, 64) if size >= len(data))
    recipe = Recipe.of_frame(
        frame(data.ljust(length, b"\0"), fd=True), checksum=Checksum("e2e_p05", data_ids=(data_id,))
    )
    frames = recipe.frames()
    assert [sent.data[2] for sent in frames] == list(range(256))
    assert all(check_profile5_crc(bytes(sent.data), data_id) for sent in frames[::50])
    assert not any(check_profile5_crc(bytes(sent.data), data_id) for sent in recipe.frames(Corruption(0x8000))[::50])


def test_profile_2_takes_a_data_id_for_each_counter_value() -> None:
    ids = tuple(range(100, 116))
    frames = Recipe.of_frame(frame(bytes(8)), checksum=Checksum("e2e_p02", data_ids=ids)).frames()
    assert len(frames) == 16
    for count, sent in enumerate(frames):
        assert sent.data[1] & 0xF == count
        assert check_profile2_crc(bytes(sent.data), ids[count])


def test_crc16_over_a_range() -> None:
    checksum = Checksum("crc16_ccitt", bits=Bits(48, 16), first=2, last=5)
    (sent,) = Recipe.of_frame(frame(bytes(range(8))), checksum=checksum).frames()
    assert int.from_bytes(sent.data[6:], "little") == Crc16CcittFalse.calc(bytes([2, 3, 4, 5]))


@given(
    start=st.integers(0, 63),
    length=st.integers(1, 16),
    value=st.integers(0, 0xFFFF),
    data=st.binary(min_size=8, max_size=8),
)
def test_bits_lie_where_cantools_has_them(start: int, length: int, value: int, data: bytes) -> None:
    import cantools

    for order, big in ((1, False), (0, True)):
        bits = Bits(start, length, big_endian=big)
        payload = bytearray(data)
        try:
            bits.put(payload, value)
        except ValueError:
            assert max(byte for byte, _ in bits.places()) > 7
            continue
        text = f'VERSION ""\nBU_: A\nBO_ 1 M: 8 A\n SG_ S : {start}|{length}@{order}+ (1,0) [0|0] "" A\n'
        message = cantools.database.load_string(text, "dbc").get_message_by_name("M")  # type: ignore[union-attr]
        assert message.decode(bytes(payload)) == {"S": value % (1 << length)}


def test_counters_with_modulo_first_and_step() -> None:
    def states(counter: Counter) -> list[int]:
        return Recipe.of_frame(frame(bytes(2)), counter).states

    assert states(Counter(bits=Bits(0, 4), modulo=15)) == list(range(15))
    assert states(Counter(bits=Bits(0, 4), modulo=14, first=1)) == list(range(1, 15))
    assert states(Counter(bits=Bits(0, 4), step=4)) == [0, 4, 8, 12]
    assert states(Counter(bits=Bits(0, 2), step=3)) == [0, 3, 2, 1]


def test_a_change_keeps_what_was_set_before() -> None:
    changed = control(TargetSpeed=1500).changed({"TorqueLimit": 100})
    decoded = POWERTRAIN.decode(changed.frames()[3])
    assert decoded is not None
    assert (decoded[1]["TargetSpeed"], decoded[1]["TorqueLimit"], decoded[1]["Alive"]) == (1500, 100, 3)


def test_corruption_and_back() -> None:
    recipe = control(TargetSpeed=1500)
    sound = [bytes(sent.data) for sent in recipe.frames()]
    wrong = [bytes(sent.data) for sent in recipe.frames(Corruption(checksum_xor=0xFF))]
    assert [data[:7] for data in wrong] == [data[:7] for data in sound]
    assert all(bad[7] == good[7] ^ 0xFF for bad, good in zip(wrong, sound, strict=True))
    assert [bytes(sent.data) for sent in recipe.frames(Corruption(length=3))] == [data[:3] for data in sound]
    assert recipe.frames(Corruption(data_xor=b"\x01"))[0].data[0] == sound[0][0] ^ 1
    assert [bytes(sent.data) for sent in recipe.frames()] == sound


def test_payloads_made_elsewhere_replace_all_but_the_counter() -> None:
    recipe = Recipe.of_frame(frame(b""), Counter(modulo=3)).changed(payloads=(b"\x01", b"\x02\x02", b"\x03"))
    assert [bytes(sent.data) for sent in recipe.frames()] == [b"\x01", b"\x02\x02", b"\x03"]
    with pytest.raises(ValueError, match="2 payloads given; the counter has 3 states"):
        recipe.changed(payloads=(b"", b""))
    with pytest.raises(ValueError, match="makes no checksum"):
        recipe.check(Corruption(checksum_xor=1))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: control(TargetSped=1), "did you mean 'TargetSpeed'|TargetSpeed"),
        (lambda: control(TargetSpeed=9000), "out of range 0 .. 8000 rpm"),
        (lambda: control(Alive=3), "Alive is made by the agent"),
        (lambda: Recipe.of_message(POWERTRAIN, "EngineControl", {}, Counter("Alve")), "Alive"),
        (lambda: Recipe.of_message(POWERTRAIN, "EngineControl", {}, Counter("Alive", modulo=17)), "goes up to 16"),
        (lambda: Recipe.of_message(POWERTRAIN, "EngineControl", {}, Counter("Alive", first=1)), "needs a modulo"),
        (lambda: Recipe.of_frame(frame(b""), Counter(step=0)), "step is 0"),
        (lambda: Recipe.of_frame(frame(b""), Counter(modulo=70_000)), "modulo is 70000"),
        (lambda: Recipe.of_frame(frame(b"\0"), Counter(bits=Bits(8, 4))), "outside the message's 1 bytes"),
        (lambda: Recipe.of_frame(frame(b"\0"), checksum=Checksum("crc8_j1580", bits=Bits(0, 8))), "crc8_j1850"),
        (lambda: Recipe.of_frame(frame(b"\0"), checksum=Checksum("crc8")), "needs a signal, or else bits"),
        (lambda: Recipe.of_frame(frame(bytes(8)), checksum=Checksum("crc16_ccitt", bits=Bits(0, 8))), "16 bits"),
        (lambda: Recipe.of_frame(frame(bytes(2)), checksum=Checksum("crc8", bits=Bits(0, 8), last=2)), "covers byte 2"),
        (lambda: Recipe.of_frame(frame(bytes(8)), checksum=Checksum("e2e_p02")), "needs a data ID"),
        (lambda: Recipe.of_frame(frame(bytes(8)), checksum=Checksum("e2e_p02", "CRC", data_ids=(1,))), "data ID only"),
        (lambda: Recipe.of_frame(frame(bytes(1)), checksum=Checksum("e2e_p05", data_ids=(1,))), "bytes"),
        (lambda: Recipe.of_frame(frame(bytes(8)), checksum=Checksum("sum8", bits=Bits(0, 8), initial=256)), "0 .. 255"),
        (lambda: Recipe.of_frame(frame(bytes(8))).check(Corruption(length=9)), "classic CAN; it takes 0 .. 8"),
        (lambda: Recipe.of_frame(frame(b"\0")).check(Corruption(data_xor=b"12")), "data_xor has 2 bytes"),
        (lambda: Recipe.of_frame(frame(b"\0")).changed({"Speed": 1}), "a raw frame has no signals"),
        (lambda: control().changed(data=b"\0"), "made of signals"),
        (lambda: control().check(Corruption(checksum_xor=0x100)), "must be 1 .. 0xFF"),
    ],
)
def test_mistakes_are_named(make: Callable[[], object], message: str) -> None:
    with pytest.raises((ValueError, DatabaseError), match=message):
        make()


def test_values_out_of_range_when_forced() -> None:
    forced = Recipe.of_message(POWERTRAIN, "EngineControl", {"TargetSpeed": 9000}, force=True)
    decoded = POWERTRAIN.decode(forced.frames()[0])
    assert decoded is not None
    assert decoded[1]["TargetSpeed"] == 9000
    with pytest.raises(DatabaseError, match=r"does not fit into its bits, which hold 0 .. 16383.8 rpm"):
        forced.changed({"TargetSpeed": 16384})
