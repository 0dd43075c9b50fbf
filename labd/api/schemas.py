"""Requests and answers. The answers have the shapes of `labd.client.types`; a test keeps the two alike."""

from base64 import b64decode
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
)

from labd.api.times import to_seconds
from labd.model.bench import BenchState, Health
from labd.model.lease import LeaseEnd, LeaseState
from labd.model.run import ExecutorName, LogLevel, RunState

SCRIPT_LENGTH_MAX = 1024 * 1024
"""Characters in a script, or in one of its files."""
FILES_MAX = 256
"""Files beside the script of one run."""
DATA_BYTES_MAX = 16 * 1024 * 1024
"""Data files of one run together."""
LINES_MAX = 1000
"""Log lines in one request."""
LINE_LENGTH_MAX = 64 * 1024
"""Characters in a log line."""

_DAY_S = 86400.0
_OBSTACLE = (
    "While it waits: why no bench can come as things are (offline, unhealthy, none matches any more); "
    "null while a matching one is in use or free."
)
_PLAIN = r"^[^\x00-\x1f\x7f]*$"

Name = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=_PLAIN)]
Selector = Annotated[
    str,
    Field(
        description="Label selector with the grammar of Kubernetes; empty matches every bench. "
        "The reserved label `name` is the bench's name.",
        examples=["platform=meb,region in (eu,us),!broken", "name=bench-1"],
    ),
]
Priority = Annotated[int, Field(ge=-1000, le=1000, description="Higher is served first.")]
Script = Annotated[str, StringConstraints(min_length=1, max_length=SCRIPT_LENGTH_MAX)]


def _check_path(path: str) -> str:
    parts = path.split("/")
    if "\\" in path or "\0" in path or not all(parts) or "." in parts or ".." in parts or len(path) > 200:
        raise ValueError("expected a path relative to the script, such as lib/helpers.lua, without '.' and '..'")
    return path


def _decoded(value: object) -> bytes:
    try:
        return b64decode(value, validate=True)  # type: ignore[arg-type]  # what is no text is a TypeError
    except (TypeError, ValueError):
        raise ValueError("expected Base64 text (RFC 4648) without line breaks") from None


def _check_size(files: dict[str, bytes]) -> dict[str, bytes]:
    size = sum(map(len, files.values()))
    if size > DATA_BYTES_MAX:
        raise ValueError(f"the data files have {size} bytes; a run takes at most {DATA_BYTES_MAX}")
    return files


def _check_time(text: str) -> str:
    to_seconds(text)
    return text


FilePath = Annotated[str, AfterValidator(_check_path)]
Content = Annotated[bytes, BeforeValidator(_decoded), WithJsonSchema({"type": "string", "contentEncoding": "base64"})]
Time = Annotated[str, Field(json_schema_extra={"format": "date-time"})]


class Request(BaseModel):
    """A request body: nothing unknown, nothing converted."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class LeaseRequest(Request):
    """A wish for a bench."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"selector": "platform=meb", "holder": "ada", "duration_s": 1800, "ttl_s": 30}}
    )
    selector: Selector = ""
    holder: Name
    duration_s: Annotated[float, Field(gt=0, le=30 * _DAY_S, description="How long it may last once granted.")] = 3600.0
    ttl_s: Annotated[float, Field(ge=1, le=3600, description="It ends when no heartbeat came for this long.")] = 30.0
    priority: Priority = 0


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
    script: Script
    name: Name = "scenario.lua"
    files: Annotated[
        dict[FilePath, Annotated[str, StringConstraints(max_length=SCRIPT_LENGTH_MAX)]],
        Field(max_length=FILES_MAX, description="Further Lua files by path relative to the script."),
    ] = {}
    data_files: Annotated[
        dict[FilePath, Content],
        AfterValidator(_check_size),
        Field(
            max_length=FILES_MAX,
            description="Other files that the script names, such as a log to replay or an image to flash, by path "
            f"relative to the script, in Base64; at most {DATA_BYTES_MAX} bytes together.",
        ),
    ] = {}
    selector: Selector = ""
    holder: Name
    priority: Priority = 0
    timeout_s: Annotated[float, Field(gt=0, le=7 * _DAY_S, description="Counts from the start of RUNNING.")] = 300.0
    executor: Annotated[
        ExecutorName,
        Field(
            strict=False,
            description="Where the script runs: `process` beside labd, `bench` on the bench's own machine beside the "
            "bus, for tests whose timing cannot cross a network.",
        ),
    ] = ExecutorName.PROCESS


class Bus(BaseModel):
    """A CAN bus of a bench."""

    name: str
    interface: str
    channel: str
    fd: bool
    messages: list[str]
    state: Annotated[
        str,
        Field(
            description="Of the agent's CAN controller: error-active, error-warning, error-passive, bus-off; unknown "
            "while the bus is not open."
        ),
    ] = "unknown"
    lost: Annotated[int, Field(description="Frames dropped before the agent saw them, since the bus was opened.")] = 0
    error_frames: int = 0


class Did(BaseModel):
    """A data identifier that an ECU's description knows."""

    name: str
    did: int
    type: str
    unit: str


