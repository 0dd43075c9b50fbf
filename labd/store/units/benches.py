"""The benches of a unit of work."""

from sqlalchemy import insert, select, update

from labd.model.bench import Bench
from labd.store import tables
from labd.store.rows import bench_of, bench_values
from labd.store.units.part import Part


class Benches(Part):
    """The benches of a unit of work."""

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
