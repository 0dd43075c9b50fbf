"""Points against the catalogue: what does not belong into a time-series database is found before it gets there."""

import math
from typing import Any

import pytest

from labd.model.measurements import CATALOGUE, NONE, TAG_LENGTH, fault, tag_text
from labd.model.point import Point

BUS = {"agent": "rack-1", "bench": "hil-1", "bus": "powertrain", "cause": "stream"}


def drops(tags: dict[str, Any] | None = None, fields: dict[str, Any] | None = None, time: float = 1.0e9) -> Point:
    return Point("can_bus_drops", BUS | (tags or {}), {"dropped": 1} | (fields or {}), time)


def test_a_point_of_the_catalogue_is_sound() -> None:
    assert fault(drops()) is None


def test_fields_that_are_not_known_may_be_absent() -> None:
    tags = {"agent": "rack-1", "bench": "hil-1", "channel": "kl30"}
    assert fault(Point("power", tags, {"voltage_v": 12.5}, 1.0)) is None
    assert fault(Point("power", tags, {}, 1.0)) == "power: no field is given"


@pytest.mark.parametrize(
    ("point", "wrong"),
    [
        (Point("can_buss", BUS, {"dropped": 1}, 1.0), "measurement 'can_buss' is unknown; there are can_bus, "),
        (drops({"bus": "a\nb"}), "tag bus is 'a\\nb': a new line"),
        (drops({"bus": "a\x00"}), "control characters do not go into a tag"),
        (drops({"bus": "x" * (TAG_LENGTH + 1)}), f"tag bus has {TAG_LENGTH + 1} characters, at most {TAG_LENGTH}"),
        (drops({"bus": ""}), "tag bus is empty"),
        (drops({"bus": 7}), "tag bus is int, expected text"),
        (drops({"cause": "because"}), "tag cause is 'because', expected driver, stream, events, trace"),
        (drops({"holder": "anna"}), "tag 'holder' is unknown; it has agent, bench, bus, cause"),
        (Point("can_bus_drops", {"agent": "a"}, {"dropped": 1}, 1.0), "tag bench is missing"),
        (drops(fields={"lost": 1}), "field 'lost' is unknown; it has dropped"),
        (drops(fields={"dropped": 1.5}), "field dropped is float, expected integer"),
        (drops(fields={"dropped": True}), "field dropped is bool, expected integer"),
        (drops(fields={"dropped": 2**63}), "beyond 64 bits"),
        (drops(time=math.nan), "time is nan"),
        (drops(time=-1.0), "time is -1.0"),
    ],
)
def test_what_is_wrong_is_said(point: Point, wrong: str) -> None:
    found = fault(point)
    assert found is not None and wrong in found


def test_a_number_has_to_be_one() -> None:
    tags = {"agent": "rack-1", "bench": "hil-1", "channel": "kl30"}
    assert fault(Point("power", tags, {"voltage_v": math.inf}, 1.0)) == "power: field voltage_v is inf"


def test_a_measurement_of_another_shape_names_what_is_missing() -> None:
    assert fault(Point("can_bus_drops", BUS, {}, 1.0)) == "can_bus_drops: field dropped is missing"


def test_a_long_word_does_not_make_a_long_message() -> None:
    found = fault(drops({"cause": "x" * TAG_LENGTH}))
    assert found is not None and len(found) < 200


def test_every_open_tag_says_what_bounds_it() -> None:
    unbounded = [
        (one.name, tag.name) for one in CATALOGUE.values() for tag in one.tags if not tag.values and not tag.bound
    ]
    assert unbounded == []


def test_names_are_made_fit_for_a_tag() -> None:
    assert tag_text("smoke\ntest") == "smoke test"
    assert tag_text("") == tag_text(" \n") == NONE
    assert len(tag_text("x" * 1000)) == TAG_LENGTH
