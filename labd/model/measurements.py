"""Every measurement that labd and its agents make: its tags and how many values each may have, its fields and units.

``docs/reference/metrics.md`` is this catalogue for people; a test holds them together.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from labd.model.bench import BenchState, Health
from labd.model.lease import LeaseEnd
from labd.model.point import Point
from labd.model.run import Cause, ExecutorName, RunState

TAG_LENGTH = 128
"""Longest value of a tag, in characters."""
TEXT_LENGTH = 64
"""Longest text in a field, in characters."""
OTHER = "other"
"""Stands for all values of a tag beyond its bound."""
NONE = "none"
"""Of a tag that says nothing in this case: an empty one would be no tag."""
ONLY = "labd"
"""The tag ``replica`` of a labd that is the only one."""
INTEGER_MAX = 2**63 - 1
_LISTED = 20
"""Words in a message."""


class Source(StrEnum):
    """Who makes a measurement."""

    LABD = "labd"
    AGENT = "agent"


class Kind(StrEnum):
    """What a field's value is."""

    FLOAT = "float"
    INTEGER = "integer"
    BOOLEAN = "boolean"
    TEXT = "text"


@dataclass(frozen=True, slots=True)
class Tag:
    """What tells series of a measurement apart."""

    name: str
    meaning: str
    values: tuple[str, ...] = ()
    """All that there are; none: any text that ``bound`` allows."""
    bound: str = ""
    """What keeps the number of values small, where they are not listed."""


