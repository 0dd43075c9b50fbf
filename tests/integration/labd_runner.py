"""A runner without Lua: does what the words of its script say, one after the other."""

import os
import signal
import sys
import threading
import time

from labd.client import LabClient
from labd.client.types import Result

client = LabClient(os.environ["LABD_URL"], token=os.environ["LABD_RUN_TOKEN"])
assignment = client.assignment(os.environ["LABD_RUN_ID"])
run_id = assignment["run_id"]
now = "2026-11-21T09:30:00.000Z"
seq = 1
for word in assignment["script"].split():
    match word:
        case "log":
            client.append_log(run_id, seq, [{"time": now, "level": "info", "text": f"line {seq}"}])
            seq += 1
        case "sleep":
            threading.Event().wait(600)  # whoever would end it may be killed by the test
        case "until-file":
            while not os.path.exists(assignment["files"]["path"]):  # noqa: PTH110 - a runner starts fast
                time.sleep(0.02)
        case "crash":
            print("about to crash", file=sys.stderr, flush=True)
            os.kill(os.getpid(), signal.SIGSEGV)
        case "pass":
            result: Result = {
                "version": 1,
                "name": assignment["name"],
                "verdict": "passed",
                "reason": "",
                "failure": None,
                "benches": [assignment["benches"][0]["name"]],
                "started_at": now,
                "duration_s": 0.1,
                "cases": [],
                "log_lines": seq - 1,
                "log_lines_dropped": 0,
            }
            while True:
                try:
                    client.put_result(run_id, result, "<testsuites/>")
                    break
                except Exception as error:
                    print(error, file=sys.stderr, flush=True)  # labd is being restarted
                    time.sleep(0.05)
