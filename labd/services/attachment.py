"""What agents and the fleet tell each other, and what labd knows of an agent for as long as it is attached."""

import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from labd.executors.bench import RunnerOrder, RunnerReport
from labd.services.ledger import ClearOrder, ExtendOrder, FenceOrder, UnshareOrder


@dataclass(frozen=True, slots=True)
class PowerReading:
    """How a power channel is now: V and A as last measured, ``at`` seconds since the Unix epoch. None: not known."""

    on: bool | None = None
    voltage: float | None = None
    current: float | None = None
    at: float | None = None


@dataclass(frozen=True, slots=True)
class BenchReport:
    """A bench as its agent sees it."""

    name: str
    labels: dict[str, str]
    healthy: bool
    health_reason: str
    buses: list[dict[str, Any]]
    ecus: list[dict[str, Any]]
    fenced_epoch: int
    quarantined: bool = False
    last_clean_up: list[dict[str, Any]] = field(default_factory=list)
    equipment: dict[str, Any] = field(default_factory=dict)
    power: dict[str, PowerReading] = field(default_factory=dict, compare=False)
    """By channel. They change all the time, and are shown but not stored."""
    counters: dict[str, dict[str, int]] = field(default_factory=dict, compare=False)
    """By bus, by name. They are stored with what changes less often."""
    active_epoch: int = 0
    """Of the lease that has had a call accepted; 0 for none yet."""
    idle_s: float = field(default=0.0, compare=False)
    """How long that lease has had no traffic."""

    @property
    def counted_buses(self) -> list[dict[str, Any]]:
        """The buses with their counters."""
        return [{**bus, **self.counters.get(bus["name"], {})} for bus in self.buses]


@dataclass(frozen=True, slots=True)
class Traffic:
    """What an agent knows of the use of a bench."""

    epoch: int
    """Of the lease that has had a call accepted."""
    last_at: float
    """When it last had traffic (s since the Unix epoch, labd's clock)."""


@dataclass(frozen=True, slots=True)
class CertificateAnswer:
    """The certificate that an agent has asked for; PEM."""

    chain: bytes
    trust: bytes
    refusal: str = ""
    """Why there is none."""


@dataclass(frozen=True, slots=True)
class PointsTaken:
    """labd has a batch of the agent's points on its disk: the next may come."""

    spool: str
    number: int
    held_s: float = 0.0
    """From the batch to this answer."""


Order = FenceOrder | ClearOrder | UnshareOrder | ExtendOrder | RunnerOrder | CertificateAnswer | PointsTaken


class AgentLink(Protocol):
    """The way to an attached agent. Methods return at once, from any thread."""

    def send(self, order: Order) -> None:
        """Passes the order on."""

    def close(self, reason: str, *, revoked: bool = False) -> None:
        """Ends the stream; ``revoked``: the agent is told that it has no right to its benches any more."""


@dataclass(slots=True, eq=False)
class Session:
    """One attachment of an agent."""

    agent: str
    address: str
    link: AgentLink
    last_seen: float
    key: str = field(default_factory=lambda: secrets.token_hex(8))
    """Its name among all attachments to all labds."""
    settled: bool = False
    """The attachment is durable."""
    welcome: list[FenceOrder] = field(default_factory=list)
    """What was no longer live on its benches when it attached."""
    benches: dict[str, BenchReport] = field(default_factory=dict)
    """Those that labd takes from this agent, as stored."""
    latest: dict[str, BenchReport] = field(default_factory=dict)
    """By bench: the last report, of which what changes all the time is not stored."""
    ordered: dict[str, tuple[FenceOrder, float]] = field(default_factory=dict)
    """Fences not confirmed yet, and the monotonic time of the order."""
    stored: dict[str, tuple[Traffic, float]] = field(default_factory=dict)
    """By bench: what was stored of ``traffic`` last, and after how long it is stored again while it goes on (s)."""
    traffic: dict[str, Traffic] = field(default_factory=dict)
    """By bench, as last reported; none for a bench that no lease has used."""


@dataclass(frozen=True, slots=True)
class Hello:
    """An agent attaches, with its benches and all runners that it knows of."""

    session: Session
    reports: Sequence[BenchReport]
    runners: Collection[RunnerReport] = ()


@dataclass(frozen=True, slots=True)
class Reported:
    """How a bench stands now."""

    session: Session
    report: BenchReport


@dataclass(frozen=True, slots=True)
class Fenced:
    """The agent has ended all that ran at a bench under this or a lower epoch."""

    session: Session
    bench: str
    epoch: int


@dataclass(frozen=True, slots=True)
class RunnerChanged:
    """Something has become of a runner at one of the agent's benches."""

    session: Session
    report: RunnerReport


@dataclass(frozen=True, slots=True)
class Gone:
    """The agent's stream is gone."""

    session: Session
    reason: str


Said = Hello | Reported | Fenced | RunnerChanged | Gone
"""What an agent says, or its silence."""
