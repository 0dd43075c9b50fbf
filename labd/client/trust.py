"""Which labd is which: authorities that `labctl login --fingerprint` has found to be the right ones.

One file for each URL, in ``labd/authorities`` under XDG_CONFIG_HOME (``~/.config``).
"""

from hashlib import sha256
from pathlib import Path

from labd.client.credentials import credentials_path
from labd.client.errors import LabError


def trusted(url: str) -> Path | None:
    """The file of the authority (PEM) that the labd at ``url`` is known by; None when it is not known."""
    path = _path(url)
    return path if path.exists() else None


def trust(url: str, fingerprint: str) -> None:
    """Knows the labd at ``url`` by the authority with this fingerprint (SHA-256, hexadecimal) from now on.

    Raises LabError when that labd does not have it, or cannot be reached.
    """
    from bench_agent.protocol.first_contact import FirstContactError, ask, authority

    try:
        root = authority(url, fingerprint.replace(":", ""))
        ask(url, root, "GET", "/version")
    except FirstContactError as error:
        raise LabError(str(error)) from error
    path = _path(url)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(root, "ascii")
    part.replace(path)


def _path(url: str) -> Path:
    return credentials_path().parent / "authorities" / f"{sha256(url.rstrip('/').encode()).hexdigest()[:32]}.pem"
