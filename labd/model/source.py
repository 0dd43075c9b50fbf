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


def too_long_for_a_pod(script: str) -> str:
    """Why a pod cannot get the script by a ConfigMap; empty when it can."""
    size = len(script.encode("utf-8"))
    if size <= POD_SCRIPT_BYTES_MAX:
        return ""
    most = f"the script has {size} bytes, and a pod gets at most {POD_SCRIPT_BYTES_MAX}"
    return f"{most}: put parts of it into files beside it, or take it from a Git repository"
