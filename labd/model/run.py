"""A run: one execution of one scenario. ``PENDING → RUNNING → PASSED / FAILED / ERROR / CANCELLED``.

A run is PENDING exactly while its lease is QUEUED, and RUNNING exactly while it is GRANTED or ACTIVE: both move
together, in one transaction. Where its runner was lost through no fault of the run's, it gets another attempt, with a
lease of its own: from RUNNING back to PENDING. All times are seconds since the Unix epoch on labd's clock.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

from labd.model.errors import IllegalTransition
from labd.model.source import GitSource


class RunState(StrEnum):
    """Where a run is in its life. FAILED: a check failed, or the script took too long or too much memory. ERROR: it, or
    bench or lab, broke.
    """

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    PASSED = "PASSED"
    FAILED = "FAILED"
    ERROR = "ERROR"
    CANCELLED = "CANCELLED"

    @property
    def final(self) -> bool:
        """Whether the run is over."""
        return self not in (RunState.PENDING, RunState.RUNNING)


class ExecutorName(StrEnum):
    """Where a run's process lives: beside labd, at the bench beside the bus, or in a pod of a cluster."""

    PROCESS = "process"
    BENCH = "bench"
    KUBERNETES = "kubernetes"


class Cause(StrEnum):
    """Why a run ended whose runner did not say so itself, in a word."""

    TIMEOUT = "Timeout"
    OUT_OF_MEMORY = "OutOfMemory"
    EVICTED = "Evicted"
    SETUP_FAILED = "SetupFailed"
    IMAGE_PULL = "ImagePull"
    UNSCHEDULABLE = "Unschedulable"
    POD_LOST = "PodLost"
    NO_RESULT = "NoResult"

    @property
    def verdict(self) -> RunState:
        """What the run becomes."""
        return RunState.FAILED if self in (Cause.TIMEOUT, Cause.OUT_OF_MEMORY) else RunState.ERROR

    @property
    def transient(self) -> bool:
        """Whether another attempt, elsewhere, may go well."""
        return self in (Cause.EVICTED, Cause.POD_LOST)

    @staticmethod
    def of(word: str) -> "Cause | None":
        """The cause of this name; None where there is none."""
        return Cause(word) if word in Cause._value2member_map_ else None


class LogLevel(StrEnum):
    """Weight of a log line."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class CaseCounts:
    """How many test cases ended how."""

    passed: int
    failed: int
    error: int


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line of a run's log; ``seq`` starts at 1 and has no gaps."""

    seq: int
    time: float
    level: LogLevel
    text: str


@dataclass(frozen=True, slots=True)
class RunInput:
    """What a run executes."""

    script: str
    files: dict[str, str]
    """Further Lua files by path relative to the script."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try at a run, with a runner and a lease of its own."""

    number: int
    """From 1."""
    lease_id: str
    started_at: float | None = None
    ended_at: float | None = None
    cause: Cause | None = None
    reason: str = ""
    """Why it ended, unless it went well."""


@dataclass(frozen=True, slots=True)
class Run:
    """One execution of one scenario, and how it went."""

    id: str
    seq: int
    name: str
    state: RunState
    reason: str
    selector: str
    """What it asks for, as text; its lease has it in parts."""
    holder: str
    team: str
    priority: str
    """Name of a class of the policy."""
    timeout_s: float
    """Counts from the start of RUNNING; of a pod, from when its runner has shown up."""
    lease_id: str
    created_at: float
    executor: ExecutorName = ExecutorName.PROCESS
    cluster: str | None = None
    """Of the executor ``kubernetes``: where its pods live."""
    git: GitSource | None = None
    """Where its script is, unless it came with it."""
    commit: str | None = None
    """What ``git``'s revision was when it was first fetched: further attempts take the same."""
    attempt: int = 1
    """The number of the present one, which the lease and the times are of; former ones are kept as `Attempt`."""
    started_at: float | None = None
    ended_at: float | None = None
    due_at: float | None = None
    """When its timeout passes, once it is RUNNING."""
    cause: Cause | None = None
    """Why it ended, in a word, where its runner did not say so itself."""
    cases: CaseCounts | None = None
    log_lines: int = 0
    """Stored so far: the sequence number of the last one."""
    log_bytes: int = 0
    """Their text in UTF-8."""
    replica: str | None = None
    """Of several labds, the one beside which the process lives; None when there is only one."""
    traceparent: str | None = None
    """The trace in which it was asked for (W3C Trace Context)."""

    def start(self, now: float, replica: str | None = None, start_s: float = 0.0) -> "Run":
        """The run with its bench; ``replica`` is the labd that sees to its process.

        ``start_s`` is what its runner may take to show up, before its timeout counts. Raises IllegalTransition unless
        PENDING.
        """
        if self.state is not RunState.PENDING:
            raise IllegalTransition(f"run {self.id} is {self.state}, only a PENDING one can start")
        due_at = now + start_s + self.timeout_s
        return replace(self, state=RunState.RUNNING, started_at=now, due_at=due_at, replica=replica)

    def begin(self, now: float) -> "Run":
        """The RUNNING run whose runner has shown up: its timeout counts from now."""
        return replace(self, due_at=now + self.timeout_s)

    @property
    def present(self) -> Attempt:
        """The attempt that it is at, or that was its last."""
        return Attempt(self.attempt, self.lease_id, self.started_at, self.ended_at, self.cause, self.reason)

    def retry(self, lease_id: str) -> "Run":
        """The run with another attempt, which waits for that lease. Raises IllegalTransition unless RUNNING."""
        if self.state is not RunState.RUNNING:
            raise IllegalTransition(f"run {self.id} is {self.state}, only a RUNNING one is tried again")
        return replace(
            self,
            state=RunState.PENDING,
            lease_id=lease_id,
            attempt=self.attempt + 1,
            started_at=None,
            due_at=None,
            replica=None,
        )

    def finish(
        self,
        state: RunState,
        reason: str,
        now: float,
        cases: CaseCounts | None = None,
        cause: Cause | None = None,
    ) -> "Run":
        """The run with its verdict. Raises IllegalTransition when it is over already, or the verdict is none."""
        if self.state.final:
            raise IllegalTransition(f"run {self.id} is over ({self.state})")
        if not state.final:
            raise IllegalTransition(f"{state} is no verdict")
        if self.state is RunState.PENDING and state not in (RunState.CANCELLED, RunState.ERROR):
            raise IllegalTransition(f"run {self.id} has not started: it cannot be {state}")
        return replace(self, state=state, reason=reason, ended_at=now, cases=cases, cause=cause)
