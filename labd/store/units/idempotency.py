"""The answers, of a unit of work, that are kept for requests which may come again."""

from dataclasses import dataclass

from sqlalchemy import bindparam, select

from labd.store import tables
from labd.store.errors import KeyTaken
from labd.store.units.part import Part
from labd.store.untold import KeptAnswer

_KEPT_AT = select(tables.idempotency_keys.c.created_at).where(tables.idempotency_keys.c.id == bindparam("key"))


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
        row = self._aside.execute(
            select(columns.request, columns.answer).where(columns.id == key_id, columns.created_at >= since)
        ).first()
        return None if row is None else StoredAnswer(row.request, row.answer)

    def keep_answer(self, key_id: str, stored: StoredAnswer, now: float, since: float) -> None:
        """Keeps an answer, and forgets some that are older than ``since``. Raises KeyTaken."""
        kept_at = self._aside.scalar(_KEPT_AT, {"key": key_id})
        if kept_at is not None and kept_at >= since:
            raise KeyTaken("another request with the same Idempotency-Key was answered meanwhile")
        values = {"id": key_id, "request": stored.request, "answer": stored.answer, "created_at": now}
        self._telling.answers[key_id] = KeptAnswer(values, since, replaces=kept_at is not None)
