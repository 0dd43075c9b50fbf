"""What a runner takes and reports."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from labd.api.schemas.common import LINE_LENGTH_MAX, LINES_MAX, Request, check_time
from labd.api.schemas.runs import GitSource, Result


class RunnerTokenRequest(Request):
    """Which attempt at its run a test pod is."""

    attempt: Annotated[int, Field(ge=1, le=1000, examples=[1])]


class RunnerToken(BaseModel):
    """What opens the routes of one run to its runner."""

    token: str = Field(examples=["5d0c7a3e9b1f48620d4c8e7a6b5f3d2c1e0f9a8b7c6d5e4f3a2b1c0d9e8f7a6b"])


class AssignedBench(BaseModel):
    """Where a run's bench is, and the right to it."""

    name: str
    address: str
    token: str
    epoch: int
    labels: dict[str, str]


class Limits(BaseModel):
    """What a run may use."""

    timeout_s: float
    memory_bytes: int
    output_bytes: int


class Assignment(BaseModel):
    """What a runner needs to execute its run."""

    run_id: str
    attempt: int = Field(description="Of the run: each has a runner of its own.")
    name: str
    script: str = Field(description="Empty where `git` says where it is.")
    git: GitSource | None
    files: dict[str, str]
    data_files: dict[str, int] = Field(description="Sizes in bytes, by path relative to the script.")
    lease_id: str
    ttl_s: float
    benches: list[AssignedBench]
    limits: Limits
    log_lines: int = Field(description="Stored so far: the runner's first one has the next number.")
    environment: dict[str, str] = Field(description="Variables, and secrets in the clear, by the names scripts use.")
    secrets: list[str] = Field(description="Which of them are secret.")


class NewLogLine(Request):
    """A log line as a runner sends it."""

    time: Annotated[str, AfterValidator(check_time), Field(json_schema_extra={"format": "date-time"})]
    level: Literal["debug", "info", "warning", "error"]
    text: Annotated[str, StringConstraints(max_length=LINE_LENGTH_MAX)]


class LogBatch(Request):
    """Consecutive log lines."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "first_seq": 1,
                "lines": [{"time": "2026-11-21T09:30:00.125Z", "level": "info", "text": "the ECU names itself"}],
            }
        }
    )
    first_seq: Annotated[int, Field(ge=1, le=2**53)]
    lines: Annotated[list[NewLogLine], Field(min_length=1, max_length=LINES_MAX)]


class CommitReport(Request):
    """What a runner has fetched."""

    model_config = ConfigDict(json_schema_extra={"example": {"commit": "2f4c0a9d5b1e7788a3c6f0de91b2a4c5d6e7f801"}})
    commit: Annotated[
        str, StringConstraints(min_length=40, max_length=64), Field(description="All of its hexadecimal digits.")
    ]


class LogReceipt(BaseModel):
    """How far the log is stored."""

    acknowledged: int = Field(description="Sequence number of the last stored line.")


class ResultReport(Request):
    """What a runner reports at the end."""

    document: Result
    junit: str = Field(description="JUnit XML.")
