"""The use of benches by teams, in a unit of work."""

from sqlalchemy import select

from labd.store import tables
from labd.store.units.part import Part


class Usage(Part):
    """The use of benches by teams, as it is stored."""

    def stored_usage(self) -> dict[tuple[str, int], float]:
        """Bench-seconds by team and hour since the Unix epoch."""
        columns = tables.usage.c
        rows = self._connection.execute(select(columns.team, columns.hour, columns.bench_s))
        return {(row.team, row.hour): row.bench_s for row in rows}
