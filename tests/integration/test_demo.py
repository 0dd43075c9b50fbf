"""The demo as a newcomer meets it: it passes, and Ctrl-C at any time leaves nothing behind."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import uuid
from pathlib import Path

import pytest

from deploy.demo.lab import ROOT

DEADLINE_S = 90.0
MARK = "LABD_TEST_MARK"


def start(mark: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "deploy.demo"],
        cwd=ROOT, env={**os.environ, MARK: mark, "COLUMNS": "120"}, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip


def processes_with(mark: str) -> list[str]:
    """Command lines of the processes that inherited the mark, and of runners, which labd gives no environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            marked = f"{MARK}={mark}".encode() in (folder / "environ").read_bytes().split(b"\0")
            if marked or (folder / "cwd").readlink().is_relative_to(ROOT / "build" / "demo"):
                found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue  # it has just ended
    return found


def read_until(process: "subprocess.Popen[str]", text: str) -> None:
    """Reads the output up to the line with ``text``; "" reads nothing."""
    assert process.stdout is not None
    for line in process.stdout if text else ():
        if text in line:
            return
    assert not text, f"the demo never printed {text!r}"


@pytest.mark.parametrize("text", ["", "attached after", "case:", "PASSED"])
def test_ctrl_c_leaves_no_process(text: str) -> None:
    mark = uuid.uuid4().hex
    process = start(mark)
    timer = threading.Timer(DEADLINE_S, process.kill)
    timer.start()
    try:
        read_until(process, text)
        process.send_signal(signal.SIGINT)
        rest = process.communicate(timeout=DEADLINE_S)[0]
    finally:
        timer.cancel()
        process.kill()
        process.wait()
    assert processes_with(mark) == []
    # Python itself is still starting when the very first signal comes; later ones are answered in words.
    assert process.returncode in ((130, -signal.SIGINT, 1) if not text else (130,)), rest
    assert not text or "everything is stopped" in rest


def test_demo_passes_and_leaves_database_and_traces() -> None:
    mark = uuid.uuid4().hex
    process = start(mark)
    try:
        output = process.communicate(timeout=DEADLINE_S)[0]
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, output
    examples = sorted(path.name for path in (ROOT / "scenarios/examples").glob("*.lua"))
    assert len(examples) >= 5
    for name in examples:
        assert re.search(rf"{re.escape(name)} .*PASSED", output), output
    folder = ROOT / "build" / "demo"
    assert (folder / "labd" / "labd.sqlite3").stat().st_size > 0
    assert [trace for trace in (folder / "agent" / "traces").glob("*/powertrain*.blf") if trace.stat().st_size]
    assert json.loads((folder / "agent" / "epochs.json").read_text())
    assert processes_with(mark) == []
