"""What is wrong with the lab, and what to do about it: each part of labd says how it does."""

import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Protocol, runtime_checkable

import structlog
from cryptography import x509

from labd.model.check import Check, CheckState
from labd.services.authority import Authority
from labd.services.core import Core
from labd.services.sessions import Sessions
from labd.store.errors import StoreError
from labd.store.schema import SCHEMA_HEAD
from labd.telemetry.day_query import Aggregate, Question, ask
from labd.telemetry.writer import Writer

DAY_S = 86_400.0
SOON_S = 14 * DAY_S
"""A certificate that lasts no longer is told of, where nobody renews it by itself."""
SLOW_S = 1.0
"""A database that takes longer for an answer is told of."""
DISK_WARNING, DISK_ERROR = (0.15, 20e9), (0.05, 5e9)
"""Less than this share of the disk free, and less than so many bytes."""
CLOCK_WARNING_S, CLOCK_ERROR_S = 2.0, 30.0
"""Between an agent's clock and labd's."""
_CLOCK_SPAN_S = 300
_AGENTS_MAX = 200
Source = Callable[[], Iterable[Check]]

_log = structlog.get_logger()


@runtime_checkable
class Checked(Protocol):
    """A part of labd that says how it does."""

    def checks(self) -> Iterable[Check]:
        """At once: what it knows already."""


