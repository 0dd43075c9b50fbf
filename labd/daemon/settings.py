"""What `labd serve` was told, looked through."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from labd.telemetry.options import InfluxOptions

if TYPE_CHECKING:
    from labd.api.limits import Limits
    from labd.api.proxies import Proxies
    from labd.executors.kubernetes.settings import Clusters
    from labd.services.sign_in import Provider


@dataclass(frozen=True, slots=True)
class Tls:
    """How labd proves who it is."""

    authority: Path
    names: tuple[str, ...]
    certificate: Path | None
    key: Path | None
    lifetime_s: float


@dataclass(frozen=True, slots=True)
class Metrics:
    """Where Prometheus comes to."""

    host: str
    port: int
    topas: bool


@dataclass(frozen=True, slots=True)
class Door:
    """Who comes in by HTTP, and how much of it."""

    limits: "Limits"
    proxies: "Proxies"


@dataclass(frozen=True, slots=True)
class Settings:
    """Of one labd."""

    data: Path
    database: str | None
    """URL of a PostgreSQL database; None for the file in ``data``."""
    keys: Path
    http: tuple[str, int]
    agents: tuple[str, int]
    public_url: str | None
    runner: str | None
    secrets_key: Path | None
    tls: Tls | None
    """None where nobody is asked who they are."""
    providers: "Sequence[Provider]"
    door: Door
    influx: InfluxOptions
    clusters: "Clusters | None"
    metrics: Metrics | None
