"""The answers, of a unit of work, that are kept for requests which may come again."""

from dataclasses import dataclass

from sqlalchemy import delete, insert, select
from sqlalchemy.exc import IntegrityError

from labd.store import tables
from labd.store.errors import KeyTaken
from labd.store.units.part import Part

_FORGOTTEN_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """What a request asked for (its hash), and the answer (encrypted)."""

    request: str
    answer: bytes


class Idempotency(Part):
    """The answers, of a unit of work, that are kept for requests which may come again."""

    def kept_answer(self, key_id: str, since: float) -> StoredAnswer | None:
        """The answer that was kept then or later."""
        columns = tables.idempotency_keys.c
        row = self._connection.execute(
            select(columns.request, columns.answer).where(columns.id == key_id, columns.created_at >= since)
        ).first()
        return None if row is None else StoredAnswer(row.request, row.answer)

    def keep_answer(self, key_id: str, stored: StoredAnswer, now: float, since: float) -> None:
        """Keeps an answer, and forgets some that are older than ``since``. Raises KeyTaken.

        Each one kept makes room for many, so that the table holds what is young enough and little more.
        """
        table, columns = tables.idempotency_keys, tables.idempotency_keys.c
        old = select(columns.id).where(columns.created_at < since).order_by(columns.created_at)
        self._connection.execute(delete(table).where(columns.id.in_(old.limit(_FORGOTTEN_AT_ONCE))))
        self._connection.execute(delete(table).where(columns.id == key_id, columns.created_at < since))
        try:
            values = {"id": key_id, "request": stored.request, "answer": stored.answer, "created_at": now}
            self._connection.execute(insert(table), values)
        except IntegrityError as error:
            raise KeyTaken("another request with the same Idempotency-Key was answered meanwhile") from error
