from datetime import UTC, datetime, timedelta

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labd.cli.options import duration, moment, parse_pdu, wanted_benches
from labd.cli.output import ago, clean, columns
from labd.cli.output import duration as duration_text
from labd.cli.uds_text import spaced


@pytest.mark.parametrize(
    ("text", "seconds"), [("30m", 1800), ("1h30m", 5400), ("250ms", 0.25), ("45", 45), ("1.5s", 1.5), ("2d", 172800)]
)
def test_durations(text: str, seconds: float) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.85, "850 ms"),
        (12.34, "12.3 s"),
        (245, "4 min 05 s"),
        (7800, "2 h 10 min"),
        (172_740, "47 h 59 min"),
        (172_800, "2 d 00 h"),
        (2_592_000, "30 d 00 h"),
    ],
)
def test_durations_are_shown_in_units_that_people_count_in(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


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


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", ("", 1)),
        ("platform=meb", ("platform=meb", 1)),
        ("1*name=a", ("name=a", 1)),
        ("2*platform in (meb,mqb)", ("platform in (meb,mqb)", 2)),
        (" 32 * gateway", ("gateway", 32)),
        ("2*", ("", 2)),
    ],
)
def test_what_is_wanted_may_have_a_count(text: str, wanted: tuple[str, int]) -> None:
    found = wanted_benches(text)
    assert (found["selector"], found["count"]) == wanted


@pytest.mark.parametrize("text", ["0*platform=meb", "33*"])
def test_a_count_that_no_lease_has_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="a lease has 1 to 32"):
        wanted_benches(text)


@pytest.mark.parametrize(("text", "later_s"), [("+2h", 7200), ("+90s", 90)])
def test_a_time_from_now_on(text: str, later_s: float) -> None:
    found = datetime.fromisoformat(moment(text)) - datetime.now(UTC)
    assert later_s - 60 < found.total_seconds() <= later_s + 1


@pytest.mark.parametrize("text", ["09:30", "9:30", "23:59", "0:00"])
def test_a_time_of_the_day_is_the_next(text: str) -> None:
    found, now = datetime.fromisoformat(moment(text)), datetime.now().astimezone()
    assert (found.hour, found.minute) == tuple(map(int, text.split(":")))
    assert now < found <= now + timedelta(days=1, hours=1), "an hour more where summer time ends"


def test_a_time_without_an_offset_is_this_machines() -> None:
    assert datetime.fromisoformat(moment("2026-11-21T09:30")) == datetime(2026, 11, 21, 9, 30).astimezone()
    assert datetime.fromisoformat(moment("2026-11-21T09:30Z")) == datetime(2026, 11, 21, 9, 30, tzinfo=UTC)


@pytest.mark.parametrize("text", ["noon", "25:00", "9:75", "+", "+0s", "2026-13-01", ""])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter):
        moment(text)
