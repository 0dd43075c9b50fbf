"""Requests and answers. The answers have the shapes of `labd.client.types`; a test keeps the two alike."""

from labd.api.schemas.audit import AuditEntry, AuditVerdict
from labd.api.schemas.benches import (
    Adapter,
    Bench,
    Bus,
    CleanUpStep,
    ClearQuarantine,
    Console,
    Did,
    Ecu,
    Equipment,
    PowerChannel,
)
from labd.api.schemas.common import Request, WantedBenches
from labd.api.schemas.leases import Lease, LeasedBench, LeaseRequest, LeaseSummary
from labd.api.schemas.meta import HealthReport, JsonWebKeySet, Version
from labd.api.schemas.runner import AssignedBench, Assignment, Limits, LogBatch, LogReceipt, NewLogLine, ResultReport
from labd.api.schemas.runs import CaseCounts, CaseResult, Failure, Frame, LogLine, Result, Run, RunRequest, Step

__all__ = [
    "Adapter",
    "AssignedBench",
    "Assignment",
    "AuditEntry",
    "AuditVerdict",
    "Bench",
    "Bus",
    "CaseCounts",
    "CaseResult",
    "CleanUpStep",
    "ClearQuarantine",
    "Console",
    "Did",
    "Ecu",
    "Equipment",
    "Failure",
    "Frame",
    "HealthReport",
    "JsonWebKeySet",
    "Lease",
    "LeaseRequest",
    "LeaseSummary",
    "LeasedBench",
    "Limits",
    "LogBatch",
    "LogLine",
    "LogReceipt",
    "NewLogLine",
    "PowerChannel",
    "Request",
    "Result",
    "ResultReport",
    "Run",
    "RunRequest",
    "Step",
    "Version",
    "WantedBenches",
]
