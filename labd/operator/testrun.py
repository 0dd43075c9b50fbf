"""A TestRun as the cluster has it, and the words it is written in. Pure: no I/O, no clock."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar

GROUP, VERSION, PLURAL, KIND = "labd.dev", "v1alpha1", "testruns", "TestRun"
CRD = f"{PLURAL}.{GROUP}"
FINALIZER = "labd.dev/run"
"""Keeps a deleted TestRun until its run is cancelled."""
APP_LABEL = "labd.dev/app"
SCRIPT_BYTES_MAX = 256 * 1024
TIMEOUT_DEFAULT_S = 300.0
FINISHED = "Finished"
"""The condition of a TestRun whose verdict labd has stored, or which labd refused."""
_PARTS = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")
_NAME = re.compile(r"(?P<namespace>\S+)/(?P<name>\S+) \[testrun (?P<owner>[0-9a-f]{8})-(?P<uid>[0-9a-f]{8})\]")


@dataclass(frozen=True, slots=True)
class TestRun:
    """One TestRun, as it was read. Times are seconds since the Unix epoch."""

    __test__: ClassVar = False  # its name is none of a pytest class

    document: Mapping[str, Any]

    @property
    def metadata(self) -> Mapping[str, Any]:
        """The object's."""
        found: Mapping[str, Any] = self.document["metadata"]
        return found

    @property
    def namespace(self) -> str:
        """Where it is."""
        return str(self.metadata["namespace"])

    @property
    def name(self) -> str:
        """Unique in its namespace at any one time."""
        return str(self.metadata["name"])

    @property
    def uid(self) -> str:
        """Its own for ever: another TestRun of the same name has another."""
        return str(self.metadata["uid"])

    @property
    def version(self) -> str:
        """Its resourceVersion, which each write changes."""
        return str(self.metadata["resourceVersion"])

    @property
    def created_at(self) -> float:
        """By the API server's clock."""
        return seconds(self.metadata["creationTimestamp"])

    @property
    def deleted_at(self) -> float | None:
        """When its deletion was asked for, by the API server's clock; None: it was not."""
        moment = self.metadata.get("deletionTimestamp")
        return None if moment is None else seconds(moment)

    @property
    def held(self) -> bool:
        """Whether our finalizer keeps it."""
        return FINALIZER in self.metadata.get("finalizers", ())

    @property
    def spec(self) -> Mapping[str, Any]:
        """What is wanted."""
        return self.document.get("spec") or {}

    @property
    def status(self) -> Mapping[str, Any]:
        """What the operator last wrote."""
        return self.document.get("status") or {}

    @property
    def state(self) -> str:
        """What the operator says of it; before it has, it is pending."""
        return str(self.status.get("state", "Pending"))

    @property
    def run_id(self) -> str | None:
        """Its run of labd, once that is known here."""
        return self.status.get("runID")

    @property
    def finished_at(self) -> float | None:
        """When the operator wrote its end, by the operator's clock; None before."""
        finished = self.condition(FINISHED)
        return seconds(finished["lastTransitionTime"]) if finished and finished["status"] == "True" else None

    def condition(self, kind: str) -> Mapping[str, Any] | None:
        """One of its conditions."""
        return condition(self.status, kind)

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Origin:
    """Which TestRun a run of labd is of, as the run's name tells."""

    namespace: str
    name: str
    owner: str
    """The operator that made the run: the first digits of what tells it from others."""
    uid: str
    """The first digits of the TestRun's."""

    def is_of(self, test: TestRun) -> bool:
        """Whether it is this TestRun, whichever operator made the run."""
        return (self.namespace, self.name, self.uid) == (test.namespace, test.name, digits(test.uid))


def condition(status: Mapping[str, Any], kind: str) -> Mapping[str, Any] | None:
    """One of the conditions of a status."""
    return next((one for one in status.get("conditions", ()) if one["type"] == kind), None)


def run_name(test: TestRun, owner: str) -> str:
    """What a TestRun's run is called in labd: for people, and for the operator to find it again."""
    return f"{test.namespace}/{test.name} [testrun {digits(owner)}-{digits(test.uid)}]"


def origin(name: str) -> Origin | None:
    """The TestRun of a run that is called so; None for a run of nobody's."""
    match = _NAME.fullmatch(name)
    return None if match is None else Origin(match["namespace"], match["name"], match["owner"], match["uid"])


def digits(uid: str) -> str:
    """The first eight hexadecimal digits of a UUID."""
    return uid.replace("-", "")[:8]


def timeout_s(spec: Mapping[str, Any]) -> float:
    """How long the test may run. Raises ValueError for what the cluster should have refused."""
    text = spec.get("timeout")
    if text is None:
        return TIMEOUT_DEFAULT_S
    match = _PARTS.fullmatch(text)
    total = (
        sum(int(number or 0) * unit for number, unit in zip(match.groups(), (3600, 60, 1), strict=True)) if match else 0
    )
    if total <= 0:
        raise ValueError(f"timeout is {text!r}: expected a time such as 90s, 30m or 1h30m")
    return float(total)


def duration_text(duration_s: float) -> str:
    """``1h2m``, ``3m20s``, ``12s``."""
    minutes, rest_s = divmod(round(max(0.0, duration_s)), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes}m"
    return f"{minutes}m{rest_s}s" if minutes else f"{rest_s}s"


def seconds(moment: str) -> float:
    """Since the Unix epoch, of an RFC 3339 time."""
    return datetime.fromisoformat(moment).timestamp()


def moment(at: float) -> str:
    """RFC 3339 in whole seconds, as Kubernetes writes its times."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
