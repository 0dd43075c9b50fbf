"""The benches of a unit of work."""

from sqlalchemy import select

from labd.model.bench import Bench
from labd.store import tables
from labd.store.rows import bench_of
from labd.store.units.part import Part


class Benches(Part):
    """The benches as they are stored."""

    def stored_benches(self) -> list[Bench]:
        """Every bench ever seen, removed ones too, by name."""
        rows = self._connection.execute(select(tables.benches).order_by(tables.benches.c.name))
        return sorted((bench_of(row) for row in rows.mappings()), key=lambda bench: bench.name)
