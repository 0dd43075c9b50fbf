import os
import signal
import subprocess
import sys
import threading

STAND_STILL = """
import os, signal, time
from tests.running_time import running_time
began, really_began = running_time(), time.monotonic()
os.kill(os.getpid(), signal.SIGSTOP)
time.sleep(0.3)
print(running_time() - began, time.monotonic() - really_began)
"""


def test_time_in_which_the_process_could_not_run_does_not_count() -> None:
    with subprocess.Popen([sys.executable, "-c", STAND_STILL], stdout=subprocess.PIPE, text=True) as process:
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
        threading.Timer(1.0, process.send_signal, [signal.SIGCONT]).start()
        assert process.stdout is not None
        counted_s, really_s = map(float, process.stdout.read().split())
    assert 0.2 < counted_s <= really_s - 0.9
