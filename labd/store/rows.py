"""Rows to and from the model's nouns."""

from dataclasses import asdict
from typing import Any

from sqlalchemy import RowMapping

from labd.model.bench import Bench
from labd.model.lease import Lease, LeaseEnd, LeaseState
from labd.model.run import CaseCounts, ExecutorName, LogLevel, LogLine, Run, RunState

Values = dict[str, Any]


def bench_values(bench: Bench) -> Values:
    """The columns of a bench."""
    return asdict(bench)


def bench_of(row: RowMapping) -> Bench:
    """The bench of a row."""
    return Bench(**row)


def lease_values(lease: Lease) -> Values:
    """The columns of a lease, without ``seq``: the database counts arrivals."""
    values = asdict(lease)
    del values["seq"]
    return values


def lease_of(row: RowMapping) -> Lease:
    """The lease of a row."""
    values = dict(row)
    values["state"] = LeaseState(values["state"])
    if values["end_reason"] is not None:
        values["end_reason"] = LeaseEnd(values["end_reason"])
    return Lease(**values)


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
    passed, failed, error = values.pop("passed"), values.pop("failed"), values.pop("error")
    return Run(**values, cases=None if passed is None else CaseCounts(passed, failed, error))


def line_of(row: RowMapping) -> LogLine:
    """The log line of a row."""
    return LogLine(row["seq"], row["time"], LogLevel(row["level"]), row["text"])
