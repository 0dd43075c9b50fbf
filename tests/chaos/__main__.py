"""`make chaos`: hurts a lab for minutes, and writes what came of it into docs/reference/reliability.md.

``python -m tests.chaos NAME...`` runs only the named storms; the page keeps the rows of the others. ``--blows N`` deals
so many instead of as many as a storm has.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.chaos.blows import fail_over, fill_disk, fill_wal_disk, pause_process, restart_server, step_clock
from tests.chaos.report import PAGE, publish
from tests.chaos.storm import Outcome, Storm, storm, weather
from tests.disks import small_disk
from tests.island import Island
from tests.postgresql import PostgresServer

AGENTS, HOLDERS, RATE = 30, 60, 200.0
Prepared = tuple[Storm, Callable[[], None], int, tuple[float, float]]
"""A lab, what happens to it, how often, and after which pauses (s)."""


@contextmanager
def killed(folder: Path) -> Iterator[Prepared]:
    """labd on SQLite, kill -9."""
    with storm(folder, AGENTS) as one:
        yield one, one.kill, 200, (0.1, 4.0)


@contextmanager
def killed_on_postgresql(folder: Path) -> Iterator[Prepared]:
    """labd on PostgreSQL, kill -9."""
    with (
        PostgresServer(durable=True) as server,
        storm(folder, AGENTS, options=["--database", server.new_database()]) as one,
    ):
        yield one, one.kill, 200, (0.1, 4.0)


@contextmanager
def agents_paused(folder: Path) -> Iterator[Prepared]:
    """A third of the agents is stopped (SIGSTOP) for 12 s."""
    with storm(folder, AGENTS, fleets=3) as one:
        yield one, pause_process(one, ("fleet-1", "fleet-2", "fleet-3"), 12.0), 12, (1.0, 5.0)


@contextmanager
def agents_cut_off(folder: Path) -> Iterator[Prepared]:
    """The network of a third of the agents is down for 12 s."""
    with ExitStack() as stack:
        island = stack.enter_context(Island())
        one = stack.enter_context(storm(folder, 20, fleets=2, agents_host=island.here))
        one.add_fleet("island", range(21, 31), listen=island.there, prefix=island.prefix)
        one.wait_for_benches(30)
        yield one, island.cut_off(12.0), 12, (1.0, 5.0)


@contextmanager
def postgresql_restarted(folder: Path) -> Iterator[Prepared]:
    """PostgreSQL is stopped as by a crash, and started again after 3 s."""
    with (
        PostgresServer(durable=True) as server,
        storm(folder, AGENTS, options=["--database", server.new_database()]) as one,
    ):
        yield one, restart_server(server, 3.0), 12, (2.0, 6.0)


@contextmanager
def postgresql_away(folder: Path) -> Iterator[Prepared]:
    """PostgreSQL is stopped as by a crash, and started again after 25 s."""
    with (
        PostgresServer(durable=True) as server,
        storm(folder, AGENTS, options=["--database", server.new_database()]) as one,
    ):
        yield one, restart_server(server, 25.0), 4, (4.0, 8.0)


@contextmanager
def postgresql_failed_over(folder: Path) -> Iterator[Prepared]:
    """PostgreSQL's machine dies, its standby takes over, and another becomes the standby."""
    with PostgresServer(durable=True) as primary, PostgresServer(standby_of=primary) as standby:
        primary.wait_for_standby(waits=True)
        database = primary.url_with(standby, primary.new_database())
        with storm(folder, AGENTS, options=["--database", database]) as one:
            yield one, fail_over(primary, standby), 12, (2.0, 6.0)


@contextmanager
def wal_disk_full(folder: Path) -> Iterator[Prepared]:
    """The disk of PostgreSQL's log of transactions is full for 8 s."""
    with (
        PostgresServer(durable=True, wal_megabytes=64) as server,
        storm(folder, AGENTS, options=["--database", server.new_database()]) as one,
    ):
        yield one, fill_wal_disk(server, 8.0), 8, (2.0, 6.0)


@contextmanager
def disk_full(folder: Path) -> Iterator[Prepared]:
    """The disk of the database is full for 5 s."""
    with small_disk(folder / "disk") as disk, storm(folder, AGENTS, data=disk / "labd") as one:
        yield one, fill_disk(disk, 5.0), 12, (2.0, 6.0)


@contextmanager
def clock_stepped(folder: Path) -> Iterator[Prepared]:
    """labd is killed, and finds the wall clock an hour ahead, an hour behind, or right."""
    with storm(folder, AGENTS) as one:
        yield one, step_clock(one), 24, (1.0, 5.0)


STORMS = (
    killed, killed_on_postgresql, agents_paused, agents_cut_off, postgresql_restarted, postgresql_away,
    postgresql_failed_over, wal_disk_full, disk_full, clock_stepped,
)  # fmt: skip


def main() -> int:
    """Exit code: 0 no promise was broken, 1 one was, 2 unknown storm."""
    known = {prepare.__name__.replace("_", "-"): prepare for prepare in STORMS}
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*")
    parser.add_argument("--blows", type=int)
    arguments = parser.parse_args()
    chosen = arguments.names or list(known)
    if unknown := sorted(set(chosen) - set(known)):
        print(f"no storm is named {', '.join(unknown)}; there are {', '.join(known)}")
        return 2
    outcomes: dict[str, Outcome] = {}
    for name in chosen:
        print(f"{name} ...", flush=True)
        with (
            tempfile.TemporaryDirectory(prefix="labd-chaos-") as folder,
            known[name](Path(folder)) as (one, blow, blows, calm_s),
        ):
            often = arguments.blows or blows
            outcome = weather(one, blow, blows=often, holders=HOLDERS, rate=RATE, calm_s=calm_s)
        outcomes[name] = outcome
        print(
            f"  {outcome.requests} requests, {outcome.offered_rate:.0f}/s sent and {outcome.answered_rate:.0f}/s "
            f"answered while labd served, {outcome.leases} leases, {len(outcome.violations)} promises broken"
        )
        for violation in outcome.violations[:20]:
            print(f"  {violation.promise}: {violation.detail}")
        publish(PAGE, outcomes, {key: str(prepare.__doc__) for key, prepare in known.items()})
    return 1 if any(outcome.violations for outcome in outcomes.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
