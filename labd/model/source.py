"""Where the scenario of a run comes from, other than from labd itself."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import urlsplit

POD_SCRIPT_BYTES_MAX = 256 * 1024
"""Longest script, in UTF-8, that a pod gets by a ConfigMap."""
PROTOCOLS = ("https", "http")
"""Of the URLs of repositories."""
_REVISION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._/+@#=-]{0,199}")
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class GitSource:
    """A script in a Git repository."""

    url: str
    path: str
    """Of the script, relative to the repository's root."""
    revision: str
    """Branch, tag or whole commit."""

    @property
    def name(self) -> str:
        """Of the script's file."""
        return PurePosixPath(self.path).name

    def faults(self) -> Iterator[tuple[str, str, str]]:
        """What is wrong with it: field, value, and what would be right."""
        if (fault := _fault_of_url(self.url)) is not None:
            yield "url", self.url, fault
        if (fault := _fault_of_path(self.path)) is not None:
            yield "path", self.path, fault
        if not _REVISION.fullmatch(self.revision) or ".." in self.revision:
            yield "revision", self.revision, "expected a branch, a tag or a whole commit, such as main"


def is_commit(text: str) -> bool:
    """Whether it is the whole hexadecimal name of a Git commit, by SHA-1 or SHA-256."""
    return _COMMIT.fullmatch(text) is not None


def _fault_of_url(url: str) -> str | None:
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - raises for one that is no number
    except ValueError as error:
        return str(error)
    if parts.scheme not in PROTOCOLS or not parts.hostname or re.search(r"[\s\x00-\x1f]", url):
        return f"expected one with {' or '.join(PROTOCOLS)}, such as https://git.example.com/tests.git"
    if "@" in parts.netloc:
        return "a user or password in it would be seen by everybody who sees the run: leave it out"
    return None


def _fault_of_path(path: str) -> str | None:
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts:
        return "it leads out of the repository: give it relative to the repository's root"
    if not pure.name or re.search(r"[\x00-\x1f]", path):
        return "expected the script's path in the repository, such as tests/smoke.lua"
    return None


def too_long_for_a_pod(script: str) -> str:
    """Why a pod cannot get the script by a ConfigMap; empty when it can."""
    size = len(script.encode("utf-8"))
    if size <= POD_SCRIPT_BYTES_MAX:
        return ""
    most = f"the script has {size} bytes, and a pod gets at most {POD_SCRIPT_BYTES_MAX}"
    return f"{most}: put parts of it into files beside it, or take it from a Git repository"
