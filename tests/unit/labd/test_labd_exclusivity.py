"""Exclusivity is a constraint of the database: statements that no code of labd's would make are refused as well."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from labd.model.bench import Bench
from labd.store.store import Store

LEASE = "INSERT INTO leases (id, state, wanted, holder, priority, duration_s, ttl_s, created_at, heartbeat_by) VALUES"


@pytest.fixture
def held(tmp_path: Path, database: str | None) -> Iterator[Store]:
    """Lease l-1 has bench-1 and bench-2, under epochs 5 and 1; l-2 waits; l-0 had bench-1 under epoch 4."""
    store = Store(tmp_path, database)
    with store.write() as unit:
        for name in ("bench-1", "bench-2", "bench-3"):
            unit.save_bench(Bench(name, "agent", "a:1", {}, True, "", epoch=5))
    for number, state in enumerate(("ENDED", "ACTIVE", "QUEUED")):
        _run(store, f"{LEASE} (:id, :state, '[]', 'ada', 'normal', 60, 30, 1, 2)", id=f"l-{number}", state=state)
    for lease, part, bench, epoch, live in (
        ("l-0", 0, "bench-1", 4, False),
        ("l-1", 0, "bench-1", 5, True),
        ("l-1", 1, "bench-2", 1, True),
    ):
        _give(store, lease, part, bench, epoch, live)
    yield store
    store.close()


def _run(store: Store, statement: str, **values: Any) -> None:
    with store.write() as unit:
        unit._connection.execute(text(statement), values)


def _give(store: Store, lease: str, part: int, bench: str, epoch: int, live: bool = True) -> None:
    _run(
        store,
        "INSERT INTO lease_benches (lease_id, part, selector, bench, epoch, live) "
        "VALUES (:lease, :part, '', :bench, :epoch, :live)",
        lease=lease, part=part, bench=bench, epoch=epoch, live=live,
    )  # fmt: skip


def _live(store: Store) -> list[tuple[str, str]]:
    with store.read() as unit:
        rows = unit._connection.execute(text("SELECT bench, lease_id FROM lease_benches WHERE live ORDER BY bench"))
        return [(row.bench, row.lease_id) for row in rows]


VIOLATIONS = {
    "a second lease on a bench": (
        "INSERT INTO lease_benches VALUES ('l-2', 0, '', 'bench-1', 6, :yes)",
        {"yes": True},
    ),
    "a second part of the same lease on it": (
        "INSERT INTO lease_benches VALUES ('l-1', 2, '', 'bench-1', 6, :yes)",
        {"yes": True},
    ),
    "a lease that is moved to a bench in use": (
        "UPDATE lease_benches SET bench = 'bench-1', epoch = 6 WHERE lease_id = 'l-1' AND part = 1",
        {},
    ),
    "a lease that comes back to life": ("UPDATE lease_benches SET live = :yes WHERE lease_id = 'l-0'", {"yes": True}),
    "an epoch that is used again": (
        "INSERT INTO lease_benches VALUES ('l-2', 0, '', 'bench-1', 4, :no)",
        {"no": False},
    ),
    "an epoch that goes back": ("UPDATE lease_benches SET epoch = 4 WHERE lease_id = 'l-1' AND part = 0", {}),
    "a bench that does not exist": (
        "INSERT INTO lease_benches VALUES ('l-2', 0, '', 'bench-9', 1, :yes)",
        {"yes": True},
    ),
    "a lease that does not exist": (
        "INSERT INTO lease_benches VALUES ('l-9', 0, '', 'bench-3', 6, :yes)",
        {"yes": True},
    ),
    "a bench that is deleted under its lease": ("DELETE FROM benches WHERE name = 'bench-1'", {}),
    "a lease that is deleted with its bench": ("DELETE FROM leases WHERE id = 'l-1'", {}),
    "two leases of one name": (
        f"{LEASE} ('l-1', 'QUEUED', '[]', 'eve', 'normal', 60, 30, 1, 2)",
        {},
    ),
}


@pytest.mark.parametrize("violation", VIOLATIONS)
def test_no_statement_gives_a_bench_to_two(held: Store, violation: str) -> None:
    statement, values = VIOLATIONS[violation]
    before = _live(held)
    with pytest.raises(IntegrityError):
        _run(held, statement, **values)
    assert _live(held) == before == [("bench-1", "l-1"), ("bench-2", "l-1")]


def test_once_the_former_lease_is_over_the_next_may_have_it(held: Store) -> None:
    _run(held, "UPDATE lease_benches SET live = :no WHERE lease_id = 'l-1' AND part = 0", no=False)
    _give(held, "l-2", 0, "bench-1", 6)
    assert _live(held) == [("bench-1", "l-2"), ("bench-2", "l-1")]


def test_all_or_nothing(held: Store) -> None:
    """The second bench is taken: the first is not given either."""
    with pytest.raises(IntegrityError), held.write() as unit:
        for part, bench in enumerate(("bench-3", "bench-2")):
            unit._connection.execute(
                text("INSERT INTO lease_benches VALUES ('l-2', :part, '', :bench, 9, :yes)"),
                {"part": part, "bench": bench, "yes": True},
            )
    assert _live(held) == [("bench-1", "l-1"), ("bench-2", "l-1")]
