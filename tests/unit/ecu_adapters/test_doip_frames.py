"""The generic DoIP header: what is read from a stream or a datagram, and what is refused."""

import pytest
from doipclient import messages
from doipclient.client import Parser
from hypothesis import given
from hypothesis import strategies as st

from ecu_adapters.doip import frames

DIAGNOSTIC = messages.DiagnosticMessage(0x0E80, 0x1001, b"\x22\xf1\x90")
LONGEST = 4096


def _reader() -> frames.StreamReader:
    return frames.StreamReader(frames.admits(frames.TO_ENTITY, LONGEST))


def test_a_message_is_read_from_any_pieces() -> None:
    stream = frames.encode(2, DIAGNOSTIC) + frames.encode(3, messages.AliveCheckRequest())
    reader = _reader()
    found = [message for byte in stream for message in reader.feed(bytes((byte,)))]
    assert found == [frames.Message(2, 0x8001, bytes(DIAGNOSTIC.pack())), frames.Message(3, 0x0007, b"")]
    assert isinstance(found[0], frames.Message)
    assert found[0].unpack() == DIAGNOSTIC
    assert list(_reader().feed(stream)) == found


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ("02FE 8001 00000005", frames.WRONG_PATTERN),
        ("0EF1 8001 00000005", frames.WRONG_PATTERN),
        ("02FD 1234 00000005", frames.UNKNOWN_TYPE),
        ("02FD 8001 00001001", frames.TOO_LARGE),
        ("02FD 8001 FFFFFFFF", frames.TOO_LARGE),
        ("02FD 8001 00000004", frames.WRONG_LENGTH),
        ("02FD 0005 00000008", frames.WRONG_LENGTH),
    ],
)
def test_a_header_is_refused_with_the_code_of_the_standard(header: str, code: int) -> None:
    refused = next(iter(_reader().feed(bytes.fromhex(header))))
    assert refused == frames.Refused(code, bytes.fromhex(header))
    assert refused.deadly == (code in (frames.WRONG_PATTERN, frames.WRONG_LENGTH))


def test_the_stream_goes_on_behind_a_message_that_is_too_large_or_unknown() -> None:
    stream = frames.encode_raw(2, 0x8001, bytes(LONGEST + 1)) + frames.encode_raw(2, 0x7777, b"abc")
    found = list(_reader().feed(stream + frames.encode(2, DIAGNOSTIC)))
    assert [one.code for one in found if isinstance(one, frames.Refused)] == [frames.TOO_LARGE, frames.UNKNOWN_TYPE]
    assert found[-1] == frames.Message(2, 0x8001, bytes(DIAGNOSTIC.pack()))


def test_after_a_wrong_pattern_nothing_is_believed() -> None:
    reader = _reader()
    assert len(list(reader.feed(b"GET / HTTP/1.1\r\n" + frames.encode(2, DIAGNOSTIC)))) == 1
    assert list(reader.feed(frames.encode(2, DIAGNOSTIC))) == []


@given(pieces=st.lists(st.binary(max_size=40)), known=st.booleans())
def test_garbage_never_raises_nor_piles_up(pieces: list[bytes], known: bool) -> None:
    reader = _reader()
    for piece in [bytes.fromhex("02FD800100000040"), *pieces] if known else pieces:
        for message in reader.feed(piece):
            assert isinstance(message, frames.Message | frames.Refused)
        assert reader.pending <= LONGEST


@given(pdu=st.binary(min_size=1, max_size=300), source=st.integers(1, 0xFFFF), target=st.integers(1, 0xFFFF))
def test_doipclient_reads_what_is_written_and_the_other_way_round(pdu: bytes, source: int, target: int) -> None:
    message = messages.DiagnosticMessage(source, target, pdu)
    encoded = frames.encode(2, message)
    assert Parser().read_message(encoded) == message
    (found,) = _reader().feed(encoded)
    assert isinstance(found, frames.Message)
    assert found.unpack() == message


@given(data=st.binary(max_size=60))
def test_a_datagram_is_one_message_or_none(data: bytes) -> None:
    found = frames.decode_datagram(data, frames.UDP_TO_ENTITY)
    assert (found is None) == (len(data) < 8)


def test_a_datagram_with_a_wrong_length_is_refused() -> None:
    for data in ("02FD 0001 00000001", "02FD 0001 00000000 00", "02FD 0002 00000006 0102"):
        refused = frames.decode_datagram(bytes.fromhex(data), frames.UDP_TO_ENTITY)
        assert isinstance(refused, frames.Refused)
        assert refused.code == frames.WRONG_LENGTH
