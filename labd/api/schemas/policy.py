"""The policy."""

from dataclasses import asdict
from typing import Annotated, Any

from pydantic import Field, model_validator

from labd.api.schemas.common import DAY_S, Request, Selector, Team, Word
from labd.model import policy as model
from labd.model.identity import Role
from labd.model.nearest import nearest
from labd.model.run import ExecutorName

Positive = Annotated[float, Field(gt=0, le=365 * DAY_S)]


class _Strict(Request):
    """Says which field an unknown one may have been meant to be."""

    @model_validator(mode="before")
    @classmethod
    def _known(cls, value: Any) -> Any:
        if isinstance(value, dict):
            for name in value:
                if name not in cls.model_fields:
                    raise ValueError(f"no field {name!r}{nearest(str(name), cls.model_fields)}")
        return value


class PriorityClass(_Strict):
    """A class of priority, and who may ask for it."""

    name: Word
    rank: Annotated[int, Field(ge=0, le=1000, description="Higher is served first.")]
    role: Annotated[Role, Field(strict=False, description="The least role that may ask for it.")] = Role.ENGINEER
    teams: Annotated[list[Team] | None, Field(description="Only these teams; null: all.")] = None
    may_preempt: Annotated[bool, Field(description="It may end preemptible leases of lower rank, with notice.")] = False
    preemptible: bool = False


class TeamPolicy(_Strict):
    """What a team may have; null: no bound of its own."""

    name: Team
    weight: Annotated[float, Field(gt=0, le=1000, description="Its share against those of other teams.")] = 1.0
    benches: Annotated[int | None, Field(ge=0, le=100_000, description="At once.")] = None
    bench_hours_per_week: Annotated[float | None, Field(ge=0, le=1e7, description="In any seven days in a row.")] = None
    classes: Annotated[list[Word] | None, Field(description="Of priority, that it may ask for.")] = None
    longest_lease_s: Positive | None = None
    executor: Annotated[ExecutorName, Field(strict=False, description="Of runs that name none.")] = ExecutorName.PROCESS


class RunLimit(_Strict):
    """How many runs in clusters there may be at once, of those to which all applies that it says."""

    runs: Annotated[int, Field(ge=0, le=100_000)]
    cluster: Annotated[Word | None, Field(description="Only those in this one.")] = None
    team: Annotated[Team | None, Field(description="Only this one's.")] = None
    selector: Annotated[Selector | None, Field(description="Only those that ask for benches by this selector.")] = None


class RunPolicy(_Strict):
    """What holds for runs."""

    attempts: Annotated[
        int,
        Field(ge=1, le=10, description="Of a run whose runner is lost through no fault of its own, with the first."),
    ] = model.RunPolicy().attempts
    limits: Annotated[
        list[RunLimit],
        Field(max_length=1000, description="A run in a cluster that would be one too many waits, without a bench."),
    ] = Field(default=[])


class Policy(_Strict):
    """The lab's policy. What a document leaves out has its default."""

    classes: Annotated[list[PriorityClass], Field(max_length=100)] = Field(
        default=[PriorityClass(**asdict(one)) for one in model.Policy().classes]
    )
    teams: Annotated[list[TeamPolicy], Field(max_length=10_000)] = Field(default=[])
    ageing_bound_s: Annotated[
        Positive, Field(description="Who waited for this long stands before all who came later.")
    ] = model.Policy().ageing_bound_s
    longest_lease_s: Annotated[Positive, Field(description="Extensions included.")] = model.Policy().longest_lease_s
    idle_release_s: Annotated[
        Positive, Field(ge=10, description="A held lease ends when nothing went to or from its benches for this long.")
    ] = model.Policy().idle_release_s
    idle_notice_s: Annotated[
        Positive, Field(ge=5, description="How long before that its holder is told; agents say every 3 s what is used.")
    ] = model.Policy().idle_notice_s
    preemption_grace_s: Annotated[Positive, Field(description="From the notice until the bench is taken.")] = (
        model.Policy().preemption_grace_s
    )
    clean_up_s: Annotated[float, Field(ge=0, le=DAY_S, description="Kept free between a lease and a booking.")] = (
        model.Policy().clean_up_s
    )
    booking_horizon_s: Annotated[Positive, Field(description="How far ahead a booking may start.")] = (
        model.Policy().booking_horizon_s
    )
    runs: RunPolicy = Field(default=RunPolicy())
