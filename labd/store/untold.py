"""What the tables do not say yet: changes of the lab's standing and of the audit log, told to the database in one go.

Many small changes then cost a few statements, each with many rows. A change knows what the tables say, so that what
changed twice is told once.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from sqlalchemy import bindparam, delete, insert, select, text, update
from sqlalchemy.engine import Connection
from sqlalchemy.sql.dml import Update

from labd.model.audit import Deed, Entry, Head, canonical, link
from labd.model.bench import Bench
from labd.model.lease import Lease
from labd.store import tables
from labd.store.errors import DatabaseCorrupt
from labd.store.rows import Values, bench_values, lease_bench_values, lease_values

CHANNEL = "labd"
"""On which labds tell each other what their transactions have caused."""
USAGE_KEPT_H = 8 * 24
"""Hours for which use is remembered: a week, and what lets one end."""

_Noun = TypeVar("_Noun")
_UsageKey = tuple[str, int]

# Built once: to build a statement costs more than to execute it.
_ADD_BENCH = insert(tables.benches)
_ADD_LEASE = insert(tables.leases)
_ADD_LEASE_BENCH = insert(tables.lease_benches)
_ADD_USAGE = insert(tables.usage)
_ADD_AUDIT = insert(tables.audit)
_MOVE_AUDIT_HEAD = update(tables.audit_head).values(seq=bindparam("last_seq"), hash=bindparam("last_hash"))
_columns = tables.lease_benches.c
_CHANGE_BENCH = update(tables.benches).where(tables.benches.c.name == bindparam("of_name"))
_CHANGE_LEASE = update(tables.leases).where(tables.leases.c.id == bindparam("of_id"))
_CHANGE_LEASE_BENCH = update(tables.lease_benches).where(
    _columns.lease_id == bindparam("of_lease"), _columns.part == bindparam("of_part")
)
_CHANGE_USAGE = update(tables.usage).where(
    tables.usage.c.team == bindparam("of_team"), tables.usage.c.hour == bindparam("of_hour")
)
_ADD_ANSWER = insert(tables.idempotency_keys)
_FORGET_ANSWERS = delete(tables.idempotency_keys).where(
    tables.idempotency_keys.c.id.in_(
        select(tables.idempotency_keys.c.id)
        .where(tables.idempotency_keys.c.created_at < bindparam("since"))
        .order_by(tables.idempotency_keys.c.created_at)
        .limit(100)
    )
)
_NOTIFY = text(f"SELECT pg_notify('{CHANNEL}', :message)")
_LOCKED_AUDIT_HEAD = select(tables.audit_head).with_for_update()


@dataclass(frozen=True, slots=True)
class Change(Generic[_Noun]):
    """``before`` is what the tables say; None where they say nothing."""

    before: _Noun | None
    after: _Noun


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """A row of the answers to requests that may come again."""

    values: Values
    since: float
    """What is older (s since the Unix epoch) may go."""
    replaces: bool
    """There is a row under its key, which is older."""


@dataclass(slots=True)
class Untold:
    """Changes by key."""

    benches: dict[str, Change[Bench]] = field(default_factory=dict)
    leases: dict[str, Change[Lease]] = field(default_factory=dict)
    """A new lease has its place in the order of arrival already."""
    usage: dict[_UsageKey, Change[float]] = field(default_factory=dict)
    deeds: list[Deed] = field(default_factory=list)
    answers: dict[str, KeptAnswer] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)
    """To the other labds, which get them once they are durable."""

    def __bool__(self) -> bool:
        return bool(self.benches or self.leases or self.usage or self.deeds or self.answers or self.messages)

    def add(self, later: "Untold") -> None:
        """Takes in what changed after this."""
        _merge(self.benches, later.benches)
        _merge(self.leases, later.leases)
        _merge(self.usage, later.usage)
        self.deeds += later.deeds
        self.answers |= later.answers
        self.messages += later.messages

    def tell(self, connection: Connection) -> None:
        """Tells the database. Raises DatabaseCorrupt when the audit log has lost its head."""
        _tell_benches(connection, self.benches.values())
        _tell_leases(connection, self.leases.values())
        _tell_usage(connection, self.usage)
        if self.deeds:
            append_audit(connection, link(lock_audit(connection), self.deeds))
        if self.answers:
            _tell_answers(connection, self.answers.values())
        if self.messages:
            connection.execute(_NOTIFY, [{"message": message} for message in self.messages])


def changed(changes: dict[Any, Change[_Noun]], key: object, before: _Noun | None, after: _Noun) -> None:
    """Notes a change; what the tables say is known from the first one."""
    first = changes.get(key)
    changes[key] = Change(before if first is None else first.before, after)


def lock_audit(connection: Connection) -> Head:
    """The end of the chain, kept from other writers until the transaction ends.

    Raises DatabaseCorrupt when somebody removed it: without it nothing can be put on record, so nothing is done.
    """
    row = connection.execute(_LOCKED_AUDIT_HEAD).first()
    if row is None:
        raise DatabaseCorrupt("the audit log has lost its head (table audit_head): restore a backup")
    return Head(row.seq, row.hash)


def _merge(changes: dict[Any, Change[_Noun]], later: Mapping[Any, Change[_Noun]]) -> None:
    for key, change in later.items():
        changed(changes, key, change.before, change.after)


def _tell_benches(connection: Connection, changes: Iterable[Change[Bench]]) -> None:
    new = [bench_values(change.after) for change in changes if change.before is None]
    if new:
        connection.execute(_ADD_BENCH, new)
    known = [(change.before, change.after) for change in changes if change.before is not None]
    _update(connection, _CHANGE_BENCH, known, bench_values, lambda bench: {"of_name": bench.name})


def _tell_leases(connection: Connection, changes: Iterable[Change[Lease]]) -> None:
    new = [lease_values(change.after) for change in changes if change.before is None]
    if new:
        connection.execute(_ADD_LEASE, new)
    known = [(change.before, change.after) for change in changes if change.before is not None]
    _update(connection, _CHANGE_LEASE, known, lease_values, lambda lease: {"of_id": lease.id})
    # A bench is given back before somebody else has it.
    kept, granted = list[Values](), list[Values]()
    for change in changes:
        former = {} if change.before is None else {one.part: one for one in change.before.benches}
        for one in change.after.benches:
            if one.part not in former:
                granted.append(lease_bench_values(change.after.id, one))
            elif one != former[one.part]:
                place = {"of_lease": change.after.id, "of_part": one.part}
                kept.append({"live": one.live, "epoch": one.epoch, **place})
    if kept:
        connection.execute(_CHANGE_LEASE_BENCH, kept)
    if granted:
        connection.execute(_ADD_LEASE_BENCH, granted)


def _tell_usage(connection: Connection, changes: Mapping[_UsageKey, Change[float]]) -> None:
    new = [
        {"team": team, "hour": hour, "bench_s": change.after}
        for (team, hour), change in changes.items()
        if change.before is None
    ]
    known = [
        {"bench_s": change.after, "of_team": team, "of_hour": hour}
        for (team, hour), change in changes.items()
        if change.before is not None
    ]
    if known:
        connection.execute(_CHANGE_USAGE, known)
    if new:
        connection.execute(_ADD_USAGE, new)
        last = max(hour for _, hour in changes)
        connection.execute(delete(tables.usage).where(tables.usage.c.hour < last - USAGE_KEPT_H))


def _tell_answers(connection: Connection, answers: Collection[KeptAnswer]) -> None:
    """Each one kept makes room for many, so that the table holds what is young enough and little more."""
    replaced = [answer.values["id"] for answer in answers if answer.replaces]
    if replaced:
        connection.execute(delete(tables.idempotency_keys).where(tables.idempotency_keys.c.id.in_(replaced)))
    connection.execute(_FORGET_ANSWERS, {"since": min(answer.since for answer in answers)})
    connection.execute(_ADD_ANSWER, [answer.values for answer in answers])


def _update(
    connection: Connection,
    statement: Update,
    changes: Iterable[tuple[_Noun, _Noun]],
    values_of: Callable[[_Noun], Values],
    key_of: Callable[[_Noun], Values],
) -> None:
    """Stores of each noun what has changed; nouns of which the same has changed share a statement."""
    rows: dict[tuple[str, ...], list[Values]] = defaultdict(list)
    for before, after in changes:
        known = values_of(before)
        differing = {name: value for name, value in values_of(after).items() if value != known[name]}
        if differing:
            rows[tuple(differing)].append(differing | key_of(after))
    for several in rows.values():
        connection.execute(statement, several)


def append_audit(connection: Connection, entries: list[Entry]) -> None:
    """Appends entries that follow the end of the chain, which the caller has locked."""
    connection.execute(_ADD_AUDIT, [_audit_values(entry) for entry in entries])
    last = entries[-1]
    connection.execute(_MOVE_AUDIT_HEAD, {"last_seq": last.seq, "last_hash": last.hash})


def _audit_values(entry: Entry) -> Values:
    deed = entry.deed
    return {
        "seq": entry.seq,
        "time": deed.time,
        "actor": deed.actor,
        "kind": deed.kind,
        "team": deed.team,
        "action": deed.action,
        "subject": deed.subject,
        "before": None if deed.before is None else canonical(deed.before),
        "after": None if deed.after is None else canonical(deed.after),
        "why": deed.why,
        "previous": entry.previous,
        "hash": entry.hash,
    }
