"""The shapes of the REST API's answers. Times are RFC 3339 text in UTC; durations are in seconds."""

from typing import Any, Literal, NotRequired, TypedDict

Health = Literal["healthy", "unhealthy", "quarantined", "offline"]
BenchState = Literal["available", "leased", "recovering", "drained", "unavailable"]
LeaseState = Literal["QUEUED", "GRANTED", "ACTIVE", "ENDING", "ENDED"]
LeaseEnd = Literal[
    "released", "expired", "heartbeat_lost", "idle", "cancelled", "preempted", "revoked", "bench_removed", "restored"
]
ShareMode = Literal["observer", "co-driver"]
"""Looks on, or acts beside the holder."""
RunState = Literal["PENDING", "RUNNING", "PASSED", "FAILED", "ERROR", "CANCELLED"]
LogLevel = Literal["debug", "info", "warning", "error"]
ExecutorName = Literal["process", "bench", "kubernetes"]
"""Beside labd, on the bench's own machine, or in a pod of a cluster."""
Cause = Literal[
    "Timeout",
    "OutOfMemory",
    "Evicted",
    "SetupFailed",
    "ImagePull",
    "Unschedulable",
    "PodLost",
    "NoResult",
]
"""Why a run ended whose runner did not say so itself."""


class Bus(TypedDict):
    """A CAN bus of a bench."""

    name: str
    interface: str
    channel: str
    fd: bool
    messages: list[str]
    state: str
    """Of the agent's controller: error-active, error-warning, error-passive, bus-off; unknown: the bus is not open."""
    lost: int
    error_frames: int


class Did(TypedDict):
    """A data identifier that an ECU's description knows."""

    name: str
    did: int
    type: str
    unit: str


class Ecu(TypedDict):
    """A diagnostic ECU of a bench. IDs as in SocketCAN: bit 31 marks a 29-bit one."""

    name: str
    bus: str
    request_id: int
    response_id: int
    simulated: bool
    dids: list[Did]


class Console(TypedDict):
    """A serial console of a bench: its port as the agent's configuration has it, and bit/s."""

    name: str
    port: str
    baudrate: int


class PowerChannel(TypedDict):
    """A channel of a power supply."""

    name: str
    supply: str
    driver: str
    terminal: str
    """DIN 72552: kl30 (battery), kl15 (ignition); or empty."""
    state: Literal["on", "off", "unknown"]
    measured_voltage: float | None
    """V, as last measured; None: not measured, or the agent is away."""
    measured_current: float | None
    """A, likewise."""
    measured_at: str | None


class Adapter(TypedDict):
    """A device of the lab's own."""

    name: str
    driver: str
    methods: list[str]


class Equipment(TypedDict):
    """What a bench carries beside buses and ECUs."""

    consoles: list[Console]
    power: list[PowerChannel]
    adapters: list[Adapter]


class CleanUpStep(TypedDict):
    """One step of bringing a bench back to its safe state."""

    name: str
    elapsed_ms: int
    fault: str | None
    """Why it failed; None when it worked."""


class Bench(TypedDict):
    """A bench as labd knows it."""

    name: str
    agent: str
    address: str
    """host:port of the agent's gRPC door."""
    labels: dict[str, str]
    health: Health
    health_reason: str
    """Why it is not healthy; of a healthy one, which hook failed although the bench goes on."""
    state: BenchState
    """recovering: the former lease has ended, the agent has not confirmed the clean-up yet."""
    lease_id: str | None
    holder: str | None
    epoch: int
    last_seen: str | None
    draining: bool
    """An operator keeps new leases from it, or from its agent."""
    drain_reason: str
    buses: list[Bus]
    ecus: list[Ecu]
    equipment: Equipment
    last_clean_up: list[CleanUpStep]
    """What was undone at the end of the latest lease, in order."""


class WantedBenches(TypedDict):
    """Different benches that match one selector."""

    selector: str
    count: NotRequired[int]


class LeasedBench(TypedDict):
    """A bench that a lease has."""

    name: str
    address: str | None
    """host:port of the agent's gRPC door, while the lease is held."""
    epoch: int
    selector: str
    """What it was asked for by."""
    token: NotRequired[str | None]
    """While the lease is held; only in answers about one lease."""


class CalendarEntry(TypedDict):
    """A time in which somebody has a bench."""

    starts_at: str
    ends_at: str
    """At the latest, without the clean-up after it."""
    taken: Literal["leased", "booked", "kept"]
    """kept: free for who has waited longest."""
    lease_id: str | None
    """None: of a team that is not for you to see."""
    holder: str | None


class Calendar(TypedDict):
    """What is certain of a bench from now on."""

    bench: str
    entries: list[CalendarEntry]
    next_free: str | None
    """From when on it is free for as long as was asked; None: never, as things are."""


