"""The environments and secrets of a unit of work. Secrets come and go sealed."""

from collections.abc import Mapping

from sqlalchemy import delete, insert, select, update

from labd.model.environment import Environment, SecretInfo
from labd.store import tables
from labd.store.units.part import Part


class Environments(Part):
    """The environments and secrets of a unit of work."""

    def secrets(self) -> list[SecretInfo]:
        """What there is, by team and name."""
        columns = tables.secrets.c
        rows = self._connection.execute(
            select(columns.team, columns.name, columns.updated_at, columns.updated_by).order_by(
                columns.team, columns.name
            )
        )
        return [SecretInfo(**row) for row in rows.mappings()]

    def sealed_secret(self, team: str, name: str) -> bytes | None:
        """A secret as it is stored."""
        columns = tables.secrets.c
        sealed: bytes | None = self._connection.scalar(
            select(columns.sealed).where(columns.team == team, columns.name == name)
        )
        return sealed

    def save_secret(self, info: SecretInfo, sealed: bytes) -> None:
        """Adds a secret, or gives it another value."""
        self.remove_secret(info.team, info.name)
        self._connection.execute(
            insert(tables.secrets).values(
                team=info.team,
                name=info.name,
                sealed=sealed,
                updated_at=info.updated_at,
                updated_by=info.updated_by,
            )
        )

    def remove_secret(self, team: str, name: str) -> bool:
        """Whether there was one."""
        columns = tables.secrets.c
        done = self._connection.execute(delete(tables.secrets).where(columns.team == team, columns.name == name))
        return done.rowcount > 0

    def environments(self) -> list[Environment]:
        """All of them, by team and name."""
        columns = tables.environments.c
        rows = self._connection.execute(select(tables.environments).order_by(columns.team, columns.name))
        return [Environment(**row) for row in rows.mappings()]

    def environment(self, team: str, name: str) -> Environment | None:
        """One of them."""
        columns = tables.environments.c
        row = (
            self._connection.execute(select(tables.environments).where(columns.team == team, columns.name == name))
            .mappings()
            .first()
        )
        return None if row is None else Environment(**row)

    def save_environment(self, environment: Environment) -> None:
        """Adds it, or replaces the one of its name."""
        self.remove_environment(environment.team, environment.name)
        self._connection.execute(
            insert(tables.environments).values(
                team=environment.team,
                name=environment.name,
                variables=environment.variables,
                secrets=environment.secrets,
            )
        )

    def remove_environment(self, team: str, name: str) -> bool:
        """Whether there was one."""
        columns = tables.environments.c
        done = self._connection.execute(delete(tables.environments).where(columns.team == team, columns.name == name))
        return done.rowcount > 0

    def add_run_environment(self, run_id: str, team: str, name: str) -> None:
        """The run will be given this environment."""
        self._connection.execute(
            insert(tables.run_environments).values(run_id=run_id, team=team, name=name, sealed=None)
        )

    def run_environment(self, run_id: str) -> tuple[str, str, bytes | None] | None:
        """Team, name and, once it was given, the sealed content of a run's environment."""
        columns = tables.run_environments.c
        row = self._connection.execute(
            select(columns.team, columns.name, columns.sealed).where(columns.run_id == run_id)
        ).first()
        return None if row is None else (row.team, row.name, row.sealed)

    def seal_run_environment(self, run_id: str, sealed: bytes | None) -> None:
        """What the run was given; None: it is forgotten."""
        columns = tables.run_environments.c
        self._connection.execute(update(tables.run_environments).where(columns.run_id == run_id).values(sealed=sealed))

    def given_environments(self) -> Mapping[str, bytes]:
        """What runs were given, sealed, by run."""
        columns = tables.run_environments.c
        rows = self._connection.execute(select(columns.run_id, columns.sealed).where(columns.sealed.is_not(None)))
        return {row.run_id: row.sealed for row in rows}

    def forget_environments(self, ended_before: float) -> int:
        """Forgets what runs were given that were over at that time; returns how many."""
        over = select(tables.runs.c.id).where(tables.runs.c.ended_at < ended_before)
        columns = tables.run_environments.c
        done = self._connection.execute(
            update(tables.run_environments)
            .where(columns.sealed.is_not(None), columns.run_id.in_(over))
            .values(sealed=None)
        )
        return done.rowcount
