"""The init container that fetches a scenario from Git: real repositories, over file:// and over HTTP."""

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from runners.git_source import RECORD, TREE, Source, SourceError, fetch, read_source
from runners.termination import MESSAGE_BYTES_MAX, write_termination_message
from tests.git_server import commit, git, git_server, make_repository

LOCAL = ("file",)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "served" / "tests"
    make_repository(folder, {"tests/smoke.lua": "require('lib')\n", "tests/lib.lua": "return 1\n", "README.md": "hi\n"})
    return folder


@pytest.fixture
def url(repository: Path) -> Iterator[str]:
    with git_server(repository.parent) as server:
        yield f"{server}/tests"


def refusal(url: str, revision: str, path: str, into: Path, within_s: float = 60.0, bytes_max: int = 2**24) -> str:
    protocols = ("file",) if url.startswith("file:") else ("http", "https")
    with pytest.raises(SourceError) as failure:
        fetch(url, revision, path, into, within_s=within_s, bytes_max=bytes_max, protocols=protocols)
    return str(failure.value)


def test_a_branch_a_tag_and_a_commit_are_fetched(url: str, repository: Path, tmp_path: Path) -> None:
    first = git(repository, "rev-parse", "HEAD")
    git(repository, "tag", "--annotate", "v1", "--message", "first")
    second = commit(repository, {"tests/smoke.lua": "-- changed\n"})
    for revision, expected in {"main": second, "HEAD": second, "v1": first, first: first}.items():
        into = tmp_path / f"into-{revision}"
        source = fetch(url, revision, "tests/smoke.lua", into)
        assert source == Source(url, revision, "tests/smoke.lua", expected) == read_source(into)
        text = (into / TREE / "tests/smoke.lua").read_text()
        assert text == ("-- changed\n" if expected == second else "require('lib')\n")
        assert (into / TREE / "tests/lib.lua").read_text() == "return 1\n"
        assert sorted(one.name for one in into.iterdir()) == [RECORD, TREE], "history and settings are gone"


def test_a_branch_goes_before_a_tag_of_the_same_name(repository: Path, tmp_path: Path) -> None:
    git(repository, "tag", "v2")
    git(repository, "checkout", "--quiet", "-b", "v2")
    newest = commit(repository, {"tests/smoke.lua": "-- branch\n"})
    source = fetch(f"file://{repository}", "v2", "tests/smoke.lua", tmp_path / "into", protocols=LOCAL)
    assert source.commit == newest


def test_a_revision_that_does_not_exist(url: str, repository: Path, tmp_path: Path) -> None:
    said = refusal(url, "mian", "tests/smoke.lua", tmp_path / "a")
    assert said == f"{url} has no revision 'mian': no branch and no tag has that name; did you mean 'main'?"
    absent = "0123456789" * 4
    assert refusal(url, absent, "tests/smoke.lua", tmp_path / "b").startswith(f"{url} has no such revision: ")
    assert "give all 40 digits" in refusal(url, "0123456", "tests/smoke.lua", tmp_path / "c")
    for wrong in ("--upload-pack=touch /tmp/x", "a..b", "", "main:refs/heads/x", "a b"):
        assert refusal(url, wrong, "tests/smoke.lua", tmp_path / "d").startswith(f"revision {wrong!r}: expected")


def test_a_repository_that_needs_a_password(repository: Path, tmp_path: Path) -> None:
    with git_server(repository.parent, password="secret") as server:
        said = refusal(f"{server}/tests", "main", "tests/smoke.lua", tmp_path / "into")
        assert said.startswith(f"{server}/tests needs a password")
        host = server.removeprefix("http://")
        said = refusal(f"http://ada:secret@{host}/tests", "main", "tests/smoke.lua", tmp_path / "other")
        assert "password in it would be seen" in said
        assert "secret" not in said


def _credentials(folder: Path, server: str, password: str) -> Path:
    file = folder / "credentials"
    file.write_text(f"https://ada:other@git.example.com\n{server.replace('//', f'//ada:{password}@')}\n")
    file.chmod(0o400)
    return file


