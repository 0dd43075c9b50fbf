"""A unit of work: everything that one transaction may ask of the database, in the model's words."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, func, insert, select, update

from labd.model.bench import Bench
from labd.model.lease import Lease, LeaseState
from labd.model.run import LogLine, Run, RunInput, RunState
from labd.store import tables
from labd.store.rows import (
    bench_of,
    bench_values,
    lease_of,
    lease_values,
    line_of,
    run_of,
    run_values,
)

_LIVE_LEASES = (LeaseState.QUEUED, LeaseState.GRANTED)


@dataclass(frozen=True, slots=True)
class StoredResult:
    """What a runner reported at the end, as it was sent."""

    document: str
    """JSON text."""
    junit: str
    """XML text."""


class Unit:
    """One open transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    # Benches

    def benches(self) -> list[Bench]:
        """Every bench ever seen, removed ones too, by name."""
        rows = self._connection.execute(select(tables.benches).order_by(tables.benches.c.name))
        return [bench_of(row) for row in rows.mappings()]

    def bench(self, name: str) -> Bench | None:
        """One bench."""
        row = self._connection.execute(select(tables.benches).where(tables.benches.c.name == name)).mappings().first()
        return None if row is None else bench_of(row)

    def save_bench(self, bench: Bench) -> None:
        """Adds the bench or replaces what was known of it."""
        values = bench_values(bench)
        done = self._connection.execute(
            update(tables.benches).where(tables.benches.c.name == bench.name).values(values)
        )
        if done.rowcount == 0:
            self._connection.execute(insert(tables.benches).values(values))

    # Leases

    def add_lease(self, lease: Lease) -> int:
        """Stores a new lease; returns its place in the order of arrival."""
        statement = insert(tables.leases).values(lease_values(lease)).returning(tables.leases.c.seq)
        return int(self._connection.execute(statement).scalar_one())

    def save_lease(self, lease: Lease) -> None:
        """Stores the new state of a known lease."""
        self._connection.execute(
            update(tables.leases).where(tables.leases.c.seq == lease.seq).values(lease_values(lease))
        )

    def lease(self, lease_id: str) -> Lease | None:
        """One lease."""
        row = self._connection.execute(select(tables.leases).where(tables.leases.c.id == lease_id)).mappings().first()
        return None if row is None else lease_of(row)

    def live_leases(self) -> list[Lease]:
        """QUEUED and GRANTED leases in order of arrival."""
        return self._leases(select(tables.leases).where(tables.leases.c.state.in_(_LIVE_LEASES)))

    def leases_due(self, now: float) -> list[Lease]:
        """Live leases of which a deadline has passed, in order of arrival."""
        columns = tables.leases.c
        return self._leases(
            select(tables.leases).where(
                columns.state.in_(_LIVE_LEASES), (columns.heartbeat_by <= now) | (columns.expires_at <= now)
            )
        )

    def next_lease_deadline(self) -> float | None:
        """When the next live lease has to be looked at."""
        columns = tables.leases.c
        # A run's waiting lease needs no heartbeat (Lease.overdue).
        beating = select(func.min(columns.heartbeat_by)).where(
            columns.state.in_(_LIVE_LEASES), (columns.state == LeaseState.GRANTED) | columns.run_id.is_(None)
        )
        ending = select(func.min(columns.expires_at)).where(columns.state == LeaseState.GRANTED)
        found = [value for query in (beating, ending) if (value := self._connection.scalar(query)) is not None]
        return min(found, default=None)

    def queue(self) -> list[Lease]:
        """QUEUED leases in the order in which they are served."""
        columns = tables.leases.c
        rows = self._connection.execute(
            select(tables.leases)
            .where(columns.state == LeaseState.QUEUED)
            .order_by(columns.priority.desc(), columns.seq.asc())
        )
        return [lease_of(row) for row in rows.mappings()]

    def granted(self) -> dict[str, Lease]:
        """The GRANTED leases by bench."""
        leases = self._leases(select(tables.leases).where(tables.leases.c.state == LeaseState.GRANTED))
        return {lease.bench: lease for lease in leases if lease.bench is not None}

    def granted_on(self, bench: str) -> Lease | None:
        """The GRANTED lease of a bench."""
        columns = tables.leases.c
        rows = self._leases(select(tables.leases).where(columns.state == LeaseState.GRANTED, columns.bench == bench))
        return rows[0] if rows else None

    def last_expiry(self, bench: str) -> float | None:
        """When the last token that was ever issued for the bench expires."""
        columns = tables.leases.c
        value = self._connection.scalar(select(func.max(columns.expires_at)).where(columns.bench == bench))
        return None if value is None else float(value)

    def newest_leases(self, state: LeaseState | None, limit: int) -> list[Lease]:
        """The last ``limit`` leases, newest first."""
        query = select(tables.leases).order_by(tables.leases.c.seq.desc()).limit(limit)
        if state is not None:
            query = query.where(tables.leases.c.state == state)
        return [lease_of(row) for row in self._connection.execute(query).mappings()]

    def position(self, lease: Lease) -> int | None:
        """1 for the next in the queue; None unless QUEUED."""
        if lease.state is not LeaseState.QUEUED:
            return None
        columns = tables.leases.c
        ahead = self._connection.scalar(
            select(func.count())
            .select_from(tables.leases)
            .where(
                columns.state == LeaseState.QUEUED,
                (columns.priority > lease.priority)
                | ((columns.priority == lease.priority) & (columns.seq < lease.seq)),
            )
        )
        return 1 + (ahead or 0)

    def _leases(self, query: Select[Any]) -> list[Lease]:
        rows = self._connection.execute(query.order_by(tables.leases.c.seq))
        return [lease_of(row) for row in rows.mappings()]

    # Runs

    def add_run(self, run: Run, inputs: RunInput) -> int:
        """Stores a new run with what it executes; returns its place in the order of arrival."""
        statement = insert(tables.runs).values(run_values(run)).returning(tables.runs.c.seq)
        seq = int(self._connection.execute(statement).scalar_one())
        self._connection.execute(
            insert(tables.run_inputs).values(run_id=run.id, script=inputs.script, files=inputs.files)
        )
        return seq

    def save_run(self, run: Run) -> None:
        """Stores the new state of a known run."""
        self._connection.execute(update(tables.runs).where(tables.runs.c.seq == run.seq).values(run_values(run)))

    def run(self, run_id: str) -> Run | None:
        """One run."""
        row = self._connection.execute(select(tables.runs).where(tables.runs.c.id == run_id)).mappings().first()
        return None if row is None else run_of(row)

    def runs_in(self, state: RunState) -> list[Run]:
        """All runs of a state, in order of arrival."""
        rows = self._connection.execute(
            select(tables.runs).where(tables.runs.c.state == state).order_by(tables.runs.c.seq)
        )
        return [run_of(row) for row in rows.mappings()]

    def runs_due(self, now: float) -> list[Run]:
        """RUNNING runs whose timeout has passed, in order of arrival."""
        columns = tables.runs.c
        rows = self._connection.execute(
            select(tables.runs)
            .where(columns.state == RunState.RUNNING, columns.started_at + columns.timeout_s <= now)
            .order_by(columns.seq)
        )
        return [run_of(row) for row in rows.mappings()]

    def next_run_deadline(self) -> float | None:
        """When the timeout of the next RUNNING run passes."""
        columns = tables.runs.c
        value = self._connection.scalar(
            select(func.min(columns.started_at + columns.timeout_s)).where(columns.state == RunState.RUNNING)
        )
        return None if value is None else float(value)

    def newest_runs(self, state: RunState | None, limit: int) -> list[Run]:
        """The last ``limit`` runs, newest first."""
        query = select(tables.runs).order_by(tables.runs.c.seq.desc()).limit(limit)
        if state is not None:
            query = query.where(tables.runs.c.state == state)
        return [run_of(row) for row in self._connection.execute(query).mappings()]

    def inputs(self, run_id: str) -> RunInput | None:
        """What a run executes."""
        columns = tables.run_inputs.c
        row = self._connection.execute(select(columns.script, columns.files).where(columns.run_id == run_id)).first()
        return None if row is None else RunInput(row.script, row.files)

    def add_data_file(self, run_id: str, path: str, sha256: str, content: bytes) -> None:
        """Stores a data file of a run; content that is there already is not stored again."""
        known = select(tables.contents.c.sha256).where(tables.contents.c.sha256 == sha256)
        if self._connection.scalar(known) is None:
            self._connection.execute(insert(tables.contents).values(sha256=sha256, size=len(content), content=content))
        self._connection.execute(insert(tables.run_data_files).values(run_id=run_id, path=path, sha256=sha256))

    def data_files(self, run_id: str) -> dict[str, int]:
        """The data files of a run, by path: their sizes in bytes."""
        files = tables.run_data_files.c
        rows = self._connection.execute(
            select(files.path, tables.contents.c.size)
            .join(tables.contents, tables.contents.c.sha256 == files.sha256)
            .where(files.run_id == run_id)
            .order_by(files.path)
        )
        return {row.path: row.size for row in rows}

    def data_file(self, run_id: str, path: str) -> bytes | None:
        """What is in a data file of a run."""
        files = tables.run_data_files.c
        content: bytes | None = self._connection.scalar(
            select(tables.contents.c.content)
            .join(tables.run_data_files, tables.contents.c.sha256 == files.sha256)
            .where(files.run_id == run_id, files.path == path)
        )
        return content

    # Logs and results

    def add_lines(self, run_id: str, lines: Sequence[LogLine]) -> None:
        """Stores lines that follow the last stored one."""
        if lines:
            self._connection.execute(
                insert(tables.run_log),
                [
                    {"run_id": run_id, "seq": line.seq, "time": line.time, "level": line.level, "text": line.text}
                    for line in lines
                ],
            )

    def lines(self, run_id: str, after: int, limit: int) -> list[LogLine]:
        """Up to ``limit`` lines after sequence number ``after``."""
        columns = tables.run_log.c
        rows = self._connection.execute(
            select(columns.seq, columns.time, columns.level, columns.text)
            .where(columns.run_id == run_id, columns.seq > after)
            .order_by(columns.seq)
            .limit(limit)
        )
        return [line_of(row) for row in rows.mappings()]

    def add_result(self, run_id: str, result: StoredResult) -> None:
        """Stores what the runner reported."""
        self._connection.execute(
            insert(tables.run_results).values(run_id=run_id, document=result.document, junit=result.junit)
        )

    def result(self, run_id: str) -> StoredResult | None:
        """What the runner reported."""
        columns = tables.run_results.c
        row = self._connection.execute(select(columns.document, columns.junit).where(columns.run_id == run_id)).first()
        return None if row is None else StoredResult(row.document, row.junit)
