"""A hook of a bench: a script that the agent itself runs, without labd, as ``python -m scenarios hook``.

The assignment comes on standard input; log lines and result go to standard output, one JSON object a line.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any, cast

from labd.client.types import Assignment, Lease, Result
from scenarios.runner import HURRIED_DELIVERY_S, Runner


class AgentAsLab:
    """What a runner asks of labd, with the agent in its place."""

    def __init__(self, assignment: Assignment) -> None:
        self._assignment = assignment

    def assignment(self, _run_id: str) -> Assignment:
        """What the agent wants executed."""
        return self._assignment

    def heartbeat(self, _lease_id: str) -> Lease:
        """The agent watches over the hook's right by itself."""
        return cast(Lease, {"state": "GRANTED", "end_reason": None})

    def append_log(self, _run_id: str, first_seq: int, lines: Sequence[Mapping[str, str]]) -> int:
        """Log lines, for the agent's log and the lease's folder."""
        _say({"log": [dict(line) for line in lines]})
        return first_seq - 1 + len(lines)

    def put_result(self, _run_id: str, document: Result | Mapping[str, Any], _junit: str) -> None:
        """How it went."""
        _say({"result": {"verdict": document["verdict"], "reason": document["reason"]}})


def main() -> int:
    """Executes the hook. Returns the exit code."""
    assignment = cast(Assignment, json.load(sys.stdin))
    runner = Runner(AgentAsLab(assignment), assignment["run_id"], delivery_s=HURRIED_DELIVERY_S, may_test_nothing=True)
    return runner.execute()


def _say(message: Mapping[str, object]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()
