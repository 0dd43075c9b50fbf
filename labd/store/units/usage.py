"""The use of benches by teams, in a unit of work."""

from sqlalchemy import delete, insert, select, update

from labd.store import tables
from labd.store.units.part import Part


class Usage(Part):
    """The use of benches by teams."""

    def usage(self) -> list[tuple[str, int, float]]:
        """Team, hour since the Unix epoch, bench-seconds."""
        columns = tables.usage.c
        rows = self._connection.execute(
            select(columns.team, columns.hour, columns.bench_s).order_by(columns.team, columns.hour)
        )
        return [(row.team, row.hour, row.bench_s) for row in rows]

    def add_usage(self, team: str, hour: int, bench_s: float) -> None:
        """Adds to what the team has used in an hour."""
        columns = tables.usage.c
        done = self._connection.execute(
            update(tables.usage)
            .where(columns.team == team, columns.hour == hour)
            .values(bench_s=columns.bench_s + bench_s)
        )
        if done.rowcount == 0:
            self._connection.execute(insert(tables.usage).values(team=team, hour=hour, bench_s=bench_s))
            self._connection.execute(delete(tables.usage).where(columns.hour < hour - _KEPT_H))


_KEPT_H = 8 * 24
"""Hours for which use is remembered: a week, and what lets one end."""