class Doctor:
    """The use case: collects the checks of all parts."""

    def __init__(
        self,
        core: Core,
        sessions: Sessions,
        authority: Authority | None,
        writer: Writer | None,
        parts: Iterable[object],
    ) -> None:
        """Asks those of the ``parts`` that have something to say. ``writer`` keeps the figures."""
        self._core = core
        self._sessions = sessions
        self._authority = authority
        self._writer = writer
        self._sources: list[tuple[str, Source]] = [
            ("database", self._database),
            ("disk", self._disk),
            ("agents", self._agents),
            ("replicas", self._replicas),
            ("clocks", self._clocks),
            ("certificates", self._certificates),
        ]
        self._sources += [(type(part).__name__, part.checks) for part in [writer, *parts] if isinstance(part, Checked)]

    def add(self, name: str, source: Source) -> None:
        """Asks this one too."""
        self._sources.append((name, source))

    def checks(self) -> list[Check]:
        """All of them; never raises: a source that fails is a finding of its own."""
        found: list[Check] = []
        for name, source in self._sources:
            try:
                found += source()
            except StoreError:
                continue  # the database has a check of its own
            except Exception as error:
                _log.exception("a check failed", check=name)
                found.append(Check(name, CheckState.ERROR, f"cannot be looked at: {error}", "look into labd's log"))
        return found

    def _database(self) -> Iterator[Check]:
        begun = time.monotonic()
        name = self._core.store.database.name
        try:
            with self._core.view() as unit:
                unit.policy()
        except StoreError as error:
            remedy = "look at the database's server, its disk and its rights"
            yield Check("database", CheckState.ERROR, f"{name} does not answer: {error}", remedy)
            return
        took = time.monotonic() - begun
        revision = self._core.store.revision()
        if revision != SCHEMA_HEAD:
            behind = revision is None or revision < SCHEMA_HEAD
            remedy = "stop every labd of the lab, then labd migrate" if behind else "upgrade this labd as the others"
            text = f"{name} has the schema {revision}, this labd was made for {SCHEMA_HEAD}"
            yield Check("schema", CheckState.ERROR, text, remedy)
        text = f"{name}, schema {revision}, answers in {1000 * took:.0f} ms"
        if took > SLOW_S:
            yield Check("database", CheckState.WARNING, text, "look at the load of its server and of its disk")
        else:
            yield Check("database", CheckState.OK, text)

    def _disk(self) -> Iterator[Check]:
        folder = self._core.store.path.parent
        usage = shutil.disk_usage(folder)
        free = usage.free / usage.total
        text = f"{usage.free / 1e9:.1f} GB ({free:.0%}) free at {folder}"
        remedy = "make room: labctl retention says what is kept for how long"
        if free < DISK_ERROR[0] and usage.free < DISK_ERROR[1]:
            yield Check("disk", CheckState.ERROR, text, remedy)
        elif free < DISK_WARNING[0] and usage.free < DISK_WARNING[1]:
            yield Check("disk", CheckState.WARNING, text, remedy)
        else:
            yield Check("disk", CheckState.OK, text)

    def _agents(self) -> Iterator[Check]:
        attached = self._sessions.all()
        now = self._core.clock.now()
        with self._core.view() as unit:
            known = unit.agents()
        for agent in known:
            if agent.revoked_at is not None or agent.enrolled_at is None:
                continue
            name = f"agent {agent.name}"
            if agent.name not in attached and self._core.presence.elsewhere(agent.name) is None:
                remedy = "start bench-agent there, and look at its log and its way to labd"
                yield Check(name, CheckState.WARNING, "is not attached: its benches are offline", remedy)
            if agent.certificate_expires_at is not None and agent.certificate_expires_at <= now:
                remedy = f"labctl agent invite {agent.name}, then bench-agent enrol there"
                yield Check(name, CheckState.ERROR, "its certificate has expired: it cannot attach", remedy)
            elif self._runs_out(agent.certificate_expires_at, now):
                left = ((agent.certificate_expires_at or now) - now) / DAY_S
                text = f"its certificate ends in {left:.1f} days, and should have been renewed by now"
                remedy = (
                    f"look at the agent's log; if it stays so: labctl agent invite {agent.name}, then enrol it anew"
                )
                yield Check(name, CheckState.WARNING, text, remedy)
        yield Check("agents", CheckState.OK, f"{len(attached)} attached")

    def _runs_out(self, expires_at: float | None, now: float) -> bool:
        """Whether a certificate should have been replaced, as it is when a third of its lifetime is left."""
        if expires_at is None or self._authority is None:
            return False
        return expires_at - now < self._authority.lifetime_s / 4

    def _replicas(self) -> Iterator[Check]:
        others = self._core.peers.others
        if not others:
            return
        yield Check("replicas", CheckState.OK, f"this is {self._core.peers.replica}, beside {', '.join(others)}")
        if self._writer is not None and not self._writer.sends:
            text = "each keeps the figures of itself and of the agents that are attached to it, and nobody has them all"
            yield Check("figures", CheckState.WARNING, text, "labd serve --influx-url, at each of them")

    def _clocks(self) -> Iterator[Check]:
        """By what agents have measured in the last minutes."""
        if self._writer is None:
            return
        now = int(self._core.clock.now())
        question = Question("agent", "clock_offset_ms", {}, now - _CLOCK_SPAN_S, now, _CLOCK_SPAN_S, Aggregate.LAST)
        found, _ = ask(self._writer.day.path, question, _AGENTS_MAX, lambda _: True)
        for series in found:
            offset_s = abs(float(series.points[-1][1])) / 1000
            if offset_s < CLOCK_WARNING_S:
                continue
            state = CheckState.ERROR if offset_s >= CLOCK_ERROR_S else CheckState.WARNING
            text = f"its clock and labd's differ by {offset_s:.1f} s"
            yield Check(f"agent {series.tags['agent']}", state, text, "set both clocks by NTP (chrony, timesyncd)")

    def _certificates(self) -> Iterator[Check]:
        if self._authority is None:
            remedy = "serve without --insecure, wherever others can reach this machine"
            yield Check("certificates", CheckState.WARNING, "the lab is insecure: nobody proves who they are", remedy)
            return
        path = self._authority.trust_file
        yield from certificate_checks("certificate authority", path, self._core.clock.now(), "labd rotate-ca")


def certificate_checks(name: str, path: Path, now: float, remedy: str) -> Iterator[Check]:
    """How long the first certificate of a PEM file lasts, which nobody renews by itself."""
    try:
        certificate = x509.load_pem_x509_certificates(path.read_bytes())[0]
    except (OSError, ValueError) as error:
        yield Check(name, CheckState.ERROR, f"{path} cannot be read: {error}", "put the file back")
        return
    left = certificate.not_valid_after_utc.timestamp() - now
    text = f"lasts until {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC ({path})"
    if left <= 0:
        yield Check(name, CheckState.ERROR, f"has expired: {text}", remedy)
    elif left < SOON_S:
        yield Check(name, CheckState.WARNING, text, remedy)
    else:
        yield Check(name, CheckState.OK, text)
