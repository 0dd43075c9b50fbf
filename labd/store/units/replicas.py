"""What a transaction on PostgreSQL has to do with the other labds on the database."""

from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import bindparam, delete, insert, select, update

from labd.store import tables
from labd.store.units.part import Part


@dataclass(frozen=True, slots=True)
class Attachment:
    """Where an agent is attached."""

    agent: str
    replica: str
    session: str
    last_seen: float
    power: dict[str, Any] = field(default_factory=dict)
    """As last measured, by bench and channel."""


class Replicas(Part):
    """What a transaction on PostgreSQL has to do with the other labds on the database."""

    def notify(self, messages: list[str]) -> None:
        """Tells the labds that listen, once the transaction is durable. A message has at most 7999 bytes."""
        self._telling.messages += messages

    def leads(self, replica: str, term: int) -> bool:
        """Whether the replica still leads, with this term."""
        columns = tables.lab.c
        row = self._connection.execute(select(columns.term, columns.leader)).one()
        return (row.leader, row.term) == (replica, term)

    def replica_urls(self) -> dict[str, str]:
        """Where the REST API of each replica is reached."""
        columns = tables.replicas.c
        return {row.id: row.url for row in self._connection.execute(select(columns.id, columns.url))}

    def take_stall(self, now: float, stall_s: float) -> bool:
        """Whether the lab stood still, and nobody has made up for that yet: the caller does, in this transaction.

        ``now`` in seconds on the lab's clock. It stood still when no replica lived for ``stall_s``.
        """
        columns = tables.lab.c
        row = self._connection.execute(select(columns.stalls, columns.forgiven, columns.alive_at)).one()
        if row.stalls == row.forgiven and row.alive_at is not None and now - row.alive_at <= stall_s:
            return False
        self._connection.execute(update(tables.lab).values(forgiven=columns.stalls, alive_at=now))
        return True

    def store_attachment(self, attachment: Attachment) -> None:
        """The agent is attached there, and nowhere else."""
        self._connection.execute(delete(tables.attachments).where(tables.attachments.c.agent == attachment.agent))
        self._connection.execute(
            insert(tables.attachments).values(
                agent=attachment.agent,
                replica=attachment.replica,
                session=attachment.session,
                last_seen=attachment.last_seen,
                power=attachment.power,
            )
        )

    def remove_attachment(self, agent: str, session: str) -> None:
        """That session of the agent is over; a newer one stays."""
        columns = tables.attachments.c
        self._connection.execute(delete(tables.attachments).where(columns.agent == agent, columns.session == session))

    def save_seen(self, attachments: list[Attachment]) -> None:
        """What is known of these agents now; those that have attached elsewhere are left out."""
        columns = tables.attachments.c
        statement = (
            update(tables.attachments)
            .where(columns.agent == bindparam("who"), columns.session == bindparam("which"))
            .values(last_seen=bindparam("seen"), power=bindparam("measured"))
        )
        rows = [{"who": a.agent, "which": a.session, "seen": a.last_seen, "measured": a.power} for a in attachments]
        if rows:
            self._connection.execute(statement, rows)

    def stored_attached(self) -> dict[str, tuple[str, str]]:
        """Where agents are attached: the replica, and the session, by agent."""
        columns = tables.attachments.c
        rows = self._connection.execute(select(columns.agent, columns.replica, columns.session))
        return {row.agent: (row.replica, row.session) for row in rows}

    def attachments(self) -> list[Attachment]:
        """Where agents are attached, also to labds that are gone."""
        return [Attachment(**row) for row in self._connection.execute(select(tables.attachments)).mappings()]

    def remove_replicas(self, ids: list[str]) -> None:
        """Takes out replicas that are gone, with their agents."""
        self._connection.execute(delete(tables.replicas).where(tables.replicas.c.id.in_(ids)))
        self._connection.execute(delete(tables.attachments).where(tables.attachments.c.replica.in_(ids)))
