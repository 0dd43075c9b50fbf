from datetime import UTC, datetime, timedelta

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labd.cli.options import duration, parse_pdu
from labd.cli.output import ago, clean, columns
from labd.cli.output import duration as duration_text
from labd.cli.uds_text import spaced


@pytest.mark.parametrize(
    ("text", "seconds"), [("30m", 1800), ("1h30m", 5400), ("250ms", 0.25), ("45", 45), ("1.5s", 1.5), ("2d", 172800)]
)
def test_durations(text: str, seconds: float) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["", "m", "-5s", "5 s", "5x", "0", "1e9", "nan", "5s5"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(click.BadParameter):
        duration(text)


@given(st.binary(min_size=1, max_size=20))
def test_a_pdu_reads_back_as_it_is_printed(data: bytes) -> None:
    assert parse_pdu((spaced(data),)) == parse_pdu(tuple(spaced(data).split())) == parse_pdu((data.hex(),)) == data


@given(st.text())
def test_cleaned_text_holds_no_control_characters(text: str) -> None:
    assert all(character in "\t\n" or character.isprintable() or character > "\x9f" for character in clean(text))


@given(st.lists(st.tuples(st.text("ab c"), st.text("xy")), min_size=1))
def test_columns_stand_under_each_other(rows: list[tuple[str, str]]) -> None:
    second = max(len(first or "-") for first, _ in rows) + 2
    for (_, cell), line in zip(rows, columns(rows), strict=True):
        assert line[second:] == (cell or "-")


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.85, "850 ms"), (12.34, "12.3 s"), (245, "4 min 05 s"), (7810, "2 h 10 min")]
)
def test_durations_for_people(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


def test_how_long_ago() -> None:
    now = datetime.now(UTC)
    assert ago(None) == ""
    assert ago(now.isoformat()) == "now"
    assert ago((now - timedelta(seconds=90)).isoformat().replace("+00:00", "Z")) == "1 min 30 s ago"
    assert ago((now + timedelta(hours=2, seconds=1)).replace(tzinfo=None).isoformat()).startswith("in 2 h")