def test_a_private_repository_with_the_credentials_of_its_host(repository: Path, tmp_path: Path) -> None:
    with git_server(repository.parent, password="s3cret") as server:
        given = _credentials(tmp_path, server, "s3cret")
        fetch(f"{server}/tests", "main", "tests/smoke.lua", tmp_path / "into", credentials=given)
        everything = b"".join(file.read_bytes() for file in (tmp_path / "into").rglob("*") if file.is_file())
        assert b"s3cret" not in everything
        given.unlink()
        _credentials(tmp_path, server, "wr0ng")
        with pytest.raises(SourceError) as refused:
            fetch(f"{server}/tests", "main", "tests/smoke.lua", tmp_path / "b", credentials=given)
        host = server.removeprefix("http://")
        said = f"{server}/tests needs a password, and does not take the one that there is for {host}"
        assert str(refused.value) == said
        with pytest.raises(SourceError, match=f"the credentials for {host} are not there: their Secret, or its key"):
            fetch(f"{server}/tests", "main", "tests/smoke.lua", tmp_path / "c", credentials=tmp_path / "none")


def test_credentials_are_sent_to_their_own_host_only(repository: Path, tmp_path: Path) -> None:
    heard: list[str | None] = []

    class Nosy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            heard.append(self.headers.get("Authorization"))
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="git"')
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    class Leads(Nosy):
        def do_GET(self) -> None:
            self.send_response(302)
            self.send_header("Location", f"http://127.0.0.1:{nosy.server_address[1]}{self.path}")
            self.end_headers()

    with (
        ThreadingHTTPServer(("127.0.0.1", 0), Nosy) as nosy,
        ThreadingHTTPServer(("127.0.0.1", 0), Leads) as leads,
    ):
        for one in (nosy, leads):
            threading.Thread(target=one.serve_forever, args=(0.05,), daemon=True).start()
        theirs, ours = (f"http://127.0.0.1:{one.server_address[1]}" for one in (nosy, leads))
        given = _credentials(tmp_path, ours, "s3cret")
        for number, url in enumerate((theirs, ours)):
            with pytest.raises(SourceError, match="needs a password"):
                fetch(f"{url}/tests", "main", "x.lua", tmp_path / str(number), credentials=given)
        for one in (nosy, leads):
            one.shutdown()
    assert heard
    assert set(heard) == {None}


def test_a_repository_that_does_not_exist(url: str, tmp_path: Path) -> None:
    said = refusal(url.replace("/tests", "/other"), "main", "tests/smoke.lua", tmp_path / "into")
    assert said.startswith(f"there is no repository at {url.replace('/tests', '/other')}")


@pytest.mark.parametrize("path", ["../secret.lua", "/etc/passwd", "tests/../../x.lua", "tests/..", "", "a\0b"])
def test_a_path_out_of_the_repository(path: str, url: str, tmp_path: Path) -> None:
    said = refusal(url, "main", path, tmp_path / "into")
    assert said.startswith(f"path {path!r}")
    assert not (tmp_path / "into").exists(), "found out before anything is fetched"


def test_a_path_that_does_not_exist(url: str, tmp_path: Path) -> None:
    said = refusal(url, "main", "tests/smok.lua", tmp_path / "a")
    assert said.startswith(f"there is no file 'tests/smok.lua' in {url} at main (commit ")
    assert said.endswith("; did you mean 'tests/smoke.lua'?")
    assert refusal(url, "main", "tests", tmp_path / "b").startswith("path 'tests' is a folder in ")


