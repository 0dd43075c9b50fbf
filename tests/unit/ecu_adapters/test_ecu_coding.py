"""Data identifiers, trouble codes, seed and key: bytes and their meaning."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from ecu_adapters.description import EcuDescription
from ecu_adapters.dids import Did
from ecu_adapters.uds import dtc
from ecu_adapters.uds.security import aes_cmac, xor

_ADAPTER: TypeAdapter[Did] = TypeAdapter(Did)


def _did(**fields: Any) -> Did:
    return _ADAPTER.validate_python({"did": 1, **fields})


@pytest.mark.parametrize(
    ("fields", "value", "data"),
    [
        ({"type": "ascii", "length": 4}, "AB", b"AB  "),
        ({"type": "ascii", "length": 4, "pad": 0}, "AB", b"AB\0\0"),
        ({"type": "hex", "length": 2}, b"\x01\x02", b"\x01\x02"),
        ({"type": "uint", "length": 2}, 0x1234, b"\x12\x34"),
        ({"type": "int", "length": 2}, -2, b"\xff\xfe"),
        ({"type": "uint", "length": 1, "offset": -40}, 90, b"\x82"),
        ({"type": "uint", "length": 2, "scale": 0.001}, 12.6, b"\x31\x38"),
        ({"type": "int", "length": 1, "scale": -0.5}, 10, b"\xec"),
        ({"type": "uint", "length": 1, "choices": {3: "Park"}}, "Park", b"\x03"),
        ({"type": "uint", "length": 8}, (1 << 64) - 1, b"\xff" * 8),
    ],
)
def test_values_and_their_bytes(fields: dict[str, Any], value: Any, data: bytes) -> None:
    did = _did(**fields)
    assert did.encode(value) == data
    assert did.decode(data) == value
    assert did.accepts(data)


@pytest.mark.parametrize(
    ("fields", "value", "message"),
    [
        ({"type": "ascii", "length": 2}, "ABC", "at most 2 fit"),
        ({"type": "ascii", "length": 2}, "é", "ASCII"),
        ({"type": "ascii", "length": 2}, 5, "expected text"),
        ({"type": "hex", "length": 2}, "0102AB", "expected 2 bytes, not 3"),
        ({"type": "hex", "length": 2}, 7, "expected 2 bytes"),
        ({"type": "uint", "length": 1}, -1, "out of range 0 .. 255"),
        ({"type": "uint", "length": 1}, True, "expected a number"),
        ({"type": "uint", "length": 1, "choices": {3: "Park"}}, "Parc", "did you mean Park"),
        ({"type": "uint", "length": 2, "min": 600, "max": 1200, "unit": "rpm", "value": 800}, 1201, "600 .. 1200 rpm"),
        ({"type": "uint", "length": 1}, float("nan"), "out of range"),
    ],
)
def test_values_that_do_not_fit(fields: dict[str, Any], value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message.replace(".", r"\.")):
        _did(**fields).encode(value)


@given(st.integers(1, 8), st.booleans(), st.data())
def test_every_raw_number_survives_decoding_and_encoding(length: int, signed: bool, data: st.DataObject) -> None:
    did = _did(type="int" if signed else "uint", length=length)
    raw = data.draw(st.binary(min_size=length, max_size=length))
    assert did.encode(did.decode(raw)) == raw


@given(st.integers(0, 0xFFFF))
def test_scaled_numbers_survive_too(raw: int) -> None:
    did = _did(type="uint", length=2, scale=0.001, offset=-20)
    data = raw.to_bytes(2, "big")
    assert did.encode(did.decode(data)) == data


def test_bytes_outside_the_bounds_are_not_accepted() -> None:
    did = _did(type="uint", length=2, min=600, max=1200, value=800)
    assert [did.accepts(n.to_bytes(2, "big")) for n in (599, 600, 1200, 1201)] == [False, True, True, False]
    assert not _did(type="ascii", length=1).accepts(b"\xff")


def test_a_raw_value_without_a_default_is_zero() -> None:
    assert _did(type="hex", length=3).value == "000000"


@pytest.mark.parametrize(
    ("code", "number"), [("P0301", 0x030100), ("U0100", 0xC10000), ("C1234-11", 0x523411), ("b3FFF", 0xBFFF00)]
)
def test_trouble_codes(code: str, number: int) -> None:
    assert dtc.parse(code) == number
    assert dtc.text(number) == code.upper()


@given(st.integers(0, 0xFFFFFF))
def test_every_number_has_a_trouble_code(number: int) -> None:
    assert dtc.parse(dtc.text(number)) == number


def test_status_bits_have_names() -> None:
    assert [name for name, bit in dtc.flags(0x28).items() if bit] == ["confirmed", "failed_since_clear"]


def test_aes_cmac_is_that_of_rfc_4493() -> None:
    secret = bytes.fromhex("2b7e151628aed2a6abf7158809cf4f3c")
    assert aes_cmac(secret, b"").hex() == "bb1d6929e95937287fa37d129b756746"
    message = bytes.fromhex("6bc1bee22e409f96e93d7e117393172a")
    assert aes_cmac(secret, message).hex() == "070a16b46b4d4144f79bdd9dd04a287c"


def test_xor_repeats_its_secret(ecu: EcuDescription) -> None:
    assert xor(b"\xa5\x5a", b"\x01\x02\x03") == b"\xa4\x58\xa6"
    assert ecu.security[1].key_for(bytes(4), 1) == bytes.fromhex("A5A5A5A5")
