import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labd.client import UnexpectedAnswer, log_stream
from labd.client.log_stream import events
from labd.client.transport import Transport
from tests.unit.client.test_lab_client import unused_url

TRANSPORT = Transport(unused_url(), bearer=lambda: None, timeout_s=1)


def reader(stream: bytes) -> Callable[[int], bytes]:
    lines = iter(stream.splitlines(keepends=True))
    return lambda _limit: next(lines, b"")


@given(st.lists(st.text(), max_size=5), st.sampled_from(["\n", "\r\n"]))
def test_any_text_comes_through(texts: list[str], newline: str) -> None:
    wire = "".join(
        f": comment\n\nid: {number}\nevent: line\ndata: {json.dumps(text)}\n\n" for number, text in enumerate(texts)
    ).replace("\n", newline)
    found = list(events(TRANSPORT, reader(wire.encode())))
    assert [(event, json.loads(data), seq) for event, data, seq in found] == [
        ("line", text, str(seq)) for seq, text in enumerate(texts)
    ]


def test_an_event_that_is_cut_off_is_left_out() -> None:
    wire = b"event: line\ndata: {}\n\nevent: line\ndata: {}"
    assert list(events(TRANSPORT, reader(wire))) == [("line", "{}", "")]


def test_an_event_without_end_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_stream, "MAX_EVENT_BYTES", 100)
    for wire in (b"d" * 100, b"data: 0123456789\n" * 20):
        with pytest.raises(UnexpectedAnswer, match="more than 100 bytes"):
            list(events(TRANSPORT, reader(wire)))