def test_a_host_that_cannot_be_reached_in_time(repository: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    said = refusal(f"http://127.0.0.1:{port}/tests", "main", "tests/smoke.lua", tmp_path / "a")
    assert said.startswith(f"127.0.0.1:{port} cannot be reached: ")
    assert "cannot be reached" in refusal("http://nowhere.invalid/tests", "main", "tests/smoke.lua", tmp_path / "b")
    with git_server(repository.parent, stall=threading.Event()) as server:
        said = refusal(f"{server}/tests", "main", "tests/smoke.lua", tmp_path / "c", within_s=0.5)
        assert said == f"{server.removeprefix('http://')} does not answer within 0.5 s"


def test_links_may_lead_within_the_repository_only(repository: Path, tmp_path: Path) -> None:
    (repository / "tests/same.lua").symlink_to("lib.lua")
    commit(repository, {})
    fetch(f"file://{repository}", "main", "tests/same.lua", tmp_path / "a", protocols=LOCAL)
    assert (tmp_path / "a" / TREE / "tests/same.lua").read_text() == "return 1\n"
    for number, target in enumerate(("/var/run/secrets/labd/token", "../../../x", "../../git/config")):
        (repository / "tests/out.lua").unlink(missing_ok=True)
        (repository / "tests/out.lua").symlink_to(target)
        commit(repository, {})
        said = refusal(f"file://{repository}", "main", "tests/smoke.lua", tmp_path / f"b{number}")
        assert said == f"'tests/out.lua' in the repository is a link out of it, to {target!r}"


def test_nothing_of_the_repository_is_executed(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner, marker = tmp_path / "inner", tmp_path / "executed"
    make_repository(inner, {"inner.lua": "return 2\n"})
    git(repository, "submodule", "--quiet", "add", f"file://{inner}", "inner")
    large = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    commit(repository, {".gitattributes": "*.bin filter=lfs\n*.lua filter=evil\n", "large.bin": large})
    home = tmp_path / "home"
    hook = home / "hooks" / "post-checkout"
    hook.parent.mkdir(parents=True)
    hook.write_text(f"#!/bin/sh\ntouch {marker}\n")
    hook.chmod(0o755)
    settings = f'[core]\n\thooksPath = {hook.parent}\n[filter "evil"]\n\tsmudge = touch {marker}; cat\n'
    (home / ".gitconfig").write_text(settings)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("GIT_ASKPASS", str(hook))
    monkeypatch.setenv("GIT_EXTERNAL_DIFF", str(hook))
    fetch(f"file://{repository}", "main", "tests/smoke.lua", tmp_path / "into", protocols=LOCAL)
    tree = tmp_path / "into" / TREE
    assert not marker.exists()
    assert list((tree / "inner").iterdir()) == [], "no submodule"
    assert (tree / "large.bin").read_text() == large, "the pointer, as it is in the repository"


def test_what_is_too_large_is_refused(repository: Path, tmp_path: Path) -> None:
    commit(repository, {"zeros.bin": "0" * 3_000_000})
    said = refusal(f"file://{repository}", "main", "tests/smoke.lua", tmp_path / "a", bytes_max=2_000_000)
    assert "a run takes at most" in said, "a small pack, of large files"
    commit(repository, {"zeros.bin": os.urandom(1_500_000).hex()})
    said = refusal(f"file://{repository}", "main", "tests/smoke.lua", tmp_path / "b", bytes_max=1_000_000)
    assert said.startswith(f"file://{repository} is too large: more than 1000000 bytes")


@pytest.mark.parametrize("url", ["ssh://git@host/x", "git@host:x", "file:///etc", "ext::sh -c date", "https://", "x"])
def test_other_ways_to_a_repository_are_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="expected one with https or http"):
        fetch(url, "main", "x.lua", tmp_path / "into")


def test_the_program_says_what_was_fetched_and_what_is_wrong(url: str, repository: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "runners.git_source", "--url", url, "--path", "tests/smoke.lua"]
    done = subprocess.run([*command, "--into", str(tmp_path / "a")], capture_output=True, text=True, check=True)
    head = git(repository, "rev-parse", "HEAD")
    assert done.stdout == f"{url} at HEAD: commit {head}\n"
    assert json.loads((tmp_path / "a" / RECORD).read_text())["commit"] == head
    wrong = [*command, "--into", str(tmp_path / "b"), "--revision", "gone"]
    failed = subprocess.run(wrong, capture_output=True, text=True, check=False)
    assert (failed.returncode, failed.stdout) == (1, "")
    assert failed.stderr == f"{url} has no revision 'gone': no branch and no tag has that name\n"


def test_the_last_message_goes_into_the_file_that_there_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_termination_message("no file", tmp_path / "absent")
    assert not (tmp_path / "absent").exists()
    (tmp_path / "log").touch()
    write_termination_message("ä" * 5000, tmp_path / "log")
    assert (tmp_path / "log").stat().st_size == MESSAGE_BYTES_MAX
    assert capsys.readouterr().err.startswith("no file\n")
