"""Every command and code block of README and docs does what the page says."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from deploy.demo.lab import DEMO_AGENT, Lab, running_lab
from tests.docs.pages import ROOT, Block, blocks, pages

BLOCK_DEADLINE_S = 120.0


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with running_lab(tmp_path_factory.mktemp("lab"), DEMO_AGENT) as running:
        running.wait_for_benches("bench-1", "bench-2")
        yield running


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """A folder in which the repository's files are at hand, but nothing of it can be changed by accident."""
    for entry in ROOT.iterdir():
        if not entry.name.startswith(".") and entry.name != "build":
            (tmp_path / entry.name).symlink_to(entry)
    return tmp_path


@contextmanager
def background(block: Block, desk: Path, environment: dict[str, str]) -> Iterator[None]:
    """The block as a running process; entered once it has printed the block's text."""
    process = subprocess.Popen(
        ["bash", "-euc", "exec " + block.code],
        cwd=desk, env=environment, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    # The timer turns "never prints it" into an end of file.
    timer = threading.Timer(BLOCK_DEADLINE_S, process.kill)
    timer.start()
    printed: list[str] = []
    try:
        for line in process.stdout:
            printed.append(line)
            if block.value in line:
                break
        else:
            pytest.fail(f"{block} ended without printing {block.value!r}:\n{''.join(printed)}")
        timer.cancel()
        drain = threading.Thread(target=process.stdout.read, daemon=True)
        drain.start()
        yield
    finally:
        timer.cancel()
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        process.stdout.close()


def run(block: Block, command: list[str], desk: Path, environment: dict[str, str], expected: int = 0) -> None:
    done = subprocess.run(
        command, cwd=desk, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=BLOCK_DEADLINE_S, check=False,
    )  # fmt: skip
    assert done.returncode == expected, f"{block} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_page(page: Path, desk: Path, request: pytest.FixtureRequest) -> None:
    todo = list(blocks(page))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path}
    # A page that starts its own labd means that one.
    own_labd = any(block.directive == "background" and "labd serve" in block.code for block in todo)
    if not own_labd and any(block.directive in (None, "exit", "background") for block in todo):
        environment["LABD_URL"] = request.getfixturevalue("lab").http
    if "LABD_DATABASE" in page.read_text():
        environment["LABD_DATABASE"] = request.getfixturevalue("postgresql").new_database()
    with ExitStack() as running:
        for block in todo:
            match block.directive, block.language:
                case "file", _:
                    target = desk / block.value
                    assert target.parent.resolve() == desk.resolve(), f"{block}: files go beside each other"
                    target.write_text(block.code)
                case "background", "sh":
                    running.enter_context(background(block, desk, environment))
                case "in CI", "sh":
                    ci = (ROOT / ".ci" / "run").read_text()
                    missing = [line for line in block.code.splitlines() if line not in ci]
                    assert not missing, f"{block}: .ci/run does not run {missing}"
                case "exit", "sh":
                    run(block, ["bash", "-euo", "pipefail", "-c", block.code], desk, environment, int(block.value))
                case None, "sh":
                    run(block, ["bash", "-euo", "pipefail", "-c", block.code], desk, environment)
                case None, "lua":
                    (desk / "block.lua").write_text(block.code)
                    run(
                        block, ["labctl", "run", "block.lua", "--selector", "name=bench-1", "--wait"], desk, environment
                    )
                case None, "python":
                    run(block, [sys.executable, "-c", block.code], desk, environment)
                case _:
                    pytest.fail(f"{block}: {block.directive!r} does not go with {block.language!r}")


def test_every_page_is_reachable() -> None:
    """Sphinx warns of pages outside every toctree; README is the door."""
    assert "docs/index.md" in (ROOT / "README.md").read_text()
