"""Which pods have proved themselves to be an attempt of a run."""

from sqlalchemy import insert, select

from labd.store import tables
from labd.store.units.part import Part


class RunPods(Part):
    """The pods of a unit of work."""

    def pod_uid(self, run_id: str, attempt: int) -> str | None:
        """Of the pod that has proved itself to be this attempt."""
        columns = tables.run_pods.c
        uid: str | None = self._connection.scalar(
            select(columns.uid).where(columns.run_id == run_id, columns.attempt == attempt)
        )
        return uid

    def add_pod(self, run_id: str, attempt: int, uid: str) -> None:
        """Another one of that name will be none of this attempt's."""
        self._connection.execute(insert(tables.run_pods).values(run_id=run_id, attempt=attempt, uid=uid))
