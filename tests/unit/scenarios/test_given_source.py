"""What a pod was given to execute: a script in a file, or a Git repository that its init container has fetched."""

from pathlib import Path

import pytest

from runners.git_source import SourceError, fetch, read_source
from scenarios.given_source import with_given_source
from tests.git_server import make_repository
from tests.unit.scenarios.conftest import assignment
from tests.unit.scenarios.test_scenario_pod import Make, pod

__all__ = ["pod"]
FILES = {
    "smoke/main.lua": "local test = require('test')\nlocal lib = require('lib.names')\ntest.equal(lib.name(), 'ada')\n",
    "smoke/lib/names.lua": "return {name = function() return 'ada' end}\n",
    "smoke/data/trip.asc": "date Sat\n",
    "other/far.lua": "return 1\n",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where a repository was fetched to."""
    make_repository(tmp_path / "served", FILES)
    into = tmp_path / "source"
    fetch(f"file://{tmp_path / 'served'}", "main", "smoke/main.lua", into, protocols=("file",))
    return into


def test_a_repository_has_script_modules_and_data(folder: Path, tmp_path: Path) -> None:
    given, repository = with_given_source(assignment("", data_files={}), {"LABD_SOURCE": str(folder)})
    assert given["script"] == FILES["smoke/main.lua"]
    assert given["files"] == {"lib/names.lua": FILES["smoke/lib/names.lua"]}, "what lies beside it, not elsewhere"
    assert given["data_files"] == {"data/trip.asc": 9}
    assert repository is not None
    assert repository.read("data/trip.asc") == b"date Sat\n"
    assert len(repository.commit) == 40


def test_a_pod_executes_what_was_fetched(folder: Path, pod: Make) -> None:
    one = pod("", LABD_SOURCE=str(folder)).start()
    assert one.end() == 0, one.output
    assert one.labd.result["verdict"] == "passed"
    assert one.labd.commits == [read_source(folder).commit]


def test_a_script_in_a_file_is_the_one_that_was_submitted(tmp_path: Path, pod: Make) -> None:
    script = tmp_path / "script.lua"
    script.write_text("require('test').is_true(1)")
    one = pod("require('test').is_true(1)", LABD_SCRIPT=str(script)).start()
    assert one.end() == 0, one.output


def test_a_script_that_was_changed_is_an_error_of_the_run(tmp_path: Path, pod: Make) -> None:
    script = tmp_path / "script.lua"
    script.write_text("-- passes\n")
    one = pod("require('test').fail('no')", LABD_SCRIPT=str(script)).start()
    assert one.end() == 2, one.output
    said = f"{script} is not the script that was submitted: somebody has changed it in the cluster"
    assert one.labd.result["reason"] == said


def test_what_cannot_be_executed_is_named(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = assignment("")
    with pytest.raises(SourceError, match=r"source.json is no record of a fetched repository"):
        with_given_source(run, {"LABD_SOURCE": str(tmp_path)})
    with pytest.raises(SourceError, match=r"x.lua cannot be read"):
        with_given_source(run, {"LABD_SCRIPT": str(tmp_path / "x.lua")})
    monkeypatch.setattr("scenarios.given_source.LUA_BYTES_MAX", 10)
    with pytest.raises(SourceError, match=r"beside smoke/main.lua there are 1 Lua files of 44 bytes; at most"):
        with_given_source(run, {"LABD_SOURCE": str(folder)})
    (folder / "tree" / "smoke" / "main.lua").write_bytes(b"-- \xff\n")
    monkeypatch.undo()
    with pytest.raises(SourceError, match=r"smoke/main.lua is not UTF-8 text: byte 0xFF at offset 3"):
        with_given_source(run, {"LABD_SOURCE": str(folder)})
