"""What agents and the fleet tell each other, and what labd knows of an agent for as long as it is attached."""

import secrets
from dataclasses import dataclass, field
from typing import Any, Protocol

from labd.executors.bench import RunnerOrder
from labd.services.ledger import ClearOrder, FenceOrder, UnshareOrder


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
    active_epoch: int = 0
    """Of the lease that has had a call accepted; 0 for none yet."""
    idle_s: float = field(default=0.0, compare=False)
    """How long that lease has had no traffic."""


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


Order = FenceOrder | ClearOrder | UnshareOrder | RunnerOrder | CertificateAnswer


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
    benches: dict[str, BenchReport] = field(default_factory=dict)
    """Those that labd takes from this agent, as last reported."""
    ordered: dict[str, tuple[FenceOrder, float]] = field(default_factory=dict)
    """Fences not confirmed yet, and the monotonic time of the order."""
    power: dict[str, dict[str, PowerReading]] = field(default_factory=dict)
    """By bench and channel, as last reported."""
    stored: dict[str, float] = field(default_factory=dict)
    """By bench: of what is in ``traffic``, the time that the store has (s since the Unix epoch)."""
    traffic: dict[str, Traffic] = field(default_factory=dict)
    """By bench, as last reported; none for a bench that no lease has used."""