class LeaseShare(TypedDict):
    """Somebody with whom a lease is shared."""

    holder: str
    mode: ShareMode


class Lease(TypedDict):
    """A lease, waiting, live or ended."""

    id: str
    state: LeaseState
    selector: str
    """What it asks for, as text."""
    wanted: list[WantedBenches]
    same_site: bool
    affinity: str
    holder: str
    team: str
    priority: str
    held: bool
    """A person holds it: it needs no heartbeats, and ends when it is not used."""
    run_id: str | None
    duration_s: float
    """How long it may last once granted."""
    ttl_s: float
    """It ends when no heartbeat came for this long."""
    position: int | None
    """While QUEUED: 1 is next in the queue."""
    obstacle: str | None
    """While QUEUED: why no bench can come as things are; None while a matching one is in use or free."""
    bench: str | None
    """The bench of a lease of a single one; None with several."""
    address: str | None
    epoch: int | None
    benches: list[LeasedBench]
    created_at: str
    granted_at: str | None
    active_at: str | None
    expires_at: str | None
    """Hard end of a granted lease."""
    heartbeat_by: str
    starts_at: str | None
    """Of a booking."""
    reserved: list[str]
    """Of a booking that waits: the benches that it is to get."""
    avoid: list[str]
    idle_release_at: str | None
    """A held lease ends then, unless something goes to or from its benches."""
    revoke_at: str | None
    """Its holder has to be gone by then."""
    revoke_reason: str
    ending_at: str | None
    """When the end was decided."""
    ended_at: str | None
    """When every agent had confirmed it."""
    end_reason: LeaseEnd | None
    end_note: str
    token: NotRequired[str | None]
    """The signed lease token of a single bench, while it is held; only in answers about one lease."""
    shares: NotRequired[list[LeaseShare]]
    """With whom it is shared; only in answers about one lease."""


class SharedLease(TypedDict):
    """A lease for somebody with whom it is shared: the tokens are theirs, and end with the lease."""

    id: str
    holder: str
    mode: ShareMode
    expires_at: str | None
    benches: list[LeasedBench]


class BenchInQuestion(TypedDict):
    """A bench that matches, and why a waiting lease does not have it."""

    bench: str
    why: Literal["unusable", "draining", "failed_before", "held", "cleaning_up", "promised", "booked", "free"]
    """free: others are missing, or somebody ahead gets it."""
    detail: str | None
    by: str | None
    """The lease that has it, or is to get it."""
    until: str | None


class PartInQuestion(TypedDict):
    """One selector of a waiting lease."""

    selector: str
    count: int
    excluded: dict[str, list[str]]
    """By term of the selector, the benches that do not meet it."""
    matching: list[BenchInQuestion]


class LeaseWhy(TypedDict):
    """Why a lease waits, and until when."""

    id: str
    position: int | None
    """1 is next; None for a booking."""
    ahead: list[str]
    """The leases before it that want a bench that it wants, in order."""
    parts: list[PartInQuestion]
    quota: str | None
    """What its team would have too much of."""
    limit: str | None
    """Of which runs in clusters there are as many as the policy allows."""
    held_for_it_from: str | None
    """It waited so long that benches are held for it from then on."""
    short_of: dict[str, list[str]]
    """Of a lease for one site: by the site ("": none), the selectors for which it has too few benches."""
    expected_start: str | None
    """An estimate from how long recent leases lasted; a booking's start; None: it cannot be served as things are."""


class PriorityClass(TypedDict):
    """A class of priority, and who may ask for it."""

    name: str
    rank: int
    role: Literal["viewer", "engineer", "operator", "admin"]
    teams: list[str] | None
    may_preempt: bool
    preemptible: bool


class TeamPolicy(TypedDict):
    """What a team may have; None: no bound of its own."""

    name: str
    weight: float
    benches: int | None
    bench_hours_per_week: float | None
    classes: list[str] | None
    longest_lease_s: float | None
    executor: ExecutorName
    """Of runs that name none."""


class RunLimit(TypedDict):
    """How many runs in clusters there may be at once, of those to which all applies that it says."""

    runs: int
    cluster: str | None
    team: str | None
    selector: str | None
    """Only those that ask for benches by this selector."""


class RunPolicy(TypedDict):
    """What holds for runs."""

    attempts: int
    """Of a run whose runner is lost through no fault of its own, with the first."""
    limits: list[RunLimit]


class Policy(TypedDict):
    """The lab's policy."""

    classes: list[PriorityClass]
    teams: list[TeamPolicy]
    ageing_bound_s: float
    longest_lease_s: float
    idle_release_s: float
    idle_notice_s: float
    preemption_grace_s: float
    clean_up_s: float
    booking_horizon_s: float
    runs: RunPolicy


