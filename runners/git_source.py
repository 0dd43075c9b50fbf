"""``python -m runners.git_source``: fetches the scenario of a run from a Git repository, before the runner starts.

Only what the revision holds is taken, with its history cut off: no submodules, no large files kept elsewhere (LFS),
no hooks, and no setting of the repository's or of the machine's. Nobody is asked for a password; where credentials are
given, git-credential-store looks up the line of the very host that asks for them.
"""

import argparse
import contextlib
import json
import os
import re
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from runners.termination import write_termination_message

WITHIN_S = 120.0
"""How long all of it may take."""
BYTES_MAX = 256 * 1024 * 1024
"""Of what is fetched, and of the files in it."""
FILES_MAX = 50_000
PROTOCOLS = ("https", "http")
TREE = "tree"
"""Folder with the files of the revision, in the one that is given."""
RECORD = "source.json"
"""File beside it: a `Source` as JSON."""
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_REVISION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._/+@#=-]{0,199}")
_OUTPUT_BYTES = 16 * 1024 * 1024
"""Of git's output that is read."""
_SHOWN_BYTES = 1500
"""Of what git complains that goes into an error."""
_PASSED_ON = ("PATH", "GIT_SSL_CAINFO", "http_proxy", "https_proxy", "no_proxy", "HTTPS_PROXY", "NO_PROXY")
_SETTINGS = {
    "core.hooksPath": os.devnull,
    "core.fsmonitor": "false",
    "credential.helper": "",
    "fetch.unpackLimit": "1",  # one pack, which a file's bound holds
    "fetch.recurseSubmodules": "false",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "protocol.version": "2",
    "advice.detachedHead": "false",
    "init.defaultBranch": "none",
}
_NEEDS_PASSWORD = ("could not read Username", "could not read Password", "Authentication failed", "terminal prompts")
_UNREACHABLE = ("Could not resolve host", "Failed to connect", "Couldn't connect", "Connection refused", "timed out")
_NO_REPOSITORY = ("not found", "does not appear to be a git repository", "The requested URL returned error: 404")
_NO_OBJECT = ("not our ref", "couldn't find remote ref", "no such remote ref", "unadvertised object")


class SourceError(Exception):
    """The scenario cannot be had; the message says why, and what would help."""


@dataclass(frozen=True, slots=True)
class Source:
    """What was fetched."""

    url: str
    revision: str
    path: str
    """Of the script, relative to the repository's root."""
    commit: str
    """What the revision was then."""


def fetch(
    url: str,
    revision: str,
    path: str,
    into: Path,
    *,
    within_s: float = WITHIN_S,
    bytes_max: int = BYTES_MAX,
    protocols: tuple[str, ...] = PROTOCOLS,
    credentials: Path | None = None,
) -> Source:
    """Puts the files of ``revision`` (a branch, a tag, a whole commit, or HEAD) into the new folder ``into``.

    Raises SourceError. ``protocols``: of URLs, and of redirections. ``credentials``: a file as git-credential-store(1)
    reads it.
    """
    _check_url(url, protocols)
    if not _REVISION.fullmatch(revision) or ".." in revision:
        raise SourceError(f"revision {revision!r}: expected a branch, a tag or a commit, such as main")
    _check_path(path)
    try:
        into.mkdir(mode=0o700)
        (into / TREE).mkdir()
    except OSError as error:
        raise SourceError(f"the folder {into} cannot be made: {error.strerror}") from error
    if credentials is not None and not credentials.is_file():
        name = f"{credentials.name!r}"
        raise SourceError(
            f"the credentials for {_host(url)} are not there: their Secret, or its key {name}, is missing"
        )
    git = _Git(url, into, time.monotonic() + within_s, within_s, bytes_max, protocols, credentials)
    git.run("init", "--quiet", "--template=")
    git.run("fetch", "--quiet", "--depth=1", "--no-tags", "--end-of-options", url, git.remote_name(revision))
    commit = git.run("rev-parse", "--verify", "--quiet", "FETCH_HEAD^{commit}", or_else=f"{revision!r} is no commit")
    names = git.files(commit)
    git.run("checkout", "--quiet", "--force", "--detach", commit)
    shutil.rmtree(git.folder)
    _check_files(into / TREE, names)
    _check_script(into / TREE, path, names, f"{url} at {revision} (commit {commit[:12]})")
    source = Source(url, revision, path, commit)
    (into / RECORD).write_text(json.dumps(asdict(source)), "utf-8")
    return source


