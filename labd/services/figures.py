"""Figures of the last day, for dashboards and ``labctl top``."""

import math
from dataclasses import dataclass

from labd.model.identity import Actor
from labd.model.measurements import CATALOGUE, ONLY, Field, Kind, Measurement
from labd.model.nearest import nearest
from labd.services.core import Core
from labd.services.errors import Conflict, FieldError, Invalid
from labd.services.tenancy import may_see
from labd.telemetry.day import KEEP_S, SLOT_S, Day
from labd.telemetry.day_query import OF_TEXT, Aggregate, FoundSeries, Question, Tags, ask

STEPS_MAX = 1_500
"""In one answer."""
_STEPS = 300
"""About as many, when nothing is said."""
_SPAN_S = 3_600


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody asks for."""

    measurement: str
    field: str
    tags: tuple[str, ...] = ()
    """``name=value`` each."""
    since: float | None = None
    until: float | None = None
    step_s: float | None = None
    aggregate: Aggregate | None = None
    limit: int = 50


@dataclass(frozen=True, slots=True)
class Figures:
    """What there is."""

    question: Question
    unit: str
    """ "" for a plain number or a word."""
    series: list[FoundSeries]
    more: bool
    """There may be more series than were asked for."""
    replica: str
    """Which labd has answered."""
    others: tuple[str, ...]
    """The other labds of the lab: what their agents and they have measured is not in here."""


class LastDay:
    """The use case of figures."""

    def __init__(self, core: Core, day: Day | None) -> None:
        self._core = core
        self._day = day

    def figures(self, actor: Actor, wish: Wish) -> Figures:
        """The series that the actor may see. Raises Invalid, and Conflict where labd keeps no figures."""
        measurement, field = _known(wish)
        question = self._question(wish, measurement, field)
        if self._day is None:
            raise Conflict("this labd keeps no figures")
        visible = self._visible(actor)
        try:
            series, more = ask(self._day.path, question, wish.limit, visible)
        except OSError as error:
            raise Conflict(f"the figures cannot be read: {error}") from error
        peers = self._core.peers
        return Figures(question, field.unit, series, more, peers.replica or ONLY, peers.others)

    def _question(self, wish: Wish, measurement: Measurement, field: Field) -> Question:
        now = self._core.clock.now()
        until = now if wish.until is None else min(wish.until, now + SLOT_S)
        since = max(until - _SPAN_S if wish.since is None else wish.since, now - KEEP_S)
        if until <= since:
            message = "expected a time of the last 24 hours, with `since` before `until`"
            raise _bad("since", wish.since, message)
        step = _step(wish.step_s, until - since)
        aggregate = wish.aggregate or (Aggregate.LAST if field.kind in (Kind.TEXT, Kind.BOOLEAN) else Aggregate.MEAN)
        if field.kind is Kind.TEXT and aggregate not in OF_TEXT:
            raise _bad("aggregate", aggregate, f"{field.name} is a text, of which there is {' and '.join(OF_TEXT)}")
        first = math.floor(since / step) * step
        tags = _tags(wish.tags, measurement)
        return Question(measurement.name, field.name, tags, first, math.ceil(until / step) * step, step, aggregate)

    def _visible(self, actor: Actor) -> "_Sight":
        with self._core.view() as unit:
            benches = frozenset(bench.name for bench in unit.benches() if may_see(actor, bench))
        return _Sight(actor.teams(), benches)


@dataclass(frozen=True, slots=True)
class _Sight:
    """Which series somebody may see: of their teams, of benches that they may see, and those that are nobody's."""

    teams: frozenset[str] | None
    benches: frozenset[str]

    def __call__(self, tags: Tags) -> bool:
        if self.teams is None:
            return True
        if "team" in tags and tags["team"] not in self.teams:
            return False
        return "bench" not in tags or tags["bench"] in self.benches


def _known(wish: Wish) -> tuple[Measurement, Field]:
    measurement = CATALOGUE.get(wish.measurement)
    if measurement is None:
        raise _bad("measurement", wish.measurement, _instead(wish.measurement, list(CATALOGUE)))
    field = measurement.field(wish.field)
    if field is None:
        raise _bad("field", wish.field, _instead(wish.field, [field.name for field in measurement.fields]))
    return measurement, field


def _tags(texts: tuple[str, ...], measurement: Measurement) -> dict[str, str]:
    tags = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise _bad("tag", text, "expected NAME=VALUE, such as bench=bench-1")
        if measurement.tag(name) is None:
            raise _bad("tag", text, _instead(name, [tag.name for tag in measurement.tags]))
        tags[name] = value
    return tags


def _step(wished: float | None, span_s: float) -> int:
    least = math.ceil(span_s / STEPS_MAX / SLOT_S) * SLOT_S
    if wished is None:
        return max(least, math.ceil(span_s / _STEPS / SLOT_S) * SLOT_S)
    if wished <= 0 or wished % SLOT_S or wished > KEEP_S:
        raise _bad("step_s", wished, f"expected a multiple of {SLOT_S}, up to {KEEP_S}")
    if wished < least:
        raise _bad("step_s", wished, f"expected at least {least} for a time of {span_s:.0f} s")
    return int(wished)


def _instead(name: str, known: list[str]) -> str:
    return f"there is no {name!r}{nearest(name, known)}"


def _bad(field: str, value: object, message: str) -> Invalid:
    return Invalid(f"{field}: {message}", FieldError(field, value, message))
