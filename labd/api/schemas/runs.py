"""Runs and their results."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from labd.api.schemas.common import (
    DATA_BYTES_MAX,
    DAY_S,
    FILES_MAX,
    OBSTACLE,
    Affinity,
    Content,
    FilePath,
    Holder,
    Name,
    Priority,
    Request,
    SameSite,
    Script,
    ScriptFile,
    Selector,
    Team,
    Time,
    Wanted,
    check_size,
)
from labd.model.lease import DEFAULT_PRIORITY
from labd.model.run import Cause, ExecutorName, LogLevel, RunState


class GitSource(Request):
    """A script in a Git repository."""

    url: Annotated[
        str,
        StringConstraints(min_length=1, max_length=2048),
        Field(
            description="Of the repository, by https or http, without a user.",
            examples=["https://git.example.com/t.git"],
        ),
    ]
    path: Annotated[
        str,
        StringConstraints(min_length=1, max_length=1024),
        Field(description="Of the script in the repository.", examples=["smoke/identify.lua"]),
    ]
    revision: Annotated[
        str,
        StringConstraints(min_length=1, max_length=255),
        Field(description="Branch, tag or whole commit."),
    ] = "HEAD"


class RunRequest(Request):
    """A scenario to execute."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "name": "identify.lua",
                "script": 'local uds = require("uds")\nprint(uds.ecu("ECM"):read("VIN"))\n',
                "selector": "platform=meb",
                "holder": "ci",
                "timeout_s": 120,
            }
        }
    )
    script: Annotated[Script | None, Field(description="The scenario; or else `git` says where it is.")] = None
    git: Annotated[GitSource | None, Field(description="Of the executor `kubernetes`: where the scenario is.")] = None
    name: Annotated[Name | None, Field(description="null: `scenario.lua`, or the file's name in Git.")] = None
    files: Annotated[
        dict[FilePath, ScriptFile],
        Field(max_length=FILES_MAX, description="Further Lua files by path relative to the script."),
    ] = Field(default={})
    data_files: Annotated[
        dict[FilePath, Content],
        AfterValidator(check_size),
        Field(
            max_length=FILES_MAX,
            description="Other files that the script names, such as a log to replay or an image to flash, by path "
            f"relative to the script, in Base64; at most {DATA_BYTES_MAX} bytes together.",
        ),
    ] = Field(default={})
    selector: Selector = ""
    benches: Wanted = Field(default=[])
    same_site: SameSite = False
    affinity: Affinity = ""
    holder: Holder = None
    team: Team | None = None
    priority: Priority = DEFAULT_PRIORITY
    timeout_s: Annotated[float, Field(gt=0, le=7 * DAY_S, description="Counts from the start of RUNNING.")] = 300.0
    executor: Annotated[
        Annotated[ExecutorName, Field(strict=False)] | None,
        Field(
            description="Where the script runs: `process` beside labd, `bench` on the bench's own machine beside the "
            "bus, for tests whose timing cannot cross a network, `kubernetes` in a pod of a cluster. null: in a "
            "pod with `git` or `cluster`, else as the policy says of the team."
        ),
    ] = None
    cluster: Annotated[
        Annotated[str, StringConstraints(min_length=1, max_length=63)] | None,
        Field(
            description="Of the executor `kubernetes`: the cluster, by its name in labd's configuration; else the "
            "default one."
        ),
    ] = None
    environment: Annotated[
        Annotated[str, StringConstraints(max_length=100)] | None,
        Field(description="Of the team: the script gets its variables and secrets as `env.NAME`."),
    ] = None


class AgainRequest(Request):
    """A run that is to be run again."""

    holder: Holder = None


class CaseCounts(BaseModel):
    """How many test cases of a run ended how."""

    passed: int
    failed: int
    error: int


class Attempt(BaseModel):
    """One try at a run, with a lease and a runner of its own."""

    number: int = Field(description="From 1.")
    lease_id: str
    benches: list[str]
    started_at: Time | None
    ended_at: Time | None
    cause: Cause | None = Field(description="Why it ended, in a word, where its runner did not say so itself.")
    reason: str = Field(description="Why it ended, unless it went well.")


class Run(BaseModel):
    """One execution of one scenario."""

    id: str
    name: str
    state: RunState
    reason: str = Field(description="Why it FAILED or ended in ERROR; empty otherwise.")
    selector: str
    holder: str
    team: str
    priority: str
    timeout_s: float
    executor: ExecutorName
    cluster: str | None = Field(description="Of the executor `kubernetes`.")
    git: GitSource | None = Field(description="Where its script is, unless it came with it.")
    commit: str | None = Field(description="What the revision of `git` was when it was fetched.")
    lease_id: str | None
    bench: str | None = Field(description="The bench of a run on a single one; null with several.")
    benches: list[str]
    position: int | None
    obstacle: str | None = Field(
        description=f"{OBSTACLE} While RUNNING: what its pod waits for before its runner runs, if this labd knows."
    )
    created_at: Time
    started_at: Time | None
    ended_at: Time | None
    cases: CaseCounts | None
    cause: Cause | None = Field(description="Why it ended, in a word, where its runner did not say so itself.")
    attempts: list[Attempt] = Field(
        description="More than one, where a runner was lost through no fault of the run's. The last one is the present."
    )


class LogLine(BaseModel):
    """A line of a run's log. Sequence numbers start at 1 and have no gaps."""

    seq: int
    time: Time
    level: LogLevel
    text: str


class Frame(Request):
    """A CAN frame in a result."""

    bus: str
    time: float
    frame: str


class Failure(Request):
    """Why a case did not pass."""

    message: str
    file: str | None
    line: int | None
    traceback: str


class Step(Request):
    """Something that a case did, ``at_s`` after the start of the case."""

    at_s: float
    text: str


class CaseResult(Request):
    """One test case."""

    name: str
    verdict: Literal["passed", "failed", "error"]
    duration_s: float
    steps: list[Step]
    failure: Failure | None
    frames: list[Frame]


class Result(Request):
    """The result document of a run (version 1)."""

    version: Literal[1]
    name: str
    verdict: Literal["passed", "failed", "error"]
    reason: str
    failure: Failure | None
    benches: list[str]
    started_at: str
    duration_s: float
    cases: list[CaseResult]
    log_lines: int
    log_lines_dropped: int
