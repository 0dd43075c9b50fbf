"""The benches of a unit of work."""

from sqlalchemy import bindparam, insert, select, update

from labd.model.bench import Bench
from labd.store import tables
from labd.store.rows import bench_of, bench_values
from labd.store.units.part import Part

_CHANGE = update(tables.benches).where(tables.benches.c.name == bindparam("of_name"))


class Benches(Part):
    """The benches as they are stored."""

    def stored_benches(self) -> list[Bench]:
        """Every bench ever seen, removed ones too, by name."""
        rows = self._connection.execute(select(tables.benches).order_by(tables.benches.c.name))
        return sorted((bench_of(row) for row in rows.mappings()), key=lambda bench: bench.name)

    def store_bench(self, bench: Bench, before: Bench | None) -> None:
        """Adds the bench, or stores what has changed of it."""
        values = bench_values(bench)
        if before is None:
            self._connection.execute(insert(tables.benches), values)
            return
        known = bench_values(before)
        changed = {name: value for name, value in values.items() if value != known[name]}
        if changed:
            self._connection.execute(_CHANGE, {**changed, "of_name": bench.name})