@dataclass(frozen=True, slots=True)
class Field:
    """A value of a measurement."""

    name: str
    kind: Kind
    unit: str
    """"" for a plain number or a word."""
    meaning: str
    optional: bool = False
    """Points without it are sound: it was not known."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """What is measured together."""

    name: str
    source: Source
    when: str
    """How often, or at which event."""
    meaning: str
    tags: tuple[Tag, ...]
    fields: tuple[Field, ...]

    def tag(self, name: str) -> Tag | None:
        """The tag of that name."""
        return next((tag for tag in self.tags if tag.name == name), None)

    def field(self, name: str) -> Field | None:
        """The field of that name."""
        return next((field for field in self.fields if field.name == name), None)


def _float(name: str, unit: str, meaning: str, *, optional: bool = False) -> Field:
    return Field(name, Kind.FLOAT, unit, meaning, optional)


def _count(name: str, meaning: str, unit: str = "", *, optional: bool = False) -> Field:
    return Field(name, Kind.INTEGER, unit, meaning, optional)


_INTERVAL = "each interval (10 s unless the agent's `metrics.interval_s` says otherwise)"
_EVERY = "every 10 s, by the labd that leads"
_EVERY_LABD = "every 10 s, by each labd"

_AGENT = Tag("agent", "the agent's name, as labd knows it", bound="the agents that are admitted")
_BENCH = Tag("bench", "the bench's name", bound="the benches of the lab")
_TEAM = Tag("team", "whose it is", bound="the first 100 teams seen, then `other`")
_PRIORITY = Tag("priority", "the class asked for", bound="the classes of the policy")
_REPLICA = Tag("replica", "which labd; `labd` where there is only one", bound="the labds of the lab")
_EXECUTOR = Tag("executor", "where the run's process lives", tuple(executor.value for executor in ExecutorName))

BUS_CAUSES = ("driver", "stream", "events", "trace", "trace_full", "trace_failed", "gateway", "protocol")
AGENT_CAUSES = ("spool_full", "disk", "refused", "too_many", "too_many_series")
STATUSES = ("1xx", "2xx", "3xx", "4xx", "5xx")

_ALL = (
    Measurement(
        "can_bus",
        Source.AGENT,
        _INTERVAL,
        "Traffic and health of a CAN bus.",
        (_AGENT, _BENCH, Tag("bus", "the bus' name on its bench", bound="the buses of the bench")),
        (
            _float(
                "load_percent",
                "%",
                "of the interval that the bus was busy, for typical bit stuffing; absent without a bit rate",
                optional=True,
            ),
            _float("load_worst_percent", "%", "the same for as many stuff bits as there can be", optional=True),
            _float(
                "load_peak_percent", "%", "the busiest whole second of the interval, typical stuffing", optional=True
            ),
            _count("frames_in", "received from others on the bus", "frames"),
            _count("frames_out", "sent by the agent, simulated ECUs included", "frames"),
            _count("send_failed", "that the driver did not take", "frames"),
            _count("error_frames", "reported by the controller", "frames"),
            _count("bus_off", "how often the controller went bus-off"),
            Field("open", Kind.BOOLEAN, "", "whether the bus is open at the end of the interval"),
            Field(
                "state",
                Kind.TEXT,
                "",
                "of the controller: error-active, error-warning, error-passive, bus-off, unknown",
            ),
        ),
    ),
    Measurement(
        "can_bus_drops",
        Source.AGENT,
        f"{_INTERVAL} in which there were any",
        "Frames and events of a CAN bus that somebody did not get, once for each who did not.",
        (
            _AGENT,
            _BENCH,
            Tag("bus", "the bus' name on its bench", bound="the buses of the bench"),
            Tag(
                "cause",
                "driver: the kernel or the driver lost them; stream: a reader on the network was too slow; events: so "
                "was a reader of the bus' events; trace: the disk was slower than the frames came; trace_full: the "
                "trace had its size or length; trace_failed: the disk did not take the trace; gateway: too many were "
                "on the way to the other bus; protocol: the agent was too far behind with ISO-TP or J1939",
                BUS_CAUSES,
            ),
        ),
        (_count("dropped", "in the interval", "frames"),),
    ),
    Measurement(
        "ecu_uds",
        Source.AGENT,
        f"{_INTERVAL} in which there were requests",
        "Diagnostic exchanges (ISO 14229) with an ECU, over CAN or DoIP.",
        (_AGENT, _BENCH, Tag("ecu", "the ECU's name on its bench", bound="the ECUs of the bench")),
        (
            _count("requests", "that were sent"),
            _count("responses", "that came, positive and negative"),
            _count("negative", "of these"),
            _count("timeouts", "requests without a final response in time"),
            _count("failed", "exchanges that the transport lost, or with a malformed response"),
            _count("pending", "0x78 (response pending) received"),
            _float("latency_mean_ms", "ms", "from the request sent in full to the final response", optional=True),
            _float("latency_p50_ms", "ms", "the median", optional=True),
            _float("latency_p95_ms", "ms", "the 95th percentile", optional=True),
            _float("latency_max_ms", "ms", "the longest", optional=True),
            _float("p2_ms", "ms", "the limit P2 in force, transit included", optional=True),
            _float("p2_star_ms", "ms", "the limit P2* in force, transit included", optional=True),
            _float("p2_used_ms", "ms", "of P2: the longest time to a first answer, 0x78 or final", optional=True),
            _float("p2_star_used_ms", "ms", "of P2*: the longest time from a 0x78 to what followed", optional=True),
        ),
    ),
    Measurement(
        "ecu_nrc",
        Source.AGENT,
        f"{_INTERVAL} in which there were any",
        "Negative responses of an ECU by their code.",
        (
            _AGENT,
            _BENCH,
            Tag("ecu", "the ECU's name on its bench", bound="the ECUs of the bench"),
            Tag("nrc", "the code (ISO 14229-1), two hexadecimal digits", tuple(f"{code:02X}" for code in range(256))),
        ),
        (_count("responses", "in the interval"),),
    ),
    Measurement(
        "power",
        Source.AGENT,
        _INTERVAL,
        "A power channel as last measured; fields that are not known are absent.",
        (_AGENT, _BENCH, Tag("channel", "the channel's name on its bench", bound="the power channels of the bench")),
        (
            _float("voltage_v", "V", "at the terminals", optional=True),
            _float("current_a", "A", "into the load", optional=True),
            Field("on", Kind.BOOLEAN, "", "whether the output is switched on", optional=True),
        ),
    ),
    Measurement(
        "agent",
        Source.AGENT,
        _INTERVAL,
        "The agent's process and its machine.",
        (_AGENT,),
        (
            _float("cpu_percent", "%", "of one core, over the interval"),
            _count("memory_bytes", "resident", "bytes"),
            _count("disk_free_bytes", "free where the agent keeps its data", "bytes"),
            _float("round_trip_ms", "ms", "from a message to labd to its answer, the latest", optional=True),
            _float(
                "clock_offset_ms",
                "ms",
                "labd's clock less this machine's; uncertain by half the round trip",
                optional=True,
            ),
            _count("spooled_bytes", "points that wait for labd, on the disk", "bytes"),
        ),
    ),
    Measurement(
        "points_dropped",
        Source.AGENT,
        f"{_INTERVAL} in which there were any",
        "Points of an agent that were not kept.",
        (
            _AGENT,
            Tag(
                "cause",
                "spool_full: labd was away for longer than the agent's spool lasts; disk: the spool could not be "
                "written or read; refused: not in this catalogue, or of what the agent's benches do not declare; "
                "too_many: more points than an agent may send; too_many_series: more different series than an agent "
                "may have",
                AGENT_CAUSES,
            ),
        ),
        (_count("points", "in the interval"),),
    ),
    Measurement(
        "bench",
        Source.LABD,
        _EVERY,
        "A bench as labd sees it. The seconds are of the time since the last point and add up to it.",
        (_BENCH, _AGENT),
        (
            Field("state", Kind.TEXT, "", ", ".join(state.value for state in BenchState)),
            Field("health", Kind.TEXT, "", ", ".join(health.value for health in Health)),
            _float("leased_s", "s", "somebody held it"),
            _float("idle_s", "s", "it was free to be leased"),
            _float("quarantined_s", "s", "it was in quarantine"),
            _float("offline_s", "s", "no agent spoke for it"),
            _float("other_s", "s", "it was unhealthy, drained, or being cleaned up"),
        ),
    ),
    Measurement(
        "benches",
        Source.LABD,
        _EVERY,
        "How many benches are how.",
        (
            Tag("state", "see bench", tuple(state.value for state in BenchState)),
            Tag("health", "see bench", tuple(health.value for health in Health)),
        ),
        (_count("benches", "now"),),
    ),
    Measurement(
        "queue",
        Source.LABD,
        f"{_EVERY}; once more with 0 when the last one has gone",
        "Who waits for benches; bookings count from their time on.",
        (_PRIORITY, _TEAM),
        (
            _count("depth", "leases that wait"),
            _float("wait_mean_s", "s", "how long those have waited so far"),
            _float("wait_max_s", "s", "the longest of them"),
        ),
    ),
    Measurement(
        "grant",
        Source.LABD,
        "each lease that is granted",
        "A lease got its benches.",
        (_PRIORITY, _TEAM),
        (
            _float("latency_s", "s", "from the request, or from a booking's time, to the grant"),
            _count("benches", "that it got"),
        ),
    ),
    Measurement(
        "lease",
        Source.LABD,
        "each lease whose end is decided",
        "A lease ended.",
        (Tag("reason", "of the end", tuple(reason.value for reason in LeaseEnd)), _PRIORITY, _TEAM),
        (
            _float("held_s", "s", "from the grant to the end; 0 for one that was never granted"),
            _count("benches", "that it had"),
        ),
    ),
    Measurement(
        "run",
        Source.LABD,
        "each run that ends",
        "A run ended.",
        (
            Tag("verdict", "of the run", tuple(state.value for state in RunState if state.final)),
            Tag("cause", "of an end without a word of the runner", (*(cause.value for cause in Cause), NONE)),
            Tag("suite", "the run's name", bound="the first 100 names seen since labd started, then `other`"),
            _EXECUTOR,
            _TEAM,
        ),
        (
            _count("attempts", "that it took"),
            _float("wait_s", "s", "from the request to the grant of the last attempt's benches", optional=True),
            _float("startup_s", "s", "from the grant to the runner's first use of it", optional=True),
            _float("duration_s", "s", "from the grant to the end", optional=True),
            _count("cases_passed", "test cases", optional=True),
            _count("cases_failed", "test cases", optional=True),
            _count("cases_error", "test cases", optional=True),
        ),
    ),
    Measurement(
        "retry",
        Source.LABD,
        "each attempt at a run that another one follows",
        "A runner was lost through no fault of the run's.",
        (
            Tag("cause", "of the attempt's end", tuple(cause.value for cause in Cause if cause.transient)),
            _EXECUTOR,
            _TEAM,
        ),
        (_count("attempt", "which one it was, from 1"),),
    ),
    Measurement(
        "runs",
        Source.LABD,
        f"{_EVERY}; once more with 0 when the last one has gone",
        "How many runs are not over.",
        (Tag("state", "of the run", tuple(state.value for state in RunState if not state.final)), _EXECUTOR),
        (_count("runs", "now"),),
    ),
    Measurement(
        "labd",
        Source.LABD,
        _EVERY_LABD,
        "The daemon itself.",
        (_REPLICA,),
        (
            _float("cpu_percent", "%", "of one core, over the interval"),
            _count("memory_bytes", "resident", "bytes"),
            _count("agents", "attached to this labd"),
            _count("commits", "writing transactions in the interval"),
            _float("commit_mean_ms", "ms", "how long one took, its wait for others included", optional=True),
            _float("commit_p95_ms", "ms", "the 95th percentile", optional=True),
            _float("commit_max_ms", "ms", "the longest", optional=True),
            _count("points_written", "points that InfluxDB has taken in the interval", optional=True),
        ),
    ),
    Measurement(
        "labd_requests",
        Source.LABD,
        f"{_EVERY_LABD}, of those that had any",
        "Requests to the REST API.",
        (
            _REPLICA,
            Tag(
                "route", "the first part of the path after `/api/v1/`", bound="the parts that the API has, then `other`"
            ),
            Tag("status", "class of the HTTP status", STATUSES),
        ),
        (
            _count("requests", "in the interval"),
            _float("latency_mean_ms", "ms", "to the head of the answer"),
            _float("latency_max_ms", "ms", "the longest"),
        ),
    ),
    Measurement(
        "labd_points_dropped",
        Source.LABD,
        f"{_EVERY_LABD}, if there were any",
        "Points that labd's writer did not keep.",
        (_REPLICA, Tag("cause", "why", bound="the few words of the writer")),
        (_count("points", "in the interval"),),
    ),
)
CATALOGUE: Mapping[str, Measurement] = {one.name: one for one in _ALL}


def fault(point: Point) -> str | None:
    """What is wrong with a point by the catalogue, in words; None when it is sound."""
    measurement = CATALOGUE.get(point.measurement)
    if measurement is None:
        return f"measurement {_shown(point.measurement)} is unknown; there are {', '.join(CATALOGUE)}"
    if not (math.isfinite(point.time) and 0 <= point.time < INTEGER_MAX / 1e9):
        return f"{measurement.name}: time is {point.time}, expected seconds since the Unix epoch"
    if len(point.tags) > len(measurement.tags) or len(point.fields) > len(measurement.fields):
        return f"{measurement.name}: {_unknown(point, measurement)}"
    for tag in measurement.tags:
        value = point.tags.get(tag.name)
        if value is None:
            return f"{measurement.name}: tag {tag.name} is missing"
        if (wrong := _tag_fault(tag, value)) is not None:
            return f"{measurement.name}: tag {tag.name} {wrong}"
    if len(point.tags) != len(measurement.tags):
        return f"{measurement.name}: {_unknown(point, measurement)}"
    known = 0
    for field in measurement.fields:
        content = point.fields.get(field.name)
        if content is None:
            if not field.optional:
                return f"{measurement.name}: field {field.name} is missing"
            continue
        known += 1
        if (wrong := _field_fault(field, content)) is not None:
            return f"{measurement.name}: field {field.name} {wrong}"
    if known != len(point.fields):
        return f"{measurement.name}: {_unknown(point, measurement)}"
    return None if known else f"{measurement.name}: no field is given"


def _unknown(point: Point, measurement: Measurement) -> str:
    for kind, given, known in (
        ("tag", point.tags, [tag.name for tag in measurement.tags]),
        ("field", point.fields, [field.name for field in measurement.fields]),
    ):
        for name in given:
            if name not in known:
                return f"{kind} {_shown(name)} is unknown; it has {', '.join(known)}"
    return "too many tags or fields"


def _tag_fault(tag: Tag, value: object) -> str | None:
    if not isinstance(value, str):
        return f"is {type(value).__name__}, expected text"
    if not value:
        return f"is empty; {NONE!r} stands for nothing"
    if len(value) > TAG_LENGTH:
        return f"has {len(value)} characters, at most {TAG_LENGTH}"
    if not value.isprintable():
        return f"is {_shown(value)}: a new line and other control characters do not go into a tag"
    if tag.values and value not in tag.values:
        return f"is {_shown(value)}, expected {_first(tag.values)}"
    return None


def _field_fault(field: Field, content: object) -> str | None:
    wanted = _TYPES[field.kind]
    if isinstance(content, bool) is not (field.kind is Kind.BOOLEAN) or not isinstance(content, wanted):
        return f"is {type(content).__name__}, expected {field.kind}"
    if isinstance(content, str) and (len(content) > TEXT_LENGTH or not content.isprintable()):
        return f"is {_shown(content)}, expected a line of at most {TEXT_LENGTH} characters"
    if isinstance(content, int) and abs(content) > INTEGER_MAX:
        return f"is {content}, beyond 64 bits"
    if isinstance(content, float) and not math.isfinite(content):
        return f"is {content}"
    return None


_TYPES: Mapping[Kind, type | tuple[type, ...]] = {
    Kind.FLOAT: (float, int),
    Kind.INTEGER: int,
    Kind.BOOLEAN: bool,
    Kind.TEXT: str,
}


def _first(words: tuple[str, ...]) -> str:
    return ", ".join(words[:_LISTED]) + (", ..." if len(words) > _LISTED else "")


def _shown(text: str) -> str:
    """Bounded, and on one line."""
    return ascii(text if len(text) <= TEXT_LENGTH else text[:TEXT_LENGTH] + "...")


def tag_text(text: str) -> str:
    """A name as a tag takes it: one line, and no longer than it may be. What nobody named is ``none``."""
    plain = "".join(char if char.isprintable() else " " for char in text[:TAG_LENGTH]).strip()
    return plain or NONE
