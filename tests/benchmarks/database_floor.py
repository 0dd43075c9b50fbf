"""What the database alone can do: ``python -m tests.benchmarks.database_floor FOLDER URL CLIENTS SECONDS``.

The URL ``-`` stands for labd's SQLite file in the folder.

Each step of a lease's life (asked for, granted, first call, given back) is one transaction with one compare-and-set
update and one insert. Prints the number of whole lives a second.
"""

import sys
import threading
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from sqlalchemy import Column, Integer, MetaData, String, Table, insert, select, update

from labd.store.schema import WRITE
from labd.store.store import Store

STEPS = 4
_metadata = MetaData()
_things = Table("floor_things", _metadata, Column("id", Integer, primary_key=True), Column("version", Integer))
_steps = Table(
    "floor_steps",
    _metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("thing", Integer),
    Column("what", String(64)),
)


def lives_per_s(folder: Path, url: str | None, clients: int, seconds: float) -> float:
    """With so many clients at once, on connections that are set up as labd's are."""
    engine = Store(folder, url).database.engine
    _metadata.drop_all(engine)
    _metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(_things), [{"id": number, "version": 0} for number in range(clients)])
    done, until = [0] * clients, time.monotonic() + seconds
    sqlite = engine.dialect.name == "sqlite"
    # Waiters of SQLite's own lock poll. On PostgreSQL the clients are in nobody's way.
    turn: AbstractContextManager[object] = threading.Lock() if sqlite else nullcontext()

    def work(number: int) -> None:
        version = 0
        while time.monotonic() < until:
            for _ in range(STEPS):
                with (
                    turn,
                    engine.connect().execution_options(**{WRITE: sqlite}) as connection,
                    connection.begin(),
                ):
                    changed = connection.execute(
                        update(_things)
                        .where(_things.c.id == number, _things.c.version == version)
                        .values(version=version + 1)
                    )
                    if changed.rowcount != 1:
                        raise RuntimeError("the compare-and-set failed")
                    connection.execute(insert(_steps).values(thing=number, what="step"))
                version += 1
            done[number] += 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(clients)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with engine.connect() as connection:
        if len(connection.execute(select(_steps.c.id)).all()) != STEPS * sum(done):
            raise RuntimeError("steps were lost")
    return sum(done) / (time.monotonic() - began)


if __name__ == "__main__":
    folder, url, clients, seconds = sys.argv[1:]
    print(lives_per_s(Path(folder), None if url == "-" else url, int(clients), float(seconds)))
