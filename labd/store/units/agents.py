"""The agents of a unit of work."""

from dataclasses import asdict

from sqlalchemy import delete, func, insert, select, update

from labd.model.agent import Agent
from labd.store import tables
from labd.store.units.part import Part


class Agents(Part):
    """The agents of a unit of work."""

    def agents(self) -> list[Agent]:
        """Every agent that was ever invited, by name."""
        rows = self._connection.execute(select(tables.agents).order_by(tables.agents.c.name))
        return [Agent(**row) for row in rows.mappings()]

    def agent(self, name: str) -> Agent | None:
        """One agent. Names that differ in upper and lower case only are the same one's."""
        query = select(tables.agents).where(func.lower(tables.agents.c.name) == name.lower())
        row = self._connection.execute(query).mappings().first()
        return None if row is None else Agent(**row)

    def agent_by_token(self, token_hash: str) -> Agent | None:
        """The agent that a one-time token was made for."""
        query = select(tables.agents).where(tables.agents.c.token_hash == token_hash)
        row = self._connection.execute(query).mappings().first()
        return None if row is None else Agent(**row)

    def save_agent(self, agent: Agent) -> None:
        """Adds the agent or replaces what was known of it."""
        values = asdict(agent)
        done = self._connection.execute(update(tables.agents).where(tables.agents.c.name == agent.name).values(values))
        if done.rowcount == 0:
            self._connection.execute(insert(tables.agents).values(values))

    def use_token(self, token_hash: str) -> bool:
        """Voids a one-time token; False when somebody else has used it meanwhile."""
        done = self._connection.execute(
            update(tables.agents)
            .where(tables.agents.c.token_hash == token_hash)
            .values(token_hash=None, token_expires_at=None)
        )
        return done.rowcount == 1

    def agent_drains(self) -> dict[str, str]:
        """The agents whose benches get no new lease, and why."""
        return {row.agent: row.reason for row in self._connection.execute(select(tables.agent_drains))}

    def save_agent_drain(self, name: str, reason: str | None) -> None:
        """Has an agent's benches get no new lease, or (None) get leases again."""
        self._connection.execute(delete(tables.agent_drains).where(tables.agent_drains.c.agent == name))
        if reason is not None:
            self._connection.execute(insert(tables.agent_drains).values(agent=name, reason=reason))
