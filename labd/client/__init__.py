"""The Python SDK of labd's REST API: leases of benches, runs of scenarios, their logs and results.

```python
from labd.client import LabClient

with LabClient("http://127.0.0.1:8470") as lab:
    for bench in lab.benches("platform=meb"):
        print(bench["name"], bench["state"])
```

Importing it costs next to nothing: HTTP (urllib3) is imported with the first `LabClient` that is made, and what
`AsyncLabClient` needs (httpx2) when it is asked for.
"""

from typing import TYPE_CHECKING, Any

from labd.client.audit import AuditQuery
from labd.client.errors import LabError, LabUnreachable, ProblemError, UnexpectedAnswer
from labd.client.heartbeats import Heartbeats, end_text
from labd.client.held import NotHeld, default_holder, held_bench, held_lease, part_of
from labd.client.lab import DEFAULT_URL, LabClient
from labd.client.notices import Notices, RevokeNotice, notice_of
from labd.client.types import (
    HELD,
    OVER,
    Adapter,
    Agent,
    AssignedBench,
    Assignment,
    AuditEntry,
    AuditVerdict,
    Authority,
    Bench,
    Bus,
    Calendar,
    CalendarEntry,
    CaseCounts,
    CaseResult,
    Cause,
    Check,
    Console,
    Did,
    Doctor,
    Ecu,
    Environment,
    Equipment,
    ExecutorName,
    Failure,
    Figures,
    Frame,
    Invitation,
    Lease,
    LeasedBench,
    LeaseShare,
    LeaseWhy,
    Limits,
    LogLine,
    Policy,
    PowerChannel,
    Problem,
    Result,
    Retention,
    Run,
    Secret,
    Series,
    SharedLease,
    ShareMode,
    Status,
    Step,
    Swept,
    WantedBenches,
)
from labd.client.versions import IfMatch, etag_of

if TYPE_CHECKING:
    from labd.client.asynchronous import AsyncLabClient

__all__ = [
    "DEFAULT_URL",
    "HELD",
    "OVER",
    "Adapter",
    "Agent",
    "AssignedBench",
    "Assignment",
    "AsyncLabClient",
    "AuditEntry",
    "AuditQuery",
    "AuditVerdict",
    "Authority",
    "Bench",
    "Bus",
    "Calendar",
    "CalendarEntry",
    "CaseCounts",
    "CaseResult",
    "Cause",
    "Check",
    "Console",
    "Did",
    "Doctor",
    "Ecu",
    "Environment",
    "Equipment",
    "ExecutorName",
    "Failure",
    "Figures",
    "Frame",
    "Heartbeats",
    "IfMatch",
    "Invitation",
    "LabClient",
    "LabError",
    "LabUnreachable",
    "Lease",
    "LeaseShare",
    "LeaseWhy",
    "LeasedBench",
    "Limits",
    "LogLine",
    "NotHeld",
    "Notices",
    "Policy",
    "PowerChannel",
    "Problem",
    "ProblemError",
    "Result",
    "Retention",
    "RevokeNotice",
    "Run",
    "Secret",
    "Series",
    "ShareMode",
    "SharedLease",
    "Status",
    "Step",
    "Swept",
    "UnexpectedAnswer",
    "WantedBenches",
    "default_holder",
    "end_text",
    "etag_of",
    "held_bench",
    "held_lease",
    "notice_of",
    "part_of",
]


def __getattr__(name: str) -> Any:
    if name == "AsyncLabClient":
        from labd.client.asynchronous import AsyncLabClient

        return AsyncLabClient
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
