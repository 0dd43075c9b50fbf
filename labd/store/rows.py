"""Rows to and from the model's nouns."""

from collections.abc import Iterable
from dataclasses import asdict, fields
from typing import Any

from sqlalchemy import RowMapping

from labd.model.bench import Bench
from labd.model.lease import Lease, LeasedBench, LeaseEnd, LeaseState, Wanted
from labd.model.run import Attempt, CaseCounts, Cause, ExecutorName, LogLevel, LogLine, Run, RunState
from labd.model.source import GitSource

Values = dict[str, Any]


def bench_values(bench: Bench) -> Values:
    """The columns of a bench."""
    return {field.name: getattr(bench, field.name) for field in fields(bench)}


def bench_of(row: RowMapping) -> Bench:
    """The bench of a row."""
    return Bench(**row)


def lease_values(lease: Lease) -> Values:
    """The columns of a lease, without ``seq``: the database counts arrivals. Its benches are rows of their own."""
    values = {field.name: getattr(lease, field.name) for field in fields(lease)}
    del values["seq"], values["benches"]
    return {**values, "wanted": [asdict(one) for one in lease.wanted]}


def lease_bench_values(lease_id: str, bench: LeasedBench) -> Values:
    """The columns of a bench of a lease."""
    return {"lease_id": lease_id, **asdict(bench)}


def leased_bench_of(row: RowMapping) -> LeasedBench:
    """The bench of a lease."""
    return LeasedBench(row["part"], row["selector"], row["bench"], row["epoch"], row["live"])


def lease_of(row: RowMapping, benches: Iterable[LeasedBench]) -> Lease:
    """The lease of a row, and the rows of its benches."""
    values = dict(row)
    values["state"] = LeaseState(values["state"])
    values["wanted"] = tuple(Wanted(**one) for one in values["wanted"])
    values["avoid"], values["reserved"] = tuple(values["avoid"]), tuple(values["reserved"])
    if values["end_reason"] is not None:
        values["end_reason"] = LeaseEnd(values["end_reason"])
    return Lease(**values, benches=tuple(benches))


def run_values(run: Run) -> Values:
    """The columns of a run, without ``seq``."""
    values = asdict(run)
    del values["seq"]
    cases = values.pop("cases") or {"passed": None, "failed": None, "error": None}
    return {**values, **cases}


def run_of(row: RowMapping) -> Run:
    """The run of a row."""
    values = dict(row)
    values["state"] = RunState(values["state"])
    values["executor"] = ExecutorName(values["executor"])
    values["git"] = None if not values["git"] else GitSource(**values["git"])
    values["cause"] = None if values["cause"] is None else Cause(values["cause"])
    passed, failed, error = values.pop("passed"), values.pop("failed"), values.pop("error")
    return Run(**values, cases=None if passed is None else CaseCounts(passed, failed, error))


def attempt_of(row: RowMapping) -> Attempt:
    """The attempt of a row."""
    cause = None if row["cause"] is None else Cause(row["cause"])
    return Attempt(row["number"], row["lease_id"], row["started_at"], row["ended_at"], cause, row["reason"])


def line_of(row: RowMapping) -> LogLine:
    """The log line of a row."""
    return LogLine(row["seq"], row["time"], LogLevel(row["level"]), row["text"])
