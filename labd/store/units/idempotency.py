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

    _claimed: tuple[str, bool] | None = None
    """The key that is free for the unit, and whether an answer is under it which is too old."""

    def kept_answer(self, key_id: str, since: float) -> StoredAnswer | None:
        """The answer that was kept then or later."""
        columns = tables.idempotency_keys.c
        row = self._aside.execute(
            select(columns.request, columns.answer).where(columns.id == key_id, columns.created_at >= since)
        ).first()
        return None if row is None else StoredAnswer(row.request, row.answer)

    def claim_key(self, key_id: str, since: float) -> None:
        """Raises KeyTaken when an answer was kept then or later; nobody else keeps one until this transaction ends."""
        kept_at = self._aside.scalar(_KEPT_AT, {"key": key_id})
        if kept_at is not None and kept_at >= since:
            raise KeyTaken("a request with the same Idempotency-Key was answered before")
        self._claimed = key_id, kept_at is not None

    def keep_answer(self, key_id: str, stored: StoredAnswer, now: float, since: float) -> None:
        """Keeps an answer, and forgets some that are older than ``since``. Raises KeyTaken."""
        if self._claimed is None or self._claimed[0] != key_id:
            self.claim_key(key_id, since)
        values = {"id": key_id, "request": stored.request, "answer": stored.answer, "created_at": now}
        self._telling.answers[key_id] = KeptAnswer(values, since, replaces=self._claimed == (key_id, True))
