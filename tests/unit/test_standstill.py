import re
import subprocess
import sys

COMMAND = """
import os, signal, subprocess, sys, time
from pathlib import Path

child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
child.send_signal(signal.SIGSTOP)
os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOWAIT)
gaps, end = 0, time.monotonic() + 30
while gaps < 3 and (began := time.monotonic()) < end:
    time.sleep(0.01)
    gaps += time.monotonic() - began > 0.1
    state = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[0]
    assert state == "T", "whoever did not stop it lets it go on"
child.kill()
child.wait()
sys.exit(7 if gaps == 3 else "nothing stood still")
"""


def test_a_command_stands_still_and_goes_on_but_not_what_it_stopped_itself() -> None:
    run = [sys.executable, "-m", "tests.standstill", "--seed", "4", "--every", "0.1", "--tell", "--"]
    done = subprocess.run(
        [*run, sys.executable, "-c", COMMAND], check=False, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 7, done.stderr
    assert re.search(r"--seed 4: everything \d+ times \(\d+\.\d s\), one process \d+ times", done.stdout)
    lasted_s = [float(seconds) for seconds in re.findall(r"^\S+ (0\.\d\d) s: \d+ python", done.stderr, re.MULTILINE)]
    assert lasted_s
    assert 0.1 <= min(lasted_s) <= max(lasted_s) <= 0.6
