"""Several labds on one PostgreSQL database: each serves people and agents, one leads.

Whoever writes decides, in transactions that are serial over all labds, and tells the others what that causes. The
leader sees to what happens by itself when its time has come. One thread here beats, listens, and asks for the lead.
"""

import secrets
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import structlog

from labd.model.run import Run
from labd.services import bulletins
from labd.services.core import STALL_S, Core
from labd.services.ledger import Effects
from labd.services.peers import KeyDiffers, LeadLost
from labd.store.errors import StoreError
from labd.store.line import LabTime, Line, open_line
from labd.store.postgresql import PostgreSQL
from labd.store.unit import Unit
from labd.store.units.replicas import Attachment

BEAT_S = 0.5
"""How often each labd says that it lives."""
GONE_S = 2.5
"""A labd that has not beaten for this long, by the clock of whoever waits, is gone."""
BEHIND_S = 1.0
"""A labd whose clock is this much behind the others' goes by theirs: its machine was halted, or its crystal is slow."""
RETRY_S = 0.5
"""After the line was lost."""
SHOW_S = 5.0
"""How often each labd tells the others what its agents have measured."""

NAME_FILE = "replica"
"""In the data directory."""

_log = structlog.get_logger()


class Replicas:
    """See `Peers`."""

    def __init__(self, database: PostgreSQL, replica: str, url: str, key_id: str) -> None:
        """``replica`` stays the same over restarts: it is of the data directory, beside which runs live.

        ``url`` is where runners, also those of the others, reach its REST API; several with commas.
        """
        self.replica = replica
        self.leads = False
        self.urls: tuple[str, ...] = ()
        self.others: tuple[str, ...] = ()
        self._database = database
        self._url = url
        self._key_id = key_id
        self._term = 0
        self._core: Core
        self._catch_up: Callable[[], None]
        self._moved: Callable[[frozenset[str]], None]
        self._seen_here: Callable[[], list[Attachment]]
        self._cut_off: Callable[[str], None]
        self._show_at = 0.0
        self._seen: dict[str, tuple[int, float]] = {}
        """Of every labd, how often it had beaten, and when that last changed (monotonic, s)."""
        self._stale = True
        """Agents may be attached elsewhere than is known."""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="replica", daemon=True)

    def connect(
        self,
        core: Core,
        *,
        catch_up: Callable[[], None],
        moved: Callable[[frozenset[str]], None],
        seen: Callable[[], list[Attachment]],
        cut_off: Callable[[str], None],
    ) -> None:
        """Has ``catch_up()`` called when messages may have been missed.

        And ``moved(agents)`` with those that are attached elsewhere, and ``cut_off(reason)`` when the others reach the
        database for all that is known, but this labd does not; ``seen()`` is what is known of the agents here.
        """
        self._core, self._catch_up, self._moved, self._seen_here = core, catch_up, moved, seen
        self._cut_off = cut_off
        core.follow(self._note)

    def start(self) -> None:
        """Joins the others. Raises StoreError, and KeyDiffers."""
        with open_line(self._database, self.replica) as line:
            self._join(line)
            last = line.lab_time()
            self._set_clock(last)
            self._beat(line)
            self._look_around()
        self._thread.start()

    def _set_clock(self, last: LabTime) -> None:
        """The lab has one time: that of the labds that are there, or else no earlier than a live lease has seen it."""
        if last.alive_at is None:
            return
        clock = self._core.clock
        if last.ago_s < STALL_S:
            clock.agree(last.alive_at + last.ago_s)
        elif last.alive_at > clock.now():
            with self._core.view() as unit:
                if unit.live_leases():
                    clock.agree(last.alive_at)

    def stop(self) -> None:
        """Leaves the others; one of them takes the lead at once."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout=10.0)

    # Within the transactions of the use cases

    def announce(self, unit: Unit, effects: Effects) -> None:
        """See `Peers.announce`."""
        unit.notify(bulletins.encode(self.replica, effects))

    def confirm_lead(self, unit: Unit) -> None:
        """See `Peers.confirm_lead`."""
        if not unit.leads(self.replica, self._term):
            self._lose_lead("another labd leads")
            raise LeadLost(f"labd {self.replica} does not lead any more")

    def take_stall(self, unit: Unit, now: float) -> bool:
        """See `Peers.take_stall`."""
        return unit.take_stall(now, STALL_S)

    def attach(self, unit: Unit, agent: str, session: str, last_seen: float) -> None:
        """See `Peers.attach`."""
        unit.attach_agent(Attachment(agent, self.replica, session, last_seen))

    def detach(self, unit: Unit, agent: str, session: str) -> None:
        """See `Peers.detach`."""
        unit.detach_agent(agent, session)

    def has(self, unit: Unit, agent: str, session: str) -> bool:
        """See `Peers.has`."""
        return unit.is_attached(agent, session)

    def sees_to(self, run: Run) -> bool:
        """See `Peers.sees_to`."""
        return run.replica == self.replica

    # The thread

    def _loop(self) -> None:
        while not self._stopping.is_set():
            try:
                with open_line(self._database, self.replica) as line:
                    self._join(line)
                    self._catch_up()
                    self._serve(line)
                    line.leave()
            except StoreError as error:
                _log.warning("the line to the other labds is lost: tried again", error=str(error))
                # A server that was stopped is so for all: agents stay. Behind a cut network they would be lost to all.
                if self._seen.keys() - {self.replica} and not self._database.answers():
                    self._cut_off("this labd is cut off from the lab's database")
            except Exception:
                _log.exception("the line to the other labds is lost: tried again")
            self._lose_lead("the line is closed")
            self._stopping.wait(RETRY_S)

    def _serve(self, line: Line) -> None:
        due = 0.0
        while not self._stopping.is_set():
            now = time.monotonic()
            if now >= due:
                self._beat(line)
                due = now + BEAT_S
            if not self.leads:
                self._ask_for_lead(line)
            if self._stale:
                self._look_around()
            for message in line.messages(due - time.monotonic()):
                self._hear(message)

    def _join(self, line: Line) -> None:
        key = line.join(self._url, self._key_id)
        if key != self._key_id:
            raise KeyDiffers(
                f"the lab on {self._database.name} signs with key {key}, this labd with {self._key_id}: agents would "
                "refuse its leases; give every labd the same --keys directory"
            )
        self._stale = True

    def _beat(self, line: Line) -> None:
        mine = self._core.clock.now()
        latest, counts = line.beat(mine, STALL_S)
        if latest - mine > BEHIND_S:
            _log.warning("the time of the other labds is taken over", ahead_s=round(latest - mine, 1))
            self._core.clock.agree(latest)
        self._core.pulse()
        now = time.monotonic()
        before = self.gone
        known, self._seen = self._seen, {}
        for replica, beats in counts.items():
            former = known.get(replica)
            self._seen[replica] = former if former is not None and former[0] == beats else (beats, now)
        if self.gone != before or known.keys() != self._seen.keys():
            self._stale = True
        if now >= self._show_at and len(self._seen) > 1:
            self._show_at = now + SHOW_S
            self._stale = True
            here = self._seen_here()
            if here:
                with self._core.transaction() as ledger:
                    ledger.unit.save_seen(here)
        if self.leads:
            self._clear_up()

    @property
    def gone(self) -> set[str]:
        """The labds that do not beat any more."""
        now = time.monotonic()
        return {replica for replica, (_, since) in self._seen.items() if now - since > GONE_S}

    def _ask_for_lead(self, line: Line) -> None:
        term = line.lead(self.gone)
        if term is not None:
            self._term, self.leads = term, True
            _log.info("this labd leads", replica=self.replica, term=term)
            self._core.hear(Effects(unscheduled=True))
            self._catch_up()  # runs in clusters are for this labd to see to now

    def _lose_lead(self, why: str) -> None:
        if self.leads:
            self.leads = False
            _log.info("this labd does not lead any more", replica=self.replica, why=why)

    def _hear(self, message: str) -> None:
        sender, effects = bulletins.decode(message)
        if sender != self.replica:
            self._core.hear(effects)

    def _note(self, effects: Effects) -> None:
        if effects.attachments:
            self._stale = True

    def _look_around(self) -> None:
        """Learns which agents are attached elsewhere, and has those served who wait for their benches."""
        self._stale = False
        alive = self._seen.keys() - self.gone - {self.replica}
        with self._core.view() as unit:
            elsewhere = {one.agent: one for one in unit.attachments() if one.replica in alive}
            urls = unit.replica_urls()
            benches = {agent: set[str]() for agent in elsewhere}
            for bench in unit.benches():
                if bench.agent in elsewhere and not bench.removed:
                    benches[bench.agent].add(bench.name)
        self.others = tuple(sorted(alive))
        self.urls = tuple(one for replica in sorted(alive) for one in urls.get(replica, "").split(",") if one)
        self._moved(frozenset(elsewhere))
        new = self._core.presence.put_elsewhere(
            {agent: frozenset(names) for agent, names in benches.items()}, elsewhere
        )
        if new:
            self._core.hear(Effects(unscheduled=True))

    def _clear_up(self) -> None:
        """What a labd that is gone leaves to the leader. Its runs go on: their runners report to the others now."""
        gone = self.gone - {self.replica}
        if gone:
            with self._core.transaction() as ledger:
                ledger.unit.forget_replicas(sorted(gone))
                ledger.effects.attachments = True
            _log.warning("labds are gone", replicas=sorted(gone))


def replica_name(data: Path) -> str:
    """The name of the labd with this data directory, made up when it has none yet."""
    path = data / NAME_FILE
    if not path.exists():
        part = path.with_suffix(".part")
        part.write_text(f"{socket.gethostname()[:40]}-{secrets.token_hex(4)}", "utf-8")
        part.replace(path)
    return path.read_text("utf-8").strip()