HELD: tuple[LeaseState, ...] = ("GRANTED", "ACTIVE")
"""The holder may act on the benches."""
OVER: tuple[LeaseState, ...] = ("ENDING", "ENDED")
"""The end is decided."""


class CaseCounts(TypedDict):
    """How many test cases of a run ended how."""

    passed: int
    failed: int
    error: int


class GitSource(TypedDict):
    """A script in a Git repository."""

    url: str
    path: str
    """Of the script in the repository."""
    revision: str
    """Branch, tag or whole commit."""


class Attempt(TypedDict):
    """One try at a run, with a lease and a runner of its own."""

    number: int
    lease_id: str
    benches: list[str]
    started_at: str | None
    ended_at: str | None
    cause: Cause | None
    reason: str
    """Why it ended, unless it went well."""


class Run(TypedDict):
    """One execution of one scenario."""

    id: str
    name: str
    state: RunState
    reason: str
    """Why it FAILED or ended in ERROR, in one line; empty otherwise."""
    selector: str
    holder: str
    team: str
    priority: str
    timeout_s: float
    executor: ExecutorName
    cluster: str | None
    """Of the executor ``kubernetes``."""
    git: GitSource | None
    """Where its script is, unless it came with it."""
    commit: str | None
    """What the revision of ``git`` was when it was fetched."""
    lease_id: str | None
    bench: str | None
    """The bench of a run on a single one; None with several."""
    benches: list[str]
    position: int | None
    obstacle: str | None
    """While PENDING: why no bench can come as things are; None while a matching one is in use or free."""
    created_at: str
    started_at: str | None
    ended_at: str | None
    cases: CaseCounts | None
    cause: Cause | None
    """Why it ended, in a word, where its runner did not say so itself."""
    attempts: list[Attempt]
    """More than one, where a runner was lost through no fault of the run's. The last one is the present."""


class LogLine(TypedDict):
    """A line of a run's log. Sequence numbers start at 1 and have no gaps."""

    seq: int
    time: str
    level: LogLevel
    text: str


class AssignedBench(TypedDict):
    """Where a run's bench is, and the right to it."""

    name: str
    address: str
    token: str
    epoch: NotRequired[int]
    labels: dict[str, str]


class Limits(TypedDict):
    """What a run may use."""

    timeout_s: float
    memory_bytes: int
    output_bytes: int


class Assignment(TypedDict):
    """What a runner needs to execute its run."""

    run_id: str
    attempt: NotRequired[int]
    """Of the run, from 1: each has a runner of its own."""
    name: str
    script: str
    """Empty where ``git`` says where it is."""
    git: NotRequired[GitSource | None]
    files: dict[str, str]
    """Further Lua files by path relative to the script."""
    data_files: dict[str, int]
    """Sizes, in bytes, of the other files that came with the run, by path relative to the script."""
    lease_id: str
    ttl_s: float
    benches: list[AssignedBench]
    limits: Limits
    log_lines: NotRequired[int]
    """Stored so far: the runner's first one has the next number."""
    environment: dict[str, str]
    """Variables, and secrets in the clear, by the names that scripts use."""
    secrets: list[str]
    """Which of them are secret."""


class Frame(TypedDict):
    """A CAN frame in a result: candump's notation, seconds since the Unix epoch."""

    bus: str
    time: float
    frame: str


class Failure(TypedDict):
    """Why a case did not pass."""

    message: str
    file: str | None
    line: int | None
    traceback: str


class Step(TypedDict):
    """Something that a case did, ``at_s`` after the start of the case."""

    at_s: float
    text: str


class CaseResult(TypedDict):
    """One test case."""

    name: str
    verdict: Literal["passed", "failed", "error"]
    duration_s: float
    steps: list[Step]
    failure: Failure | None
    frames: list[Frame]
    """The last frames on the bench's buses before the failure; empty when the case passed."""


class Result(TypedDict):
    """The result document of a run (version 1)."""

    version: Literal[1]
    name: str
    verdict: Literal["passed", "failed", "error"]
    reason: str
    failure: Failure | None
    """What broke outside every case: the script did not load, ran out of time, memory or output."""
    benches: list[str]
    started_at: str
    duration_s: float
    cases: list[CaseResult]
    log_lines: int
    log_lines_dropped: int


