"""The use of benches by teams, in a unit of work."""

from sqlalchemy import delete, insert, select, update

from labd.store import tables
from labd.store.units.part import Part

KEPT_H = 8 * 24
"""Hours for which use is remembered: a week, and what lets one end."""


class Usage(Part):
    """The use of benches by teams, as it is stored."""

    def stored_usage(self) -> dict[tuple[str, int], float]:
        """Bench-seconds by team and hour since the Unix epoch."""
        columns = tables.usage.c
        rows = self._connection.execute(select(columns.team, columns.hour, columns.bench_s))
        return {(row.team, row.hour): row.bench_s for row in rows}

    def store_usage(self, team: str, hour: int, before: float | None, bench_s: float) -> None:
        """Adds to what the team has used in an hour, which was `before`; forgets hours that are long past."""
        columns = tables.usage.c
        if before is not None:
            self._connection.execute(
                update(tables.usage).where(columns.team == team, columns.hour == hour).values(bench_s=before + bench_s)
            )
        else:
            self._connection.execute(insert(tables.usage).values(team=team, hour=hour, bench_s=bench_s))
            self._connection.execute(delete(tables.usage).where(columns.hour < hour - KEPT_H))
