"""A runner without Lua, in the place of a container: it proves which pod it is, works for a moment and says passed."""

import threading
from pathlib import Path

from labd.client import LabClient, LabError, ProblemError
from labd.client.types import Result
from tests.kubernetes.node import Inside

WORKS_S = 0.5
_NOW = "2026-11-22T09:30:00.000Z"


def small_runner(inside: Inside, released: threading.Event | None = None) -> int:
    """As long as labd is away it asks again; what labd refuses for good ends it.

    With ``released`` it works until that is set, and heartbeats its lease meanwhile.
    """
    variables = inside.environment
    url, run_id = variables["LABD_URL"], variables["LABD_RUN_ID"]
    own = Path(variables["LABD_TOKEN_FILE"]).read_text()
    token = ""
    while not inside.asked_to_stop.is_set():
        try:
            if not token:
                with LabClient(url, token=own, in_order=True) as lab:
                    token = lab.runner_token(run_id, int(variables["LABD_ATTEMPT"]))
            with LabClient(url, token=token, in_order=True) as lab:
                assignment = lab.assignment(run_id)
                lab.heartbeat(assignment["lease_id"])
                if released is None:
                    inside.asked_to_stop.wait(WORKS_S)
                while released is not None and not inside.asked_to_stop.is_set():
                    if released.wait(assignment["ttl_s"] / 3):
                        break
                    lab.heartbeat(assignment["lease_id"])
                bench = assignment["benches"][0]["name"]
                lab.put_result(run_id, _passed(assignment["name"], bench), "<testsuites/>")
        except ProblemError as error:
            inside.say(str(error))
            if error.status < 500 and error.status != 429:
                return 2
        except LabError as error:
            inside.say(str(error))
        else:
            return 0
        inside.asked_to_stop.wait(0.1)
    return 143


def _passed(name: str, bench: str) -> Result:
    return {
        "version": 1,
        "name": name,
        "verdict": "passed",
        "reason": "",
        "failure": None,
        "benches": [bench],
        "started_at": _NOW,
        "duration_s": WORKS_S,
        "cases": [],
        "log_lines": 0,
        "log_lines_dropped": 0,
    }
