"""A hook of a bench: a script that the agent itself runs, without labd, as ``python -m scenarios hook``.

The assignment comes on standard input, log lines and result go to standard output, one JSON object a line.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from labd.client import LabError
from labd.client.types import Assignment, Lease, Result
from scenarios.runner import HURRIED_DELIVERY_S, Runner


class AgentAsLab:
    """What a runner asks of labd, with the agent in its place."""

    def __init__(self, assignment: Assignment, folder: Path) -> None:
        self._assignment = assignment
        self._folder = folder

    def assignment(self, _run_id: str) -> Assignment:
        """What the agent wants executed."""
        return self._assignment

    def data_file(self, _run_id: str, path: str) -> bytes:
        """A file of the script's folder."""
        try:
            return (self._folder / path).read_bytes()
        except OSError as error:
            raise LabError(error.strerror or str(error)) from error

    def record_commit(self, _run_id: str, _commit: str) -> None:
        """Nothing: hooks are from no repository."""

    def heartbeat(self, _lease_id: str) -> Lease:
        """The agent watches over the hook's right by itself."""
        return cast(Lease, {"state": "GRANTED", "end_reason": None})

    def agent_tls(self, _lease_id: str, _bench: str) -> None:
        """None: hooks come by the unix socket."""

    def append_log(self, _run_id: str, first_seq: int, lines: Sequence[Mapping[str, str]]) -> int:
        """Log lines, for the agent's log and the lease's folder."""
        _say({"log": [dict(line) for line in lines]})
        return first_seq - 1 + len(lines)

    def put_result(self, _run_id: str, document: Result | Mapping[str, Any], _junit: str) -> None:
        """How it went."""
        _say({"result": {"verdict": document["verdict"], "reason": document["reason"]}})


def main(folder: Path) -> int:
    """Executes the hook whose script is in ``folder``. Returns the exit code."""
    assignment = cast(Assignment, json.load(sys.stdin))
    lab = AgentAsLab(assignment, folder)
    runner = Runner(lab, assignment["run_id"], delivery_s=HURRIED_DELIVERY_S, may_test_nothing=True)
    return runner.execute()


def _say(message: Mapping[str, object]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()