def read_source(folder: Path) -> Source:
    """What `fetch` put there. Raises SourceError."""
    try:
        return Source(**json.loads((folder / RECORD).read_text("utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise SourceError(f"{folder / RECORD} is no record of a fetched repository: {error}") from error


class _Git:
    """The executable, kept from everything that is not its job."""

    def __init__(
        self,
        url: str,
        into: Path,
        deadline: float,
        within_s: float,
        bytes_max: int,
        protocols: tuple[str, ...],
        credentials: Path | None,
    ) -> None:
        self.folder = into / "git"
        self._url = url
        self._into = into
        self._deadline = deadline
        self._within_s = within_s
        self._bytes_max = bytes_max
        settings = [f"{name}={value}" for name, value in _SETTINGS.items()]
        if credentials is not None:
            store = f"git credential-store --file={shlex.quote(str(credentials))}"
            # Looked up only: git would have it keep what is right, and lose what is wrong.
            settings.append(f'credential.helper=!f() {{ if [ "$1" = get ]; then {store} get; fi; }}; f')
        self._command = ["git", *(word for setting in settings for word in ("-c", setting))]
        self._environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ} | {
            "HOME": str(into),
            "LC_ALL": "C",
            "GIT_DIR": str(self.folder),
            "GIT_WORK_TREE": str(into / TREE),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_ATTR_NOSYSTEM": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ALLOW_PROTOCOL": ":".join(protocols),
            "GIT_LFS_SKIP_SMUDGE": "1",
        }

    def run(self, *arguments: str, or_else: str = "") -> str:
        """What it writes, without the last newline. Raises SourceError: ``or_else``, or what git complains of."""
        output, errors = self._into / "output", self._into / "errors"
        with output.open("wb") as out, errors.open("wb") as err:
            try:
                process = subprocess.Popen(  # noqa: S603 - no shell, and options of the user's are ruled out
                    [*self._command, *arguments],
                    env=self._environment,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=err,
                    start_new_session=True,
                )
            except OSError as error:
                raise SourceError(f"git cannot be started: {error}") from error
            with contextlib.suppress(ProcessLookupError):
                resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (self._bytes_max, self._bytes_max))
            try:
                process.wait(max(0.0, self._deadline - time.monotonic()))
            except subprocess.TimeoutExpired as error:
                raise SourceError(self._too_late(arguments[0])) from error
            finally:
                # git's helpers too, whatever has happened: git's number is its own until it has been waited for.
                if process.returncode is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
        if process.returncode:
            raise SourceError(or_else or self._explained(_start(errors)))
        if output.stat().st_size > _OUTPUT_BYTES:
            raise SourceError(f"{self._url} has too many names: more than {_OUTPUT_BYTES} bytes of them")
        text = output.read_bytes().decode("utf-8", "surrogateescape").removesuffix("\n")
        output.unlink()
        errors.unlink()
        return text

    def remote_name(self, revision: str) -> str:
        """What the server calls it. Raises SourceError when it knows no such branch or tag, and it is no commit."""
        if revision == "HEAD" or revision.startswith("refs/"):
            return revision
        wanted = [f"refs/heads/{revision}", f"refs/tags/{revision}"]
        known = self._remote_names(*wanted)
        for name in wanted:
            if name in known:
                return name
        if _COMMIT.fullmatch(revision):
            return revision
        names = [name.split("/", 2)[2] for name in self._remote_names("refs/heads/*", "refs/tags/*")]
        near = get_close_matches(revision, names, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        if re.fullmatch(r"[0-9a-f]{7,39}", revision) and not near:
            hint = "; if it is a commit, give all 40 digits of it"
        raise SourceError(f"{self._url} has no revision {revision!r}: no branch and no tag has that name{hint}")

    def _remote_names(self, *patterns: str) -> list[str]:
        lines = self.run("ls-remote", "--refs", "--end-of-options", self._url, *patterns).splitlines()
        return [name for _, _, name in (line.partition("\t") for line in lines) if name]

    def files(self, commit: str) -> list[str]:
        """Their names. Raises SourceError when there is too much of them."""
        entries = self.run("ls-tree", "-r", "-l", "-z", commit).split("\0")
        names, size = [], 0
        for entry in entries:
            facts, _, name = entry.partition("\t")
            if name:
                names.append(name)
                length = facts.split()[3]
                size += int(length) if length.isdecimal() else 0
        if len(names) > FILES_MAX or size > self._bytes_max:
            have = f"{self._url} has {len(names)} files of {size} bytes at that revision"
            raise SourceError(f"{have}; a run takes at most {FILES_MAX} files of {self._bytes_max} bytes together")
        return names

    def _too_late(self, step: str) -> str:
        if step in ("ls-remote", "init"):
            return f"{_host(self._url)} does not answer within {self._within_s:g} s"
        return f"{self._url} could not be fetched within {self._within_s:g} s"

    def _explained(self, complaint: str) -> str:
        def says(*texts: str) -> bool:
            return any(text.lower() in complaint.lower() for text in texts)

        if any(file.stat().st_size >= self._bytes_max for file in self.folder.glob("objects/pack/*")):
            return f"{self._url} is too large: more than {self._bytes_max} bytes came, for one revision alone"
        if says(*_NEEDS_PASSWORD):
            if says("Authentication failed"):
                return f"{self._url} needs a password, and does not take the one that there is for {_host(self._url)}"
            return f"{self._url} needs a password, and there is none for {_host(self._url)}"
        if says(*_UNREACHABLE):
            return f"{_host(self._url)} cannot be reached: {complaint}"
        if says(*_NO_OBJECT):
            return f"{self._url} has no such revision: {complaint}"
        if says(*_NO_REPOSITORY):
            return f"there is no repository at {self._url}: {complaint}"
        return f"{self._url} cannot be fetched: {complaint or 'git does not say why'}"


def _host(url: str) -> str:
    return urlsplit(url).netloc or url


def _check_url(url: str, protocols: tuple[str, ...]) -> None:
    try:
        parts = urlsplit(url)
        complete = parts.hostname or parts.scheme == "file"
        parts.port  # noqa: B018 - raises for one that is no number
    except ValueError as error:
        raise SourceError(f"url {url!r}: {error}") from error
    if parts.scheme not in protocols or not complete or re.search(r"[\s\x00-\x1f]", url):
        example = "https://git.example.com/tests.git"
        raise SourceError(f"url {url!r}: expected one with {' or '.join(protocols)}, such as {example}")
    if "@" in parts.netloc:
        raise SourceError("url: a user or password in it would be seen by everybody who sees the run; leave it out")


def _check_path(path: str) -> None:
    pure = PurePosixPath(path)
    if not path or "\0" in path or pure.name in ("", ".."):
        raise SourceError(f"path {path!r}: expected the script's path in the repository, such as tests/smoke.lua")
    if pure.is_absolute() or ".." in pure.parts:
        raise SourceError(f"path {path!r} leads out of the repository: give it relative to the repository's root")


def _check_files(tree: Path, names: list[str]) -> None:
    """Refuses links that lead out of the repository: what is there belongs to the pod, or to the machine."""
    root = tree.resolve()
    for name in names:
        file = tree / name
        if file.is_symlink() and not file.resolve().is_relative_to(root):
            raise SourceError(f"{name!r} in the repository is a link out of it, to {str(file.readlink())!r}")


def _check_script(tree: Path, path: str, names: list[str], where: str) -> None:
    if (tree / path).is_file():
        return
    if (tree / path).is_dir():
        raise SourceError(f"path {path!r} is a folder in {where}; expected a script in it")
    near = get_close_matches(path, names, 1)
    raise SourceError(f"there is no file {path!r} in {where}" + (f"; did you mean {near[0]!r}?" if near else ""))


def _start(file: Path) -> str:
    with file.open("rb") as opened:
        return " ".join(opened.read(_SHOWN_BYTES).decode("utf-8", "replace").split())


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit code: 0, or 1 with the reason on standard error and as the container's last message."""
    parser = argparse.ArgumentParser("python -m runners.git_source", description=fetch.__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--revision", default="HEAD", help="branch, tag or whole commit")
    parser.add_argument("--path", required=True, help="of the script in the repository")
    parser.add_argument("--into", type=Path, required=True, help="a folder that is made")
    parser.add_argument("--within", type=float, default=WITHIN_S, metavar="S", help="deadline in seconds")
    parser.add_argument("--bytes-max", type=int, default=BYTES_MAX, metavar="N", help="of the repository's revision")
    parser.add_argument("--credentials", type=Path, metavar="FILE", help="as git-credential-store(1) reads it")
    given = parser.parse_args(arguments)
    try:
        source = fetch(
            given.url,
            given.revision,
            given.path,
            given.into,
            within_s=given.within,
            bytes_max=given.bytes_max,
            credentials=given.credentials,
        )
    except SourceError as error:
        write_termination_message(str(error))
        return 1
    sys.stdout.write(f"{source.url} at {source.revision}: commit {source.commit}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
