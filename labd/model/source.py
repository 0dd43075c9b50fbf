"""Where the scenario of a run comes from, other than from labd itself."""

from dataclasses import dataclass

POD_SCRIPT_BYTES_MAX = 256 * 1024
"""Longest script, in UTF-8, that a pod gets by a ConfigMap."""


@dataclass(frozen=True, slots=True)
class GitSource:
    """A script in a Git repository."""

    url: str
    path: str
    """Of the script, relative to the repository's root."""
    revision: str
    """Branch, tag or whole commit."""