class Ecu(BaseModel):
    """A diagnostic ECU of a bench. IDs as in SocketCAN (bit 31 marks a 29-bit one), over DoIP logical addresses."""

    name: str
    bus: str
    request_id: int
    response_id: int
    simulated: bool
    dids: list[Did]


class Console(BaseModel):
    """A serial console of a bench."""

    name: str
    port: Annotated[str, Field(description="As the agent's configuration has it: a device, or a URL of pyserial.")]
    baudrate: Annotated[int, Field(description="bit/s")]


class PowerChannel(BaseModel):
    """A channel of a power supply."""

    name: str
    supply: str
    driver: str
    terminal: Annotated[str, Field(description="DIN 72552: kl30 (battery), kl15 (ignition); or empty.")]
    state: Literal["on", "off", "unknown"] = "unknown"
    measured_voltage: Annotated[float | None, Field(description="V; null: not measured.")] = None
    measured_current: Annotated[float | None, Field(description="A; null: not measured.")] = None
    measured_at: Time | None = None


class Adapter(BaseModel):
    """A device of the lab's own."""

    name: str
    driver: str
    methods: list[str]


class Equipment(BaseModel):
    """What a bench carries beside buses and ECUs."""

    consoles: list[Console] = []
    power: list[PowerChannel] = []
    adapters: list[Adapter] = []


class CleanUpStep(BaseModel):
    """One step of bringing a bench back to its safe state."""

    name: str
    elapsed_ms: int
    fault: str | None = Field(description="Why it failed; null when it worked.")


class Bench(BaseModel):
    """A bench as labd knows it."""

    name: str
    agent: str
    address: str = Field(description="host:port of the agent's gRPC door.")
    labels: dict[str, str]
    health: Health
    health_reason: str = Field(
        description="Why it is not healthy; of a healthy one, which hook failed although the bench goes on."
    )
    state: BenchState
    lease_id: str | None
    holder: str | None
    epoch: int
    last_seen: Time | None
    buses: list[Bus]
    ecus: list[Ecu]
    equipment: Equipment
    last_clean_up: list[CleanUpStep] = Field(description="What was undone at the end of the latest lease, in order.")


class ClearQuarantine(Request):
    """An operator's word that a bench may be used again."""

    by: Name = Field(description="Who has looked at the bench; goes into the logs.")


class LeaseSummary(BaseModel):
    """A lease, waiting, live or ended."""

    id: str
    state: LeaseState
    selector: str
    holder: str
    priority: int
    duration_s: float
    ttl_s: float
    position: int | None = Field(description="While QUEUED: 1 is next in the queue.")
    obstacle: str | None = Field(description=_OBSTACLE)
    bench: str | None
    address: str | None
    epoch: int | None
    created_at: Time
    granted_at: Time | None
    expires_at: Time | None = Field(description="Hard end of a granted lease.")
    heartbeat_by: Time
    ended_at: Time | None
    end_reason: LeaseEnd | None


class Lease(LeaseSummary):
    """A lease with its token."""

    token: str | None = Field(description="The signed lease token, while GRANTED.")


class CaseCounts(BaseModel):
    """How many test cases of a run ended how."""

    passed: int
    failed: int
    error: int


class Run(BaseModel):
    """One execution of one scenario."""

    id: str
    name: str
    state: RunState
    reason: str = Field(description="Why it FAILED or ended in ERROR; empty otherwise.")
    selector: str
    holder: str
    priority: int
    timeout_s: float
    executor: ExecutorName
    lease_id: str | None
    bench: str | None
    position: int | None
    obstacle: str | None = Field(description=_OBSTACLE)
    created_at: Time
    started_at: Time | None
    ended_at: Time | None
    cases: CaseCounts | None


class LogLine(BaseModel):
    """A line of a run's log. Sequence numbers start at 1 and have no gaps."""

    seq: int
    time: Time
    level: LogLevel
    text: str


class AssignedBench(BaseModel):
    """Where a run's bench is, and the right to it."""

    name: str
    address: str
    token: str
    labels: dict[str, str]


class Limits(BaseModel):
    """What a run may use."""

    timeout_s: float
    memory_bytes: int
    output_bytes: int


class Assignment(BaseModel):
    """What a runner needs to execute its run."""

    run_id: str
    name: str
    script: str
    files: dict[str, str]
    data_files: dict[str, int] = Field(description="Sizes in bytes, by path relative to the script.")
    lease_id: str
    ttl_s: float
    benches: list[AssignedBench]
    limits: Limits


class NewLogLine(Request):
    """A log line as a runner sends it."""

    time: Annotated[str, AfterValidator(_check_time), Field(json_schema_extra={"format": "date-time"})]
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


class LogReceipt(BaseModel):
    """How far the log is stored."""

    acknowledged: int = Field(description="Sequence number of the last stored line.")


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


class ResultReport(Request):
    """What a runner reports at the end."""

    document: Result
    junit: str = Field(description="JUnit XML.")


class Version(BaseModel):
    """Which labd this is."""

    version: str


class HealthReport(BaseModel):
    """labd answers, and its database does."""

    status: Literal["ok"]


class JsonWebKeySet(BaseModel):
    """The public keys that sign lease tokens (RFC 7517)."""

    keys: list[dict[str, Any]]
