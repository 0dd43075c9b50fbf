"""The last day of figures, kept without any database beside labd, and what of it people see."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st

from labd.api.app import create_app
from labd.api.routing import PREFIX
from labd.model.identity import Actor, ActorKind, Role
from labd.model.point import Point
from labd.services.figures import Wish
from labd.services.lab import Lab
from labd.telemetry.admission import Admission
from labd.telemetry.counters import Counters
from labd.telemetry.day import KEEP_S, Day
from labd.telemetry.day_query import Aggregate, FoundSeries, Question, ask
from labd.telemetry.writer import Writer
from tests.unit.labd.fakes import EPOCH, FakeClock, FakeExecutor, attach, open_lab, report

T = 1_700_000_000 // 86_400 * 86_400


def volts(value: float, time: float, channel: str = "kl30") -> Point:
    return Point("power", {"agent": "rack-1", "bench": "hil-1", "channel": channel}, {"voltage_v": value}, time)


def put(day: Day, now: float, *points: Point) -> None:
    day.take(Admission(Counters()).admit(points), now)
    day.flush(now)


def seen(day: Day, since: float, until: float, step: int = 10, how: Aggregate = Aggregate.MEAN) -> list[FoundSeries]:
    question = Question("power", "voltage_v", {}, int(since), int(until), step, how)
    return ask(day.path, question, 100, lambda _: True)[0]


@pytest.fixture
def day(tmp_path: Path) -> Iterator[Day]:
    made = Day(tmp_path / "day.sqlite")
    yield made
    made.close()


def test_values_of_a_slot_are_kept_together(day: Day) -> None:
    put(day, T + 20, volts(12, T + 1), volts(14, T + 9), volts(10, T + 10))
    for how, first in (("mean", 13), ("sum", 26), ("min", 12), ("max", 14), ("last", 14), ("count", 2)):
        [series] = seen(day, T, T + 20, how=Aggregate(how))
        assert series.points[0] == (T, first)
        assert len(series.points) == 2
    assert series.tags == {"agent": "rack-1", "bench": "hil-1", "channel": "kl30"}


def test_a_day_is_kept_and_no_more_and_survives_a_restart(tmp_path: Path) -> None:
    day = Day(tmp_path / "day.sqlite")
    for time in range(T, T + KEEP_S + 7200, 300):
        put(day, time, volts(time - T, time))
    day.close()
    again = Day(tmp_path / "day.sqlite")
    [series] = seen(again, T, T + KEEP_S + 7200)
    again.close()
    assert series.points[-1] == (T + KEEP_S + 6900, KEEP_S + 6900)
    assert 6000 <= series.points[0][0] - T <= 8000
    assert [point[0] - T == point[1] for point in series.points]


def test_points_that_come_late_find_their_place(day: Day) -> None:
    put(day, T, volts(1, T - 7200))
    put(day, T + 700, volts(2, T + 700))  # packs what is older
    put(day, T + 701, volts(3, T - 7200), volts(4, T - 7190))
    put(day, T + 1400, volts(5, T + 1400))  # and again
    [series] = seen(day, T - 7200, T + 1410)
    assert series.points == [(T - 7200, 2.0), (T - 7190, 4.0), (T + 700, 2.0), (T + 1400, 5.0)]


def test_yesterday_and_the_far_future_are_not_kept(day: Day) -> None:
    put(day, T, volts(1, T - KEEP_S - 1), volts(2, T + 86_400), volts(3, T))
    [series] = seen(day, T - 10 * KEEP_S, T + 10 * KEEP_S)
    assert series.points == [(T, 3.0)]
    assert day.outside == 2


def test_the_file_is_bounded_and_the_oldest_goes_first(tmp_path: Path) -> None:
    day = Day(tmp_path / "day.sqlite", bytes_max=300_000)
    for time in range(T, T + 40_000, 200):
        put(day, time, *(volts(time * 7919 % 9973 / 7, time, f"channel-{number}") for number in range(60)))
    found = seen(day, T, T + 40_000)
    day.close()
    assert (tmp_path / "day.sqlite").stat().st_size < 1_500_000
    assert len(found) == 60
    assert found[0].points[0][0] > T + 5000
    assert found[0].points[-1][0] == T + 39_800


def test_a_damaged_file_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "day.sqlite").write_bytes(b"no database at all" * 1000)
    day = Day(tmp_path / "day.sqlite")
    put(day, T, volts(1, T))
    assert len(seen(day, T, T + 10)) == 1
    day.close()


@settings(max_examples=40, deadline=None)
@given(
    values=st.lists(st.tuples(st.integers(0, 3000), st.integers(-100, 100)), min_size=1, max_size=60),
    step=st.sampled_from([10, 30, 600]),
    how=st.sampled_from([Aggregate.SUM, Aggregate.MIN, Aggregate.MAX, Aggregate.COUNT]),
)
def test_any_step_shows_what_was_measured(
    tmp_path_factory: pytest.TempPathFactory, values: list[tuple[int, int]], step: int, how: Aggregate
) -> None:
    day = Day(tmp_path_factory.mktemp("day") / "day.sqlite")
    for time, value in values:
        put(day, T + time + 1000, volts(value, T + time))
    steps: dict[int, list[int]] = {}
    for time, value in values:
        steps.setdefault((T + time) // step * step, []).append(value)
    of: Any = {"sum": sum, "min": min, "max": max, "count": len}[how]
    [series] = seen(day, T, T + 3600, step, how)
    day.close()
    assert series.points == [(start, of(some)) for start, some in sorted(steps.items())]


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[tuple[Lab, TestClient]]:
    """A lab with an hour of figures of two benches and two teams."""
    clock = FakeClock()
    writer = Writer(tmp_path / "points", clock=clock.now)
    lab = open_lab(tmp_path, clock, FakeExecutor(), writer=writer)
    attach(lab, report("open"), report("theirs", {"team": "chassis"}), agent="rack-1")
    points = []
    for number in range(360):
        time = EPOCH - 3600 + 10 * number
        for bench in ("open", "theirs"):
            tags = {"agent": "rack-1", "bench": bench, "channel": "kl30"}
            points.append(Point("power", tags, {"voltage_v": 12.0, "on": True}, time))
        for team in ("default", "chassis"):
            fields = {"depth": number, "wait_mean_s": 1.0, "wait_max_s": 2.0}
            points.append(Point("queue", {"priority": "normal", "team": team}, fields, time))
    put(writer.day, clock.now(), *points)
    yield lab, TestClient(create_app(lab), base_url=f"http://labd.test{PREFIX}/")
    writer.day.close()
    lab.core.store.close()


def _figures(web: TestClient, measurement: str, field: str, **more: Any) -> Any:
    answer = web.get("series", params={"measurement": measurement, "field": field, **more})
    assert answer.status_code == 200, answer.text
    return answer.json()


Kept = tuple[Lab, TestClient]


def test_the_last_hour_is_shown_in_about_300_steps(kept: Kept) -> None:
    found = _figures(kept[1], "power", "voltage_v", tag="bench=open")
    assert (found["unit"], found["aggregate"], found["step_s"], found["more"]) == ("V", "mean", 20, False)
    [series] = found["series"]
    assert series["tags"] == {"agent": "rack-1", "bench": "open", "channel": "kl30"}
    assert len(series["points"]) == 180
    assert series["points"][0] == [EPOCH - 3600, 12.0]


def test_step_aggregate_and_time_can_be_chosen(kept: Kept) -> None:
    since, until = "2027-01-15T07:30:00Z", "2027-01-15T07:50:00Z"
    found = _figures(
        kept[1], "queue", "depth", tag="team=default", step_s=600, aggregate="max", since=since, until=until
    )
    [series] = found["series"]
    assert [value for _, value in series["points"]] == [239.0, 299.0]
    booleans = _figures(kept[1], "power", "on", tag="bench=open", step_s=1800)
    assert booleans["aggregate"] == "last"
    assert booleans["series"][0]["points"][0][1] == 1.0


def test_more_series_than_the_limit_are_left_out_and_that_is_said(kept: Kept) -> None:
    found = _figures(kept[1], "power", "voltage_v", limit=1)
    assert (len(found["series"]), found["more"]) == (1, True)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"measurement": "pwer"}, "there is no 'pwer'; did you mean 'power'?"),
        ({"field": "voltage"}, "there is no 'voltage'; did you mean 'voltage_v'?"),
        ({"tag": "bench"}, "expected NAME=VALUE, such as bench=bench-1"),
        ({"tag": "bus=a"}, "there is no 'bus'; there are 'agent', 'bench', 'channel'"),
        ({"step_s": 15}, "expected a multiple of 10, up to 86400"),
        ({"step_s": 10, "since": "2027-01-14T08:00:00Z"}, "expected at least 60 for a time of 86400 s"),
        ({"since": "2026-01-01T00:00:00Z", "until": "2026-01-02T00:00:00Z"}, "expected a time of the last 24 hours"),
        ({"aggregate": "median"}, "aggregate"),
        ({"limit": 1000}, "limit"),
    ],
)
def test_what_makes_no_sense_is_refused_by_its_field(kept: Kept, asked: dict[str, Any], said: str) -> None:
    answer = kept[1].get("series", params={"measurement": "power", "field": "voltage_v", **asked})
    assert answer.status_code == 422
    assert said in answer.text
    assert answer.json()["errors"][0]["field"] in asked


def test_a_text_has_no_mean(kept: Kept) -> None:
    answer = kept[1].get("series", params={"measurement": "bench", "field": "state", "aggregate": "mean"})
    assert answer.status_code == 422
    assert "state is a text, of which there is last and count" in answer.text


def test_people_see_the_figures_of_their_teams_and_of_shared_benches(kept: Kept) -> None:
    lab, _ = kept
    for roles, benches, teams in (
        ({"default": Role.VIEWER}, {"open"}, {"default"}),
        ({"chassis": Role.VIEWER}, {"open", "theirs"}, {"chassis"}),
        ({"*": Role.VIEWER}, {"open", "theirs"}, {"default", "chassis"}),
    ):
        actor = Actor("ada", ActorKind.PERSON, roles)
        power = lab.last_day.figures(actor, Wish("power", "voltage_v")).series
        queue = lab.last_day.figures(actor, Wish("queue", "depth")).series
        assert {series.tags["bench"] for series in power} == benches
        assert {series.tags["team"] for series in queue} == teams


def test_a_labd_that_keeps_no_figures_says_so(tmp_path: Path) -> None:
    lab = open_lab(tmp_path, FakeClock())
    with TestClient(create_app(lab), base_url=f"http://labd.test{PREFIX}/") as web:
        answer = web.get("series", params={"measurement": "power", "field": "voltage_v"})
    lab.core.store.close()
    assert (answer.status_code, answer.json()["detail"]) == (409, "this labd keeps no figures")
