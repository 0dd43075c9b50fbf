import json
from base64 import b64encode, urlsafe_b64encode
from itertools import pairwise
from urllib.parse import quote
from xml.sax.saxutils import escape

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labd.model.masking import MASK, Mask

SECRETS = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Zs", "Zl", "Zp"], exclude_characters="*"), min_size=4, max_size=12
)
AROUND = st.text("xyz ", max_size=5)


@given(SECRETS, AROUND, AROUND)
def test_a_secret_is_taken_out_wherever_it_stands(secret: str, before: str, after: str) -> None:
    assert secret not in Mask([secret]).text(f"{before}{secret}{after}")


@given(SECRETS, st.binary(max_size=7), st.binary(max_size=7))
def test_a_secret_within_something_encoded_is_taken_out(secret: str, before: bytes, after: bytes) -> None:
    whole = before + secret.encode() + after
    mask = Mask([secret])
    for encoded in (b64encode(whole), urlsafe_b64encode(whole)):
        assert MASK in mask.text(encoded.decode())
    for text in (whole.hex(), whole.hex().upper(), whole.hex(" "), whole.hex(":").upper()):
        assert secret.encode().hex() not in mask.text(text).lower().replace(" ", "").replace(":", "")


@given(SECRETS)
def test_other_spellings_are_taken_out(secret: str) -> None:
    mask = Mask([secret])
    for spelling in (quote(secret), quote(secret, safe=""), json.dumps(secret)[1:-1], escape(secret)):
        assert mask.text(f"<{spelling}>") == f"<{MASK}>"


@given(SECRETS, st.data(), AROUND, AROUND)
def test_a_secret_in_pieces_is_taken_out_of_all_of_them(
    secret: str, data: st.DataObject, before: str, after: str
) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(1, len(secret) - 1), min_size=1, max_size=4)))
    pieces = [secret[start:end] for start, end in pairwise([0, *cuts, len(secret)])]
    pieces[0], pieces[-1] = before + pieces[0], pieces[-1] + after
    arrived = data.draw(st.integers(1, len(pieces) - 1))
    stored, lines = Mask([secret]).lines([*pieces[arrived:], "next"], ["former", *pieces[:arrived]])
    assert secret not in "".join(stored + lines)
    assert (stored[0], lines[-1]) == ("former", "next") or MASK in "".join(stored + lines)
    assert all(MASK in line for line in [*stored[1:], *lines[:-1]])


def test_each_line_of_a_long_secret_is_secret() -> None:
    mask = Mask(["-----BEGIN KEY-----\nMIIBVgIB\n}\n-----END KEY-----\n"])
    assert mask.lines(["a MIIBVgIB", "}", "b"])[1] == [f"a {MASK}", "}", "b"]


def test_a_secret_that_begins_with_another_goes_as_a_whole() -> None:
    assert Mask(["secret", "secret-two"]).text("secret-two, secret") == f"{MASK}, {MASK}"


@pytest.mark.parametrize("value", ["2B7E1516 28AED2A6", "2b7e151628aed2a6", "2B:7E:15:16:28:AE:D2:A6", "K34VFiiu0qY="])
def test_a_key_is_secret_in_whatever_form_its_bytes_are_written(value: str) -> None:
    mask, key = Mask([value]), bytes.fromhex("2B7E151628AED2A6")
    for form in (key.hex(), key.hex(" ").upper(), key.hex(":"), ", ".join(f"0x{byte:02x}" for byte in key)):
        assert mask.text(f"key {form}") in (f"key {MASK}", f"key 0x{MASK}")
    for around in (b"", b"\x00", b"\x00\x11"):
        assert MASK in mask.text(b64encode(around + key + around).decode())


def test_documents_are_masked_throughout() -> None:
    document = {"hunter22": ["x hunter22", 1, None, {"deep": "HUNTER22 68756e7465723232"}]}
    assert Mask(["hunter22"]).document(document) == {MASK: [f"x {MASK}", 1, None, {"deep": f"HUNTER22 {MASK}"}]}


@pytest.mark.parametrize("values", [[], [""], ["abc"]])
def test_without_secrets_everything_stays(values: list[str]) -> None:
    mask = Mask(values)
    assert not mask
    assert mask.text("abc") == "abc"
    assert mask.lines(["abc"], ["x"]) == (["x"], ["abc"])
