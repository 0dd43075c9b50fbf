"""Tests that fail beside others run once more alone, and no failure goes unsaid."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
FAILS_FIRST = """
from pathlib import Path

def test_first():
    mark = Path(__file__).with_name("mark")
    seen = mark.exists()
    mark.touch()
    assert seen, "not yet"

def test_other():
    with Path(__file__).with_name("others").open("a") as file:
        file.write("x")
"""
FAILS = """
import pytest

@pytest.mark.parametrize("number", range({count}))
def test_fails(number):
    raise ValueError("wrong")
"""


def run(path: Path, text: str, *options: str) -> tuple[int, str]:
    (path / "pytest.ini").write_text("[pytest]")
    (path / "test_some.py").write_text(text)
    command = [sys.executable, "-m", "tests.alone", *options]
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        command,
        cwd=path,
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    return done.returncode, done.stdout


def test_what_passes_alone_is_named(tmp_path: Path) -> None:
    code, said = run(tmp_path, FAILS_FIRST, "--numprocesses", "2")
    assert code == 0
    assert "AssertionError: not yet" in said
    assert said.endswith("\n  test_some.py::test_first\n")
    assert "1 failed beside others, all pass alone" in said
    assert (tmp_path / "others").read_text() == "x", "only what failed runs again"


def test_what_fails_alone_fails(tmp_path: Path) -> None:
    code, said = run(tmp_path, FAILS.format(count=1))
    assert code == 1
    assert "1 failed beside others, not all pass alone" in said


def test_many_failures_are_no_accident(tmp_path: Path) -> None:
    code, said = run(tmp_path, FAILS.format(count=6))
    assert code == 1
    assert "once more" not in said


def test_a_file_that_cannot_be_read_fails(tmp_path: Path) -> None:
    code, said = run(tmp_path, "import nothing_like_it")
    assert code != 0
    assert "once more" not in said
