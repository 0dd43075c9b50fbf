"""What is old, and its removal, a bounded number of rows at a time."""

from collections import defaultdict
from collections.abc import Collection
from dataclasses import asdict

from sqlalchemy import Text, cast, delete, exists, func, insert, select, update

from labd.model.lease import LeaseState
from labd.model.retention import Retention, retention_of
from labd.store import tables
from labd.store.octets import octets
from labd.store.units.part import Part

_ONLY = 1


class Retaining(Part):
    """The retention of a unit of work."""

    def retention(self) -> Retention:
        """What is kept; everything until somebody has said otherwise."""
        columns = tables.retention.c
        document = self._connection.scalar(select(columns.document).where(columns.id == _ONLY))
        return Retention() if document is None else retention_of(document)

    def save_retention(self, retention: Retention) -> None:
        """Replaces it."""
        self._connection.execute(delete(tables.retention))
        self._connection.execute(insert(tables.retention).values(id=_ONLY, document=asdict(retention)))

    def teams_with_records(self) -> list[str]:
        """The teams that have runs or leases."""
        found = set(self._connection.scalars(select(tables.runs.c.team).distinct()))
        return sorted(found | set(self._connection.scalars(select(tables.leases.c.team).distinct())))

    def old_runs(self, team: str, ended_before: float, limit: int | None = None) -> list[str]:
        """Runs of the team that were over by then, the first one first."""
        columns = tables.runs.c
        query = select(columns.id).where(columns.team == team, columns.ended_at < ended_before)
        return list(self._connection.scalars(query.order_by(columns.ended_at).limit(limit)))

    def runs_beyond(self, team: str, size: float) -> float | None:
        """When the newest of the team's runs ended that is too much for so many bytes; None: all of them fit.

        Those that are not over count first, then those that ended last; a content that several need counts once.
        """
        runs, inputs, results, files = (
            tables.runs.c,
            tables.run_inputs.c,
            tables.run_results.c,
            tables.run_data_files.c,
        )
        contents: dict[str, dict[str, int]] = defaultdict(dict)
        for row in self._connection.execute(
            select(files.run_id, files.sha256, tables.contents.c.size)
            .join(tables.contents, tables.contents.c.sha256 == files.sha256)
            .join(tables.runs, runs.id == files.run_id)
            .where(runs.team == team)
        ):
            contents[row.run_id][row.sha256] = row.size
        own = (
            octets(inputs.script) + octets(cast(inputs.files, Text)) + octets(results.document) + octets(results.junit)
        )
        counted: set[str] = set()
        for row in self._connection.execute(
            select(runs.id, runs.ended_at, (runs.log_bytes + own).label("size"))
            .outerjoin(tables.run_inputs, inputs.run_id == runs.id)
            .outerjoin(tables.run_results, results.run_id == runs.id)
            .where(runs.team == team)
            .order_by(runs.ended_at.is_not(None), runs.ended_at.desc())
        ):
            of_run = contents.pop(row.id, {})
            size -= row.size + sum(of_run[content] for content in of_run.keys() - counted)
            counted |= of_run.keys()
            if size < 0 and row.ended_at is not None:
                return float(row.ended_at)
        return None

    def remove_runs(self, run_ids: Collection[str]) -> None:
        """With all that belongs to them, but for the contents of their files; their leases stay."""
        for table in (
            tables.run_log,
            tables.run_results,
            tables.run_data_files,
            tables.run_inputs,
            tables.run_environments,
            tables.run_attempts,
            tables.run_pods,
        ):
            self._connection.execute(delete(table).where(table.c.run_id.in_(run_ids)))
        self._connection.execute(delete(tables.runs).where(tables.runs.c.id.in_(run_ids)))

    def old_leases(self, team: str, ended_before: float, limit: int | None = None) -> list[str]:
        """Leases of the team that had ended by then and serve no run that is kept."""
        columns = tables.leases.c
        query = select(columns.id).where(
            columns.team == team,
            columns.state == LeaseState.ENDED,
            columns.ended_at < ended_before,
            ~exists().where(tables.runs.c.lease_id == columns.id),
            ~exists().where(tables.run_attempts.c.lease_id == columns.id),
        )
        return list(self._connection.scalars(query.order_by(columns.seq).limit(limit)))

    def remove_leases(self, lease_ids: Collection[str]) -> None:
        """With what they had."""
        for key in tables.leases.metadata.tables.values():
            for foreign in key.foreign_keys:
                if foreign.column is tables.leases.c.id and key is not tables.runs:
                    self._connection.execute(delete(key).where(foreign.parent.in_(lease_ids)))
        self._connection.execute(delete(tables.leases).where(tables.leases.c.id.in_(lease_ids)))

    def logs(self, team: str) -> list[tuple[str, float, int]]:
        """The runs of the team that are over and still have a log: ID, end, and bytes; the first that ended first."""
        columns = tables.runs.c
        rows = self._connection.execute(
            select(columns.id, columns.ended_at, columns.log_bytes)
            .where(columns.team == team, columns.ended_at.is_not(None), columns.log_bytes > 0)
            .order_by(columns.ended_at)
        )
        return [(row.id, row.ended_at, row.log_bytes) for row in rows]

    def remove_log(self, run_id: str, limit: int) -> bool:
        """Removes up to ``limit`` lines of a log from its beginning; whether that was all of it."""
        columns = tables.run_log.c
        first = self._connection.scalar(select(func.min(columns.seq)).where(columns.run_id == run_id))
        if first is not None:
            self._connection.execute(
                delete(tables.run_log).where(columns.run_id == run_id, columns.seq < first + limit)
            )
        if self._connection.scalar(select(columns.seq).where(columns.run_id == run_id).limit(1)) is not None:
            return False
        self._connection.execute(update(tables.runs).where(tables.runs.c.id == run_id).values(log_bytes=0))
        return True

    def unused_contents(self, limit: int | None = None) -> list[str]:
        """Contents that no run refers to, by SHA-256."""
        columns = tables.contents.c
        used = exists().where(tables.run_data_files.c.sha256 == columns.sha256)
        return list(self._connection.scalars(select(columns.sha256).where(~used).limit(limit)))

    def remove_contents(self, sums: Collection[str]) -> None:
        """Those that no run refers to."""
        self._connection.execute(delete(tables.contents).where(tables.contents.c.sha256.in_(sums)))
