"""The policy of a unit of work."""

from dataclasses import asdict

from sqlalchemy import insert, select, update

from labd.model.policy import Policy, policy_of
from labd.store import tables
from labd.store.units.part import Part

_ONLY = 1


class Policies(Part):
    """The policy as it is stored."""

    def stored_policy(self) -> Policy:
        """The lab's policy; the default one until somebody has set another."""
        document = self._connection.scalar(select(tables.policy.c.document).where(tables.policy.c.id == _ONLY))
        return Policy() if document is None else policy_of(document)

    def store_policy(self, policy: Policy) -> None:
        """Replaces the lab's policy."""
        values = {"document": asdict(policy)}
        done = self._connection.execute(update(tables.policy).where(tables.policy.c.id == _ONLY).values(values))
        if done.rowcount == 0:
            self._connection.execute(insert(tables.policy).values(id=_ONLY, **values))