class Problem(TypedDict):
    """An error answer (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    errors: NotRequired[list[dict[str, Any]]]
    """For each bad field: ``field``, ``value`` and ``message``."""


class AuditEntry(TypedDict):
    """Something that somebody did, in the audit log. ``hash`` is the SHA-256 of the RFC 8785 text of the rest."""

    seq: int
    time: float
    """Seconds since the Unix epoch, as it was hashed."""
    actor: str
    kind: str
    team: str
    action: str
    subject: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    why: str
    previous: str
    hash: str


class AuditVerdict(TypedDict):
    """Whether the audit log is what was written."""

    sound: bool
    checked: int
    head: str | None
    """SEQ:HASH of the end of a sound log."""
    fault: Literal["altered", "removed", "inserted", "cut off"] | None
    seq: int | None
    detail: str
    verified_at: str


class Agent(TypedDict):
    """A bench agent as labd knows it."""

    name: str
    state: Literal["invited", "enrolled", "revoked", "unproved"]
    """Unproved: it is attached to a labd that runs with --insecure."""
    attached: bool
    address: str | None
    last_seen: str | None
    benches: list[str]
    enrolled_at: str | None
    certificate_expires_at: str | None
    invited_until: str | None
    revoked_at: str | None
    revoked_by: str | None
    revoked_reason: str | None
    draining: bool
    """An operator keeps new leases from all its benches."""
    drain_reason: str


class Invitation(TypedDict):
    """A one-time token for an agent; labd does not show it again."""

    agent: str
    token: str
    expires_at: str
    fingerprint: str


class Authority(TypedDict):
    """labd's certificate authority: its fingerprint (SHA-256), and the certificates to trust, as PEM."""

    fingerprint: str
    trust: str


class Secret(TypedDict):
    """A secret of a team, without its value."""

    team: str
    name: str
    updated_at: str
    updated_by: str


class Environment(TypedDict):
    """Variables and secrets that runs of a team may be given."""

    team: str
    name: str
    variables: dict[str, str]
    secrets: dict[str, str]
    """Name of a secret by the name that scripts know."""


class WhoAmI(TypedDict):
    """Whose token it is, and what it may."""

    name: str
    kind: str
    roles: dict[str, str]
    """By team; ``*`` is the whole lab."""
    scopes: list[str] | None


class LoginProvider(TypedDict):
    """Where people sign in by themselves."""

    name: str
    issuer: str
    client_id: str
    scope: str


class LoginWays(TypedDict):
    """How a labd wants to be signed in to."""

    insecure: bool
    """It asks nobody who they are."""
    providers: list[LoginProvider]


class User(TypedDict):
    """A person or program that labd itself knows."""

    name: str
    kind: str
    created_at: str
    roles: dict[str, str]


class Member(TypedDict):
    """Somebody in a team."""

    team: str
    name: str
    role: str


class ApiToken(TypedDict):
    """What labd keeps of a token."""

    prefix: str
    owner: str
    name: str
    scopes: list[str] | None
    created_at: str
    expires_at: str
    revoked_at: str | None
    last_used_at: str | None


class NewApiToken(ApiToken):
    """A token with its text."""

    token: str


class TeamRetention(TypedDict, total=False):
    """What is kept of a team's; None: for ever, and all of it."""

    runs_days: float | None
    runs_mb: float | None
    logs_days: float | None
    logs_mb: float | None
    traces_days: float | None
    traces_mb: float | None
    audit_days: float | None
    audit_mb: float | None


class Retention(TypedDict, total=False):
    """What is kept for how long."""

    default: TeamRetention
    teams: dict[str, TeamRetention]
    audit_days: float | None
    audit_mb: float | None


class Swept(TypedDict):
    """What was removed, or would be."""

    runs: int
    leases: int
    logs: int
    log_bytes: int
    files: int
    audit_entries: int


class Status(TypedDict):
    """How a labd does."""

    version: str
    started_at: str
    agents: int
    """That are attached to it."""
    cut: dict[str, int]
    """Connections and streams that it has cut off since it started, by the reason."""


class Series(TypedDict):
    """One series: what was measured of one thing."""

    tags: dict[str, str]
    points: list[tuple[float, float | str]]
    """The beginning of each step (s since the Unix epoch) in which there is a value, and the value."""


class Figures(TypedDict):
    """One field of a measurement, by series."""

    measurement: str
    field: str
    unit: str
    aggregate: str
    since: str
    until: str
    step_s: int
    series: list[Series]
    more: bool
    """There may be more series than the limit."""
    replica: str
    """The labd that has answered; ``labd`` where there is only one."""
    others: list[str]
    """The other labds of the lab that live: they have the figures of their agents themselves."""


class Check(TypedDict):
    """One thing that the doctor looked at."""

    name: str
    state: str
    """ok, warning or error."""
    message: str
    remedy: str
    """What to do about it; "" where nothing is to be done."""


class Doctor(TypedDict):
    """How labd and what it depends on do."""

    checks: list[Check]
