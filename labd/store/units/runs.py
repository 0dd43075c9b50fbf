"""The runs of a unit of work, with what they execute, log and report."""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import bindparam, func, insert, literal, select, update

from labd.model.filters import Filter
from labd.model.run import Attempt, ExecutorName, LogLine, Run, RunInput, RunState
from labd.store import tables
from labd.store.rows import attempt_of, line_of, run_of, run_values
from labd.store.units.lists import newest
from labd.store.units.part import Part

_DUE = (
    select(tables.runs)
    .where(tables.runs.c.state == RunState.RUNNING, tables.runs.c.due_at <= bindparam("now"))
    .order_by(tables.runs.c.seq)
)


@dataclass(frozen=True, slots=True)
class StoredResult:
    """What a runner reported at the end, as it was sent."""

    document: str
    """JSON text."""
    junit: str
    """XML text."""


class Runs(Part):
    """The runs of a unit of work, with what they execute, log and report."""

    def add_run(self, run: Run, inputs: RunInput) -> int:
        """Stores a new run with what it executes; returns its place in the order of arrival."""
        statement = insert(tables.runs).values(run_values(run)).returning(tables.runs.c.seq)
        seq = int(self._connection.execute(statement).scalar_one())
        self._connection.execute(
            insert(tables.run_inputs).values(run_id=run.id, script=inputs.script, files=inputs.files)
        )
        return seq

    def save_run(self, run: Run) -> None:
        """Stores the new state of a known run."""
        self._connection.execute(update(tables.runs).where(tables.runs.c.seq == run.seq).values(run_values(run)))

    def run(self, run_id: str) -> Run | None:
        """One run."""
        row = self._aside.execute(select(tables.runs).where(tables.runs.c.id == run_id)).mappings().first()
        return None if row is None else run_of(row)

    def add_attempt(self, run_id: str, attempt: Attempt) -> None:
        """Keeps an attempt of a run that is over, as another follows."""
        self._connection.execute(insert(tables.run_attempts).values(run_id=run_id, **asdict(attempt)))

    def former_attempts(self, run_id: str) -> list[Attempt]:
        """The attempts of a run before the present one, in order."""
        columns = tables.run_attempts.c
        query = select(tables.run_attempts).where(columns.run_id == run_id).order_by(columns.number)
        return [attempt_of(row) for row in self._connection.execute(query).mappings()]

    def runs_in(self, state: RunState) -> list[Run]:
        """All runs of a state, in order of arrival."""
        rows = self._connection.execute(
            select(tables.runs).where(tables.runs.c.state == state).order_by(tables.runs.c.seq)
        )
        return [run_of(row) for row in rows.mappings()]

    def count_open_runs(self) -> dict[tuple[RunState, ExecutorName], int]:
        """How many are not over, by state and executor."""
        columns = tables.runs.c
        query = select(columns.state, columns.executor, func.count()).where(
            columns.state.in_([RunState.PENDING, RunState.RUNNING])
        )
        rows = self._connection.execute(query.group_by(columns.state, columns.executor))
        return {(RunState(state), ExecutorName(executor)): count for state, executor, count in rows}

    def runs_due(self, now: float) -> list[Run]:
        """RUNNING runs whose timeout has passed, in order of arrival."""
        return [run_of(row) for row in self._aside.execute(_DUE, {"now": now}).mappings()]

    def next_run_deadline(self) -> float | None:
        """When the timeout of the next RUNNING run passes."""
        columns = tables.runs.c
        value = self._connection.scalar(select(func.min(columns.due_at)).where(columns.state == RunState.RUNNING))
        return None if value is None else float(value)

    def newest_runs(
        self, where: Filter, limit: int, before: int | None = None, benches: Collection[str] | None = None
    ) -> list[Run]:
        """The last ``limit`` runs that arrived before number ``before``, newest first; on one of ``benches``."""
        query = newest(tables.runs, tables.runs.c.lease_id, where, limit, before, benches)
        return [run_of(row) for row in self._connection.execute(query).mappings()]

    def inputs(self, run_id: str) -> RunInput | None:
        """What a run executes."""
        columns = tables.run_inputs.c
        row = self._connection.execute(select(columns.script, columns.files).where(columns.run_id == run_id)).first()
        return None if row is None else RunInput(row.script, row.files)

    def add_data_file(self, run_id: str, path: str, sha256: str, content: bytes) -> None:
        """Stores a data file of a run; content that is there already is not stored again."""
        known = select(tables.contents.c.sha256).where(tables.contents.c.sha256 == sha256)
        if self._connection.scalar(known) is None:
            self._connection.execute(insert(tables.contents).values(sha256=sha256, size=len(content), content=content))
        self._connection.execute(insert(tables.run_data_files).values(run_id=run_id, path=path, sha256=sha256))

    def copy_data_files(self, run_id: str, to: str) -> None:
        """Gives a run the data files of another."""
        columns = tables.run_data_files.c
        theirs = select(literal(to), columns.path, columns.sha256).where(columns.run_id == run_id)
        self._connection.execute(insert(tables.run_data_files).from_select(["run_id", "path", "sha256"], theirs))

    def data_files(self, run_id: str) -> dict[str, int]:
        """The data files of a run, by path: their sizes in bytes."""
        files = tables.run_data_files.c
        rows = self._connection.execute(
            select(files.path, tables.contents.c.size)
            .join(tables.contents, tables.contents.c.sha256 == files.sha256)
            .where(files.run_id == run_id)
            .order_by(files.path)
        )
        return {row.path: row.size for row in rows}

    def data_file(self, run_id: str, path: str) -> bytes | None:
        """What is in a data file of a run."""
        files = tables.run_data_files.c
        content: bytes | None = self._connection.scalar(
            select(tables.contents.c.content)
            .join(tables.run_data_files, tables.contents.c.sha256 == files.sha256)
            .where(files.run_id == run_id, files.path == path)
        )
        return content

    def add_lines(self, run_id: str, lines: Sequence[LogLine]) -> None:
        """Stores lines that follow the last stored one."""
        if lines:
            self._connection.execute(
                insert(tables.run_log),
                [
                    {"run_id": run_id, "seq": line.seq, "time": line.time, "level": line.level, "text": line.text}
                    for line in lines
                ],
            )

    def replace_line(self, run_id: str, line: LogLine) -> None:
        """Gives a stored line another text."""
        columns = tables.run_log.c
        self._connection.execute(
            update(tables.run_log).where(columns.run_id == run_id, columns.seq == line.seq).values(text=line.text)
        )

    def lines(self, run_id: str, after: int, limit: int) -> list[LogLine]:
        """Up to ``limit`` lines after sequence number ``after``."""
        columns = tables.run_log.c
        rows = self._connection.execute(
            select(columns.seq, columns.time, columns.level, columns.text)
            .where(columns.run_id == run_id, columns.seq > after)
            .order_by(columns.seq)
            .limit(limit)
        )
        return [line_of(row) for row in rows.mappings()]

    def add_result(self, run_id: str, result: StoredResult) -> None:
        """Stores what the runner reported."""
        self._connection.execute(
            insert(tables.run_results).values(run_id=run_id, document=result.document, junit=result.junit)
        )

    def result(self, run_id: str) -> StoredResult | None:
        """What the runner reported."""
        columns = tables.run_results.c
        row = self._connection.execute(select(columns.document, columns.junit).where(columns.run_id == run_id)).first()
        return None if row is None else StoredResult(row.document, row.junit)
